package takeover

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strings"
	"unicode"
)

// Fetchmail translates what fetchmail --configdump prints: its whole configuration, with
// all defaults, as assignments of Python. home is the user's home folder, whose .netrc has
// the passwords that the dump lacks.
func Fetchmail(dump, home string) (*Config, error) {
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
	f := &fetchmail{builder: builder{home: home}, rc: fetchmailOptions(rc), userCounts: map[string]int{}}
	f.translate()
	return &f.Config, nil
}

// fetchmail translates a dump.
type fetchmail struct {
	builder
	rc         fetchmailOptions
	every      int            // the poll interval in seconds; 0 if fetchmail is no daemon
	userCounts map[string]int // the number of users with a name, on all servers
}

// fetchmailAccount translates a user on a server.
type fetchmailAccount struct {
	*draft
	parent       *fetchmail
	server, user fetchmailOptions
}

func (f *fetchmail) translate() {
	f.defaults()
	servers := f.rc.sections("servers")
	for _, server := range servers {
		for _, user := range server.sections("users") {
			f.userCounts[user.text("remote")]++
		}
	}
	for _, server := range servers {
		for _, user := range server.sections("users") {
			f.account(server, user)
		}
	}
}

// The bounds that mailhaul sets to every, in seconds.
const minEvery, maxEvery = 10, 30 * 24 * 3600

// defaults translates the global options.
func (f *fetchmail) defaults() {
	if f.every = f.rc.number("poll_interval"); f.every > 0 {
		if f.every < minEvery {
			f.remark("", "set daemon %d: every is %ds at least", f.every, minEvery)
		}
		f.every = min(max(f.every, minEvery), maxEvery)
		f.Defaults = append(f.Defaults, Key{"every", formatSeconds(f.every)})
	}
	if f.rc.flag("invisible") {
		f.Defaults = append(f.Defaults, Key{"received_header", false})
	}
	if f.rc.text("logfile") != "" || f.rc.flag("syslog") {
		f.remark("", "logfile, syslog: mailhaul writes to standard error, which cron mails and the journal keeps")
	}
	f.reportUntranslated("", f.rc)
}

// account translates a user on a server.
func (f *fetchmail) account(server, user fetchmailOptions) {
	host, name := cmp.Or(server.text("via"), server.text("pollname")), user.text("remote")
	protocol := server.text("protocol")
	if !slices.Contains([]string{"POP3", "APOP", "auto"}, protocol) {
		f.remark("", "%s at %s is left out: it is polled by %s, and mailhaul fetches by POP3 alone", quoteText(name), host, quoteText(protocol))
		return
	}
	if f.userCounts[name] > 1 {
		separator := "@"
		if strings.Contains(name, "@") {
			separator = "-"
		}
		name += separator + server.text("pollname")
	}
	a := fetchmailAccount{f.newDraft(name), f, server, user}
	if protocol == "auto" {
		a.remark("protocol auto: taken for POP3, which is all that mailhaul fetches by")
	}
	if !server.flag("active") {
		a.disable("fetchmail skips it: take the # away to poll it")
	}
	a.connection(host)
	a.login()
	a.policy()
	a.deliver()
	f.reportUntranslated(a.Name, server)
	f.reportUntranslated(a.Name, user)
	a.finish()
}

// checkUngarbled reports whether fetchmail has printed values as they are. If not, it
// disables the account.
func (a fetchmailAccount) checkUngarbled(name string, values ...string) bool {
	if !strings.Contains(strings.Join(values, ""), garbled) {
		return true
	}
	a.disable("%s holds what is not ASCII, which fetchmail garbles: write it by hand", name)
	return false
}

// addIfSet is draft.addIfSet for a value that may be garbled.
func (a fetchmailAccount) addIfSet(key, value string) {
	if a.checkUngarbled(key, value) {
		a.draft.addIfSet(key, value)
	}
}

func (a fetchmailAccount) isKPOP() bool { return a.server.text("service") == "kpop" }

// connection translates the server and the way to it.
func (a fetchmailAccount) connection(host string) {
	defaultPort := "110"
	switch {
	case a.isKPOP():
		defaultPort = "1109"
	case a.user.flag("ssl"):
		defaultPort = "995"
	}
	port := cmp.Or(map[string]string{"pop3": "110", "pop3s": "995", "kpop": "1109"}[a.server.text("service")], a.server.text("service"))
	a.addIfSet("server", hostPort(host, port, defaultPort))
	a.Keys = append(a.Keys, a.tunnel("plugin")...)
	a.addIfSet("preconnect", a.user.text("preconnect"))
	a.addIfSet("postpoll", a.user.text("postconnect"))
	if a.isKPOP() {
		a.add("protocol", "kpop")
		return
	}
	sslproto, explicit := a.user["sslproto"].(string)
	switch {
	case a.user.flag("ssl"):
	case explicit && sslproto == "":
		a.add("tls", "none")
		return
	default:
		a.add("tls", "starttls")
		if !explicit {
			a.remark("without ssl and sslproto, fetchmail goes on in the clear if the server has no STARTTLS, and mailhaul does not; if mailhaul check tells so, tls: implicit may do, else tls: none")
		}
	}
	a.trust()
}

// trust translates which TLS versions and certificates are accepted.
func (a fetchmailAccount) trust() {
	proto := strings.ToUpper(a.user.text("sslproto"))
	switch {
	case strings.HasPrefix(proto, "TLS1.3"):
		a.add("tls_min", "1.3")
	case slices.Contains([]string{"SSL3", "SSL3+", "TLS1", "TLS1.1"}, proto):
		a.remark("sslproto %s: mailhaul wants TLS 1.2 or newer; for an old server, see tls_min", proto)
	}
	file, folder := a.user.text("sslcertfile"), a.user.text("sslcertpath")
	if file != "" && folder != "" {
		a.remark("sslcertpath: tls_ca names a file or a folder, and names that of sslcertfile")
	}
	a.addIfSet("tls_ca", escapePath(cmp.Or(file, folder)))
	a.addIfSet("tls_cert", escapePath(a.user.text("sslcert")))
	if a.user.text("sslcert") != "" {
		a.addIfSet("tls_key", escapePath(a.user.text("sslkey")))
	}
	a.addIfSet("tls_name", a.user.text("sslcommonname"))
	if !a.user.flag("sslcertck") {
		a.remark("no sslcertck: mailhaul does verify the certificate; if mailhaul check does not trust it, it prints the line for tls_fingerprint")
	}
	if a.user.text("sslfingerprint") != "" {
		a.remark("sslfingerprint is an MD5: mailhaul check prints the SHA-256 for tls_fingerprint")
	}
}

// tunnel translates the program that connects to the server (plugin) or to a sink
// (plugout). fetchmail splits its command line at blanks and knows no quotes.
func (a fetchmailAccount) tunnel(key string) []Key {
	words := strings.Fields(a.server.text(key))
	if len(words) == 0 || !a.checkUngarbled(key, words...) || !a.checkText(key, words...) {
		return nil
	}
	for i, word := range words {
		words[i] = cmp.Or(map[string]string{"%h": "{host}", "%p": "{port}"}[word], word)
	}
	if strings.Contains(words[0], "/") { // a path
		words[0] = escapePath(words[0])
	}
	return []Key{{"tunnel", words}}
}

// login translates the user, the password and the mechanism.
func (a fetchmailAccount) login() {
	a.addIfSet("user", a.user.text("remote"))
	auth := a.server.text("auth")
	switch {
	case a.isKPOP(), auth == "gssapi", auth == "kerberos_v5", auth == "kerberos":
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
		a.remark("auth %s: mailhaul takes what the server offers and it knows itself; see auth, and token_command", quoteText(auth))
	}
	password := cmp.Or(a.user.text("password"),
		a.netrc(fetchmailNetrc).password(a.user.text("remote"), a.server.text("pollname"), a.server.text("via")))
	file := a.Name + ".password"
	const how = ": write it into the first line of %s, beside the configuration (chmod 600), or see password_command"
	switch {
	case password == "":
		a.remark("the password is neither in the fetchmailrc nor in ~/.netrc"+how, file)
	case strings.Contains(password, garbled) || strings.ContainsFunc(password, unicode.IsControl):
		a.remark("the password holds what fetchmail garbles, such as a letter that is not ASCII"+how, file)
	default:
		a.add("password", password)
		return
	}
	a.add("password_file", file)
}

// policy translates what is fetched, how often, and how long it stays on the server.
func (a fetchmailAccount) policy() {
	if a.user.flag("keep") {
		a.add("keep", "forever")
		a.SeenFile = cmp.Or(a.parent.rc.text("idfile"), "~/.fetchids")
		if a.user.flag("fetchall") {
			a.remark("fetchall with keep: mailhaul fetches each message once only")
		}
	} else {
		a.add("keep", false)
		if a.user.flag("flush") {
			a.remark("flush: mailhaul deletes only what it has delivered itself; what fetchmail left on the server is fetched once more")
		}
	}
	if limit := a.user.number("limit"); limit > 0 {
		a.add("max_size", formatSize(int64(limit)))
		if a.user.flag("limitflush") {
			a.remark("limitflush: what is larger than max_size is not deleted; mailhaul status names it")
		}
	}
	if n := a.user.number("expunge"); n > 0 {
		a.add("max_messages", min(n, 1_000_000))
	}
	if n := a.user.number("fetchlimit"); n > 0 {
		a.remark("fetchlimit %d: a poll takes all that is new, and holds up no other account", n)
	}
	switch n := a.server.number("interval"); {
	case n > 1 && a.parent.every > 0:
		a.add("every", formatSeconds(int(min(int64(n)*int64(a.parent.every), maxEvery))))
	case n > 1:
		a.remark("interval %d: each mailhaul fetch polls it; mailhaul daemon goes by every", n)
	}
	const fetchmailDefault = 300
	if n := a.server.number("timeout"); n > 0 && n != fetchmailDefault {
		a.addTimeout(n)
	}
}

// unsetValues are the defaults of keys besides None, FALSE, 0 and the empty ones.
var unsetValues = map[string]any{"softbounce": true}

// translatedKeys are the keys that the other functions translate, and those that need no
// translation: they are about mail for several people or other protocols, or ask for what
// mailhaul always does.
var translatedKeys = strings.Fields(`
	poll_interval logfile idfile postmaster bouncemail properties invisible showdots syslog servers
	pollname active via protocol service timeout interval envelope envskip qvirtual auth dns uidl aka
	localdomains plugin plugout esmtpname tracepolls badheader users
	remote password localnames fetchall keep flush limitflush rewrite stripcr forcecr pass8bits idle
	mda bsmtp lmtp preconnect postconnect limit warnings fetchlimit fetchsizelimit fastuidl batchlimit
	ssl sslkey sslcert sslproto sslcertck sslcertfile sslcertpath sslcommonname sslfingerprint expunge
	smtphunt fetchdomains smtpaddress smtpname mailboxes`)

// untranslatedHints say what mailhaul does instead, for some keys without a counterpart.
var untranslatedHints = map[string]string{
	"mimedecode":    "the message stays as the server has it",
	"dropstatus":    "the message stays as the server has it",
	"dropdelivered": "the message stays as the server has it",
	"antispam":      "what the sink refuses stays on the server, and mailhaul status names it; see refused",
	"interface":     "see source_ip, or let preconnect fail",
	"principal":     "see kerberos",
}

// reportUntranslated remarks on the keys that are set and have no counterpart.
func (f *fetchmail) reportUntranslated(about string, all fetchmailOptions) {
	var keys []string
	for key, value := range all {
		set := value != nil && value != false && value != 0 && value != "" && value != unsetValues[key]
		if list, ok := value.([]any); ok {
			set = len(list) > 0
		}
		if set && !slices.Contains(translatedKeys, key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		f.remark(about, "%s has no counterpart: %s", quoteText(key), cmp.Or(untranslatedHints[key], "mailhaul goes on without it"))
	}
}

// deliver translates where the mail goes.
func (a fetchmailAccount) deliver() {
	names := a.user.list("localnames")
	single := len(names) == 1 && names[0] != "*"
	switch {
	case !single:
		var all []string
		for _, name := range names {
			all = append(all, quoteText(strings.Join(localNames(name), "=")))
		}
		a.disable("its mail is for several people (%s): say with route who gets what, then take the # away", strings.Join(all, ", "))
		return
	case a.user.text("bsmtp") != "":
		a.disable("bsmtp has no counterpart: choose a sink, name it with deliver, then take the # away")
		return
	}
	to := localNames(names[0])[0]
	mda := a.user.text("mda")
	switch {
	case !a.checkUngarbled("where its mail goes", mda, to, a.user.text("smtpaddress"), a.user.text("smtpname")):
	case mda != "":
		a.addMDA(mda, to)
	default:
		a.deliverToServer(to)
	}
}

// localNames returns the names in an item of localnames or smtphunt: one, or two for one
// person. It returns at least one, which may be empty.
func localNames(item any) []string {
	var names []string
	switch item := item.(type) {
	case string:
		return []string{item}
	case []any:
		for _, name := range item {
			if s, ok := name.(string); ok {
				names = append(names, s)
			}
		}
	}
	if len(names) == 0 {
		return []string{""}
	}
	return names
}

// deliverToServer translates the server that gets the mail by SMTP or LMTP.
func (a fetchmailAccount) deliverToServer(to string) {
	name := path.Base(to)
	hosts := a.user.list("smtphunt")
	host := "localhost"
	if len(hosts) > 0 {
		host = cmp.Or(localNames(hosts[0])[0], host)
	}
	if len(hosts) > 1 {
		a.remark("of smtphost, the first is used, whether it answers or not: %s", quoteText(host))
	}
	kind, domain, place := "smtp", host, host
	if strings.HasPrefix(host, "/") {
		kind, domain, place = "lmtp", "localhost", escapePath(host)
	} else if name, port, ok := strings.Cut(host, "/"); ok {
		port = cmp.Or(map[string]string{"smtp": "25", "lmtp": "24", "submission": "587"}[port], port)
		domain, place = name, net.JoinHostPort(name, port)
	}
	if a.user.flag("lmtp") {
		kind = "lmtp"
	}
	if name := a.user.text("smtpname"); name != "" {
		to = name
	} else if !strings.Contains(to, "@") {
		to += "@" + cmp.Or(a.user.text("smtpaddress"), domain)
	}
	if !a.checkText("where its mail goes", place, to) {
		return
	}
	keys := []Key{{kind, place}, {"to", to}}
	if !strings.HasPrefix(host, "/") {
		keys = append(keys, a.tunnel("plugout")...)
		if ip := net.ParseIP(domain); domain != "localhost" && (ip == nil || !ip.IsLoopback()) {
			a.remark("%s gets the mail by STARTTLS, which fetchmail did without; see tls. For a login there (esmtppassword, which fetchmail does not print), add user and password_file to the sink", quoteText(domain))
		}
	}
	a.add("deliver", a.addSink(name, keys...))
}

// quoteText returns a text for a remark, cut if it is long, and quoted unless it is a
// printable word.
func quoteText(s string) string {
	const maxLength = 60
	if r := []rune(s); len(r) > maxLength {
		s = string(r[:maxLength]) + "…"
	}
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || !unicode.IsPrint(r) }) {
		return fmt.Sprintf("%q", s)
	}
	return s
}
