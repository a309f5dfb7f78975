package takeover

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Fetchmail reads what fetchmail --configdump prints: all that fetchmail knows of its
// configuration, in a program of Python.
func Fetchmail(dump string) (*Config, error) {
	vars, err := parseDump(dump)
	if err != nil {
		if strings.Contains(dump, `\0x`) {
			err = fmt.Errorf("%w; it garbles letters that are not ASCII: take them out of the fetchmailrc", err)
		}
		return nil, err
	}
	rc, ok := vars["fetchmailrc"].(map[string]any)
	if !ok {
		return nil, errors.New("it is not what fetchmail --configdump prints: there is no fetchmailrc in it")
	}
	r := &fetchmailReader{c: &Config{}, rc: options(rc)}
	r.read()
	return r.c, nil
}

// options are what a part of the dump says, by fetchmail's names.
type options map[string]any

// Each returns the value of a key, and its zero if it is of another type, such as None.
func (o options) text(key string) string { s, _ := o[key].(string); return s }
func (o options) number(key string) int  { n, _ := o[key].(int); return n }
func (o options) is(key string) bool     { b, _ := o[key].(bool); return b }
func (o options) list(key string) []any  { l, _ := o[key].([]any); return l }

func (o options) sections(key string) (all []options) {
	for _, item := range o.list(key) {
		if section, ok := item.(map[string]any); ok {
			all = append(all, section)
		}
	}
	return all
}

// fetchmailReader makes a configuration of a dump.
type fetchmailReader struct {
	c     *Config
	rc    options
	every int            // seconds; 0 if fetchmail is no daemon
	names map[string]int // of accounts: how many have it
}

// fetchmailAccount is a user on a server, in the making.
type fetchmailAccount struct {
	*Account
	server, user options
	r            *fetchmailReader
}

func (r *fetchmailReader) read() {
	r.defaults()
	r.names = map[string]int{}
	for _, server := range r.rc.sections("servers") {
		for _, user := range server.sections("users") {
			r.names[nameOf(user.text("remote"))]++
		}
	}
	for _, server := range r.rc.sections("servers") {
		for _, user := range server.sections("users") {
			r.account(server, user)
		}
	}
}

// defaults reads what is said for all.
func (r *fetchmailReader) defaults() {
	const least, most = 10, 30 * 24 * 3600 // of every
	if r.every = r.rc.number("poll_interval"); r.every > 0 {
		if r.every < least {
			r.tell("", fmt.Sprintf("set daemon %d: every is %ds at least", r.every, least))
		}
		r.every = min(max(r.every, least), most)
		r.c.Defaults = append(r.c.Defaults, Key{"every", duration(r.every)})
	}
	if r.rc.is("invisible") {
		r.c.Defaults = append(r.c.Defaults, Key{"received_header", false})
	}
	if r.rc.text("logfile") != "" || r.rc.is("syslog") {
		r.tell("", "logfile, syslog: mailhaul writes to standard error, which cron mails and the journal keeps")
	}
	r.untold("", r.rc)
}

func (r *fetchmailReader) tell(about, text string) {
	r.c.Remarks = append(r.c.Remarks, Remark{about, text})
}

// account reads what is said of a user.
func (r *fetchmailReader) account(server, user options) {
	host := cmp.Or(server.text("via"), server.text("pollname"))
	name := nameOf(user.text("remote"))
	if r.names[name] > 1 {
		joint := "@"
		if strings.Contains(name, "@") {
			joint = "-"
		}
		name = nameOf(name + joint + server.text("pollname"))
	}
	name = unique(name, func(n string) bool {
		return slices.ContainsFunc(r.c.Accounts, func(a Account) bool { return a.Name == n })
	})
	a := fetchmailAccount{&Account{Section: Section{Name: name}}, server, user, r}
	switch protocol := server.text("protocol"); protocol {
	case "POP3", "APOP":
	case "auto":
		a.tell("protocol auto: taken for POP3, which is all that mailhaul fetches by")
	default:
		r.tell("", fmt.Sprintf("%s at %s is left out: it is polled by %s, and mailhaul fetches by POP3 alone", showText(user.text("remote")), host, showText(protocol)))
		return
	}
	if !server.is("active") {
		a.off("fetchmail skips it: take the # away to poll it")
	}
	a.connection(host)
	a.login()
	a.policy()
	a.deliver()
	r.untold(name, server)
	r.untold(name, user)
	r.c.Accounts = append(r.c.Accounts, *a.Account)
}

func (a fetchmailAccount) tell(text string) { a.r.tell(a.Name, text) }

// off has a person see to the account first.
func (a fetchmailAccount) off(text string) {
	a.Off = true
	a.tell(text)
}

func (a fetchmailAccount) add(name string, value any) { a.Keys = append(a.Keys, Key{name, value}) }

// copy takes over a text that means the same here, if there is one.
func (a fetchmailAccount) copy(name string, from options, key string) {
	switch value := from.text(key); {
	case strange(value):
		a.off(key + " holds what is not ASCII, which fetchmail garbles: write it by hand")
		a.add(name, strings.ReplaceAll(printable(value), garbled, "?"))
	case value != "":
		a.add(name, value)
	}
}

// kpop reports whether the account is polled by KPOP.
func (a fetchmailAccount) kpop() bool { return a.server.text("service") == "kpop" }

// connection reads where the server is, and how to reach it.
func (a fetchmailAccount) connection(host string) {
	ssl, proto := a.user.is("ssl"), strings.ToUpper(a.user.text("sslproto"))
	usual := "110"
	if ssl {
		usual = "995"
	}
	port := cmp.Or(map[string]string{"pop3": "110", "pop3s": "995", "kpop": "1109"}[a.server.text("service")], a.server.text("service"))
	address := host
	switch {
	case port != "" && port != usual && !(a.kpop() && port == "1109"):
		address = net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		address = "[" + host + "]"
	}
	a.add("server", address)
	a.plugin("plugin", &a.Section)
	a.copy("preconnect", a.user, "preconnect")
	a.copy("postpoll", a.user, "postconnect")
	if a.kpop() {
		a.add("protocol", "kpop")
		return
	}
	sslproto, said := a.user["sslproto"].(string)
	switch {
	case ssl:
	case said && sslproto == "":
		a.add("tls", "none")
		return // with none, the keys below have no meaning
	default:
		a.add("tls", "starttls")
		if !said {
			a.tell("without ssl and sslproto, fetchmail goes on in the clear if the server has no STARTTLS, and mailhaul does not; if mailhaul check tells so, tls: implicit may do, else tls: none")
		}
	}
	switch {
	case strings.HasPrefix(proto, "TLS1.3"):
		a.add("tls_min", "1.3")
	case slices.Contains([]string{"SSL3", "SSL3+", "TLS1", "TLS1.1"}, proto):
		a.tell("sslproto " + proto + ": mailhaul wants TLS 1.2 or newer; for an old server, see tls_min")
	}
	file, folder := a.user.text("sslcertfile"), a.user.text("sslcertpath")
	if file != "" && folder != "" {
		a.tell("sslcertpath: tls_ca names a file or a folder, and names that of sslcertfile")
	}
	a.path("tls_ca", cmp.Or(file, folder))
	a.path("tls_cert", a.user.text("sslcert"))
	if a.user.text("sslcert") != "" {
		a.path("tls_key", a.user.text("sslkey"))
	}
	a.copy("tls_name", a.user, "sslcommonname")
	if !a.user.is("sslcertck") {
		a.tell("no sslcertck: mailhaul does verify the certificate; if mailhaul check does not trust it, it prints the line for tls_fingerprint")
	}
	if a.user.text("sslfingerprint") != "" {
		a.tell("sslfingerprint is an MD5: mailhaul check prints the SHA-256 for tls_fingerprint")
	}
}

// path takes over the path of a file, in which $ stands for a variable here.
func (a fetchmailAccount) path(name, path string) {
	if path != "" {
		a.copy(name, options{name: strings.ReplaceAll(path, "$", "$$")}, name)
	}
}

// plugin reads the program that is the connection to a server or, as plugout, to a sink.
// fetchmail cuts its command line at blanks, without quotes.
func (a fetchmailAccount) plugin(key string, to *Section) {
	command := a.server.text(key)
	if strange(command) {
		a.off(key + " holds what is not ASCII, which fetchmail garbles: write tunnel by hand")
		return
	}
	words := strings.Fields(command)
	for i, word := range words {
		words[i] = cmp.Or(map[string]string{"%h": "{host}", "%p": "{port}"}[word], word)
	}
	if len(words) > 0 {
		if strings.Contains(words[0], "/") { // it is a path
			words[0] = strings.ReplaceAll(words[0], "$", "$$")
		}
		to.Keys = append(to.Keys, Key{"tunnel", words})
	}
}

// login reads who logs in, and by what.
func (a fetchmailAccount) login() {
	a.copy("user", a.user, "remote")
	auth := a.server.text("auth")
	switch {
	case a.kpop(), auth == "gssapi", auth == "kerberos_v5", auth == "kerberos":
		a.add("kerberos", true)
		return
	case auth == "external" && a.user.text("sslcert") != "":
		a.add("auth", "external")
		return
	case a.server.text("protocol") == "APOP":
		a.add("auth", "apop")
	case auth == "cram-md5":
		a.add("auth", auth)
	case !slices.Contains([]string{"", "any", "password"}, auth):
		a.tell("auth " + showText(auth) + ": mailhaul takes what the server offers and it knows itself; see auth, and token_command")
	}
	password := a.user.text("password")
	file := a.Name + ".password"
	const how = ": write it into the first line of %s, beside the configuration (chmod 600), or see password_command"
	switch {
	case password == "":
		a.tell(fmt.Sprintf("the password is not in the fetchmailrc, but perhaps in ~/.netrc"+how, file))
	case strange(password):
		a.tell(fmt.Sprintf("the password holds what fetchmail garbles, such as a letter that is not ASCII"+how, file))
	default:
		a.add("password", password)
		return
	}
	a.add("password_file", file)
}

// policy reads what is fetched, how often, and what becomes of it on the server.
func (a fetchmailAccount) policy() {
	switch keep := a.user.is("keep"); {
	case keep:
		a.add("keep", "forever")
		a.Seen = cmp.Or(a.r.rc.text("idfile"), "~/.fetchids")
		if a.user.is("fetchall") {
			a.tell("fetchall with keep: mailhaul fetches each message once only")
		}
	default:
		a.add("keep", false)
		if a.user.is("flush") {
			a.tell("flush: mailhaul deletes only what it has delivered itself; what fetchmail left on the server is fetched once more")
		}
	}
	if limit := a.user.number("limit"); limit > 0 {
		a.add("max_size", size(limit))
		if a.user.is("limitflush") {
			a.tell("limitflush: what is larger than max_size is not deleted; mailhaul status names it")
		}
	}
	if n := a.user.number("expunge"); n > 0 {
		a.add("max_messages", min(n, 1_000_000))
	}
	if n := a.user.number("fetchlimit"); n > 0 {
		a.tell(fmt.Sprintf("fetchlimit %d: a poll takes all that is new, and holds up no other account", n))
	}
	const most = 30 * 24 * 3600
	switch n := a.server.number("interval"); {
	case n > 1 && a.r.every > 0:
		a.add("every", duration(int(min(int64(n)*int64(a.r.every), most))))
	case n > 1:
		a.tell(fmt.Sprintf("interval %d: each mailhaul fetch polls it; mailhaul daemon goes by every", n))
	}
	// What fetchmail has if nothing is said is no wish.
	if n := a.server.number("timeout"); n > 0 && n != 300 {
		a.add("timeout", duration(min(n, 3600)))
	}
}

// plain are the values that say nothing, besides None, FALSE, 0 and what is empty.
// Keys without a counterpart that change neither the mail nor the server have any value,
// and so have those that are dealt with elsewhere.
var plain = map[string]any{"softbounce": true}

// known are the keys that are dealt with elsewhere, and those that make no difference
// here: they are about mail for several people, other protocols or what is always so.
var known = strings.Fields(`
	poll_interval logfile idfile postmaster bouncemail properties invisible showdots syslog servers
	pollname active via protocol service timeout interval envelope envskip qvirtual auth dns uidl aka
	localdomains plugin plugout esmtpname tracepolls badheader users
	remote password localnames fetchall keep flush limitflush rewrite stripcr forcecr pass8bits idle
	mda bsmtp lmtp preconnect postconnect limit warnings fetchlimit fetchsizelimit fastuidl batchlimit
	ssl sslkey sslcert sslproto sslcertck sslcertfile sslcertpath sslcommonname sslfingerprint expunge
	smtphunt fetchdomains smtpaddress smtpname mailboxes`)

// whyNot tells what is so instead of what else fetchmail can do.
var whyNot = map[string]string{
	"mimedecode":    "the message stays as the server has it",
	"dropstatus":    "the message stays as the server has it",
	"dropdelivered": "the message stays as the server has it",
	"antispam":      "what the sink refuses stays on the server, and mailhaul status names it; see refused",
	"interface":     "see source_ip, or let preconnect fail",
	"principal":     "see kerberos",
}

// untold tells what has no counterpart.
func (r *fetchmailReader) untold(about string, all options) {
	var keys []string
	for key, value := range all {
		said := value != nil && value != false && value != 0 && value != "" && value != plain[key]
		if list, ok := value.([]any); ok {
			said = len(list) > 0
		}
		if said && !slices.Contains(known, key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		r.tell(about, showText(key)+" has no counterpart: "+cmp.Or(whyNot[key], "mailhaul goes on without it"))
	}
}

// deliver reads where the mail goes.
func (a fetchmailAccount) deliver() {
	names := a.user.list("localnames")
	single := len(names) == 1 && names[0] != "*"
	switch {
	case !single:
		var all []string
		for _, name := range names {
			all = append(all, showText(strings.Join(localName(name), "=")))
		}
		a.off("its mail is for several people (" + strings.Join(all, ", ") + "): say with route who gets what, then take the # away")
		return
	case a.user.text("bsmtp") != "":
		a.off("bsmtp has no counterpart: choose a sink, name it with deliver, then take the # away")
		return
	}
	to := localName(names[0])[0]
	sink := Section{}
	switch mda := a.user.text("mda"); {
	case strange(mda + to + a.user.text("smtpaddress") + a.user.text("smtpname")):
		a.off("where its mail goes holds what is not ASCII, which fetchmail garbles: write a sink, name it with deliver, then take the # away")
		return
	case mda != "":
		var ok bool
		if sink.Keys, ok = mdaSink(mda, to); !ok {
			a.off("in its mda, part of an address could be run as a command: put that into a script of its own, which a sink runs as mda: [SCRIPT, {sender}], name the sink with deliver, then take the # away")
			return
		}
	default:
		a.mailServer(&sink, to)
	}
	a.add("deliver", a.r.sink(sink, path.Base(to)))
}

// localName returns an item of localnames: a name, or two that are one person's.
func localName(item any) []string {
	var names []string
	for _, name := range append(options{"": item}.list(""), item) {
		if s, ok := name.(string); ok {
			names = append(names, s)
		}
	}
	if names == nil {
		names = []string{""}
	}
	return names
}

// mailServer reads the server that the mail goes to.
func (a fetchmailAccount) mailServer(sink *Section, to string) {
	hosts := a.user.list("smtphunt")
	host := "localhost"
	if len(hosts) > 0 {
		host = cmp.Or(localName(hosts[0])[0], host)
	}
	if len(hosts) > 1 {
		a.tell("of smtphost, the first is used, whether it answers or not: " + showText(host))
	}
	kind, domain, place := "smtp", host, host
	if strings.HasPrefix(host, "/") {
		kind, domain, place = "lmtp", "localhost", strings.ReplaceAll(host, "$", "$$")
	} else if name, port, ok := strings.Cut(host, "/"); ok {
		port = cmp.Or(map[string]string{"smtp": "25", "lmtp": "24", "submission": "587"}[port], port)
		domain, place = name, net.JoinHostPort(name, port)
	}
	if a.user.is("lmtp") {
		kind = "lmtp"
	}
	if name := a.user.text("smtpname"); name != "" {
		to = name
	} else if !strings.Contains(to, "@") {
		to += "@" + cmp.Or(a.user.text("smtpaddress"), domain)
	}
	sink.Keys = []Key{{kind, place}, {"to", to}}
	if !strings.HasPrefix(host, "/") {
		a.plugin("plugout", sink)
		if ip := net.ParseIP(domain); domain != "localhost" && (ip == nil || !ip.IsLoopback()) {
			a.tell(showText(domain) + " gets the mail by STARTTLS, which fetchmail did without; see tls. For a login there (esmtppassword, which fetchmail does not print), add user and password_file to the sink")
		}
	}
}

// sink returns the name of a sink with these keys, which is made unless there is one.
func (r *fetchmailReader) sink(s Section, name string) string {
	for _, other := range r.c.Sinks {
		if slices.EqualFunc(s.Keys, other.Keys, func(a, b Key) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) {
			return other.Name
		}
	}
	s.Name = unique(nameOf(name), func(n string) bool {
		return slices.ContainsFunc(r.c.Sinks, func(s Section) bool { return s.Name == n })
	})
	r.c.Sinks = append(r.c.Sinks, s)
	return s.Name
}

// duration writes a number of seconds.
func duration(seconds int) string {
	if seconds%60 == 0 && seconds > 60 {
		return strconv.Itoa(seconds/60) + "m"
	}
	return strconv.Itoa(seconds) + "s"
}

// size writes a number of octets, which is the same in units if it is whole ones.
func size(octets int) any {
	for _, unit := range []struct {
		octets int
		name   string
	}{{1 << 20, "M"}, {1 << 10, "k"}} {
		if octets%unit.octets == 0 {
			return strconv.Itoa(octets/unit.octets) + unit.name
		}
	}
	return octets
}
