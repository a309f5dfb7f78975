package takeover

import (
	"cmp"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Fdm translates the configuration of fdm at path or, if that is empty, at ~/.fdm.conf or
// else /etc/fdm.conf. home is the user's home folder. The error names the file and, for
// what fdm would refuse, the line.
func Fdm(path, home string) (*Config, error) {
	if path == "" {
		path = filepath.Join(home, ".fdm.conf")
		if system := "/etc/fdm.conf"; !exists(path) && exists(system) {
			path = system
		}
	}
	conf, err := parseFdm(path, home)
	if err != nil {
		return nil, err
	}
	f := &fdm{builder: builder{home: home}, conf: conf}
	f.defaults()
	for _, a := range conf.accounts {
		f.account(a)
	}
	return &f.Config, nil
}

// fdm translates an fdm.conf.
type fdm struct {
	builder
	conf *fdmConf
}

// fdmDraft translates an account.
type fdmDraft struct {
	*draft
	parent *fdm
	fdmAccount
	host  string
	keeps bool // its mail stays on the server
}

// fdmKnownSettings are the options that defaults translates, and those that need no
// translation: they ask for what mailhaul always does, or are about what it does not have.
var fdmKnownSettings = strings.Fields(`
	verify-certificates unmatched-mail maximum-size timeout purge-after no-received parallel-accounts proxy
	queue-high queue-low ignore-errors allow-multiple lock-file lock-timeout lock-wait lock-types lock-type
	default-user lookup-order no-create strip-characters`)

// defaults translates the options.
func (f *fdm) defaults() {
	number := func(setting string) int64 { // 0 if it is not set
		n, _ := strconv.ParseInt(f.conf.settings[setting], 10, 64)
		return n
	}
	if n := number("maximum-size"); n > 0 {
		f.Defaults = append(f.Defaults, Key{"max_size", formatSize(n)})
	}
	if n := number("timeout"); n > 0 {
		f.Defaults = append(f.Defaults, Key{"timeout", formatSeconds(int(min(n, maxTimeout)))})
	}
	if n := number("purge-after"); n > 0 {
		f.Defaults = append(f.Defaults, Key{"max_messages", int(min(n, 1_000_000))})
	}
	if _, set := f.conf.settings["no-received"]; !set {
		f.Defaults = append(f.Defaults, Key{"received_header", true})
	}
	if n := number("parallel-accounts"); n > 0 {
		f.remark("", "parallel-accounts: write parallel: %d at the top of the file", n)
	}
	if proxy := f.conf.settings["proxy"]; proxy != "" {
		if m := fdmSOCKS.FindStringSubmatch(proxy); m != nil {
			f.Defaults = append(f.Defaults, Key{"socks5", m[1]})
		} else {
			f.remark("", "proxy: one that is no SOCKS5 proxy, or wants a password, is left out: see tunnel, and socks5")
		}
	}
	f.reportUntranslated()
}

// reportUntranslated remarks on the options that have no counterpart.
func (f *fdm) reportUntranslated() {
	for _, name := range slices.Sorted(maps.Keys(f.conf.settings)) {
		if !slices.Contains(fdmKnownSettings, name) {
			f.remark("", "set %s has no counterpart: mailhaul goes on without it", name)
		}
	}
}

// fdmSOCKS matches a SOCKS5 proxy that wants no password.
var fdmSOCKS = regexp.MustCompile(`^socks5?://([A-Za-z0-9.-]+(?::[0-9]+)?)/?$`)

// account translates an account.
func (f *fdm) account(a fdmAccount) {
	if !a.isPOP3() {
		f.remark("", "account %s is left out: it is of the kind %s, and mailhaul fetches by POP3 alone", quoteText(a.name), a.kind)
		return
	}
	d := &fdmDraft{draft: f.newDraft(a.name), parent: f, fdmAccount: a}
	if d.Name != a.name {
		d.remark("is called %q there", a.name)
	}
	if a.disabled {
		d.disable("fdm skips it: take the # away to poll it")
	}
	if a.otherUsers {
		d.remark("fdm delivers its mail as another user: run mailhaul as that one")
	}
	d.connection()
	d.login()
	d.deliver()
	d.policy()
	d.finish()
}

// has reports whether the account has an option.
func (d *fdmDraft) has(option string) bool {
	_, ok := d.options[option]
	return ok
}

// option returns the value of an option, with its tags replaced.
func (d *fdmDraft) option(name string) string { return d.expand(name, d.options[name]) }

// fdmTag matches a tag, which is replaced when mail is delivered.
var fdmTag = regexp.MustCompile(`%(?:\[[^\]]*\]|:?.|$)`)

// expand replaces the tags in a value that are the same for all mail. If there are others,
// or the value is what a command prints, it disables the account.
func (d *fdmDraft) expand(what, s string) string {
	if strings.HasPrefix(s, fdmCommand) {
		d.disable("%s is what a command prints, and nothing is run here: add it by hand", what)
		return ""
	}
	unknown := false
	s = fdmTag.ReplaceAllStringFunc(s, func(tag string) string {
		switch tag {
		case "%%":
			return "%"
		case "%a", "%[account]":
			return d.fdmAccount.name
		case "%h", "%[home]":
			return d.home
		}
		unknown = true
		return tag
	})
	if unknown {
		d.disable("%s holds a tag, which stands for something else with each mail: write it by hand", what)
		return ""
	}
	return s
}

// connection translates the server and the way to it.
func (d *fdmDraft) connection() {
	if d.has("pipe") {
		d.add("server", "localhost")
		d.add("tls", "none")
		if argv, ok := d.command("pipe", d.option("pipe")); ok {
			d.add("tunnel", argv)
		}
		return
	}
	implicit, defaultPort := d.kind == "pop3s", "110"
	if implicit {
		defaultPort = "995"
	}
	port := d.option("port")
	port = cmp.Or(map[string]string{"pop3": "110", "pop3s": "995"}[port], port)
	d.host = d.option("server")
	d.addIfSet("server", hostPort(d.host, port, defaultPort))
	switch {
	case implicit: // the default
	case d.has("starttls"):
		d.add("tls", "starttls")
	default:
		d.add("tls", "none")
		d.remark("everybody on the way can read the mail, and change it, and the password is seldom hidden. If the server has TLS, take out tls: none, and auth")
		return
	}
	if _, verifies := d.parent.conf.settings["verify-certificates"]; !verifies || d.has("no-verify") {
		d.remark("fdm does not verify the certificate, and mailhaul does; if mailhaul check does not trust it, it prints the line for tls_fingerprint")
	}
	if d.has("insecure") {
		d.remark("insecure: if the server has nothing newer than TLS 1.1, add tls_min: 1.0")
	}
}

// command translates a command line for a shell. If it cannot, it disables the account.
func (d *fdmDraft) command(what, line string) (argv []string, ok bool) {
	if line == "" {
		return nil, false
	}
	if strings.Contains(line, "%F") { // translateShellLine would take it for the sender
		d.disable("%s holds %%F: write it by hand", what)
		return nil, false
	}
	argv, ok = translateShellLine(line)
	return argv, ok && d.checkText(what, argv...)
}

// login translates the user, the password and the mechanism.
func (d *fdmDraft) login() {
	user := d.option("user")
	if !d.has("user") {
		if user = d.netrc(pythonNetrc).findMachine(d.host).login; user == "" {
			d.disable("add user: there is none")
		}
	}
	d.addIfSet("user", user)
	d.addPassword(user)
	if d.kind == "pop3" && !d.has("starttls") && !d.has("no-apop") && !d.has("pipe") {
		d.add("auth", []string{"scram-sha-256", "scram-sha-1", "cram-md5", "apop", "plain", "login", "user"})
	}
	if d.has("no-uidl") {
		d.remark("no-uidl has no counterpart: mailhaul asks for unique-ids, and does without if the server has none")
	}
}

// addPassword adds the password, or the command that prints it.
func (d *fdmDraft) addPassword(user string) {
	if command, ok := strings.CutPrefix(d.options["pass"], fdmCommand); ok && command != "" {
		d.addIfSet("password_command", command)
		return
	}
	password := d.option("pass")
	if !d.has("pass") {
		if password = d.netrcPassword(d.host, user); password == "" {
			d.disable("add a password: there is none, nor in ~/.netrc")
		}
	}
	d.addIfSet("password", password)
}

// netrcPassword returns the password in ~/.netrc, empty if there is none.
func (d *fdmDraft) netrcPassword(host, user string) string {
	return d.netrc(pythonNetrc).password(user, host, netrcDefault)
}

// policy translates what is fetched, and how long it stays on the server.
func (d *fdmDraft) policy() {
	if d.has("keep") || d.keeps {
		d.add("keep", "forever")
		if d.has("new-only") {
			d.SeenFile = d.path("cache", d.options["cache"])
		} else {
			d.remark("without new-only, fdm fetches what stays on the server again each time; here each message is fetched once")
		}
	} else {
		d.add("keep", false)
	}
	if d.has("old-only") {
		d.disable("old-only has no counterpart: each message is fetched once")
	}
}

// path returns a path as our configuration has it. For the user's home folder it has ~.
func (d *fdmDraft) path(what, s string) string {
	for _, home := range []string{"%h/", "%[home]/", "${HOME}/"} {
		if rest, ok := strings.CutPrefix(s, home); ok {
			s = "~/" + rest
		}
	}
	s = escapePath(d.expand(what, s))
	if s != "" && !strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "~") {
		d.remark("%s is in the folder in which fdm was run: write the whole path", s)
	}
	return s
}

// deliver translates where the mail goes.
func (d *fdmDraft) deliver() {
	e := fdmEvaluation{account: d.fdmAccount.name}
	e.evaluate(d.parent.conf.rules)
	if e.sorting > 0 {
		d.remark("rules that look into the mail are left out (%d): a sink with mda, and a program such as maildrop there, sorts", e.sorting)
	}
	var sinks []string
	for _, item := range d.resolve(e.items, 0) {
		if name := d.item(item); name != "" && !slices.Contains(sinks, name) {
			sinks = append(sinks, name)
		}
	}
	if len(sinks) > 0 {
		d.add("deliver", stringOrList(sinks))
	} else if !d.Disabled {
		d.disable("no rule says where all of its mail goes: add a sink, and deliver")
	}
}

// fdmEvaluation evaluates the rules for an account, as far as they do not depend on the
// mail.
type fdmEvaluation struct {
	account string
	items   []fdmItem // what is done with all mail of the account
	matched bool      // a rule holds for all mail
	sorting int       // rules that hold for some mail
}

// The result of a condition. For the result of not, it is subtracted from always.
const (
	never = iota
	sometimes
	always
)

// evaluate evaluates rules, and returns true once no further rule counts.
func (e *fdmEvaluation) evaluate(rules []fdmRule) (done bool) {
	for _, r := range rules {
		switch e.result(r.conditions) {
		case never:
		case sometimes:
			e.sorting++
		case always:
			if r.block != nil {
				if e.evaluate(r.block) {
					return true
				}
				continue
			}
			e.matched = true
			e.items = append(e.items, r.items...)
			if !r.goesOn {
				return true
			}
		}
	}
	return false
}

// result joins conditions from left to right.
func (e *fdmEvaluation) result(conditions []fdmCondition) (result int) {
	for i, c := range conditions {
		one := sometimes
		switch c.kind {
		case "all":
			one = always
		case "matched":
			one = certain(e.matched)
		case "unmatched":
			// What sorting rules would have matched gets to this one here.
			one = certain(!e.matched)
		case "account":
			one = certain(slices.ContainsFunc(c.accounts, func(pattern string) bool {
				ok, err := path.Match(pattern, e.account)
				return ok && err == nil
			}))
		}
		if c.not {
			one = always - one
		}
		switch {
		case i == 0:
			result = one
		case c.and:
			result = min(result, one)
		default:
			result = max(result, one)
		}
	}
	return result
}

// certain returns the result of a condition that is the same for all mail.
func certain(holds bool) int {
	if holds {
		return always
	}
	return never
}

// resolve replaces the names of actions by what they do.
func (d *fdmDraft) resolve(items []fdmItem, depth int) (all []fdmItem) {
	const maxDepth = 5 // as fdm has it
	for _, item := range items {
		if item.kind != "action" {
			all = append(all, item)
			continue
		}
		for _, name := range item.actions {
			if depth >= maxDepth {
				d.disable("its actions call one another: add a sink, and deliver")
				return nil
			}
			all = append(all, d.resolve(d.parent.conf.actions[name], depth+1)...)
		}
	}
	return all
}

// item translates what is done with all mail of the account. It returns the name of the
// sink, if there is one.
func (d *fdmDraft) item(i fdmItem) (sink string) {
	switch i.kind {
	case "maildir", "mbox":
		if _, compress := i.options["compress"]; compress {
			d.disable("an mbox with compress has no counterpart: choose a sink, and name it with deliver")
			return ""
		}
		if p := d.path(i.kind, i.value); p != "" && d.checkText(i.kind, p) {
			return d.addSink(filepath.Base(p), Key{i.kind, p})
		}
	case "pipe":
		if argv, ok := d.command("pipe", d.expand("pipe", i.value)); ok {
			return d.addSink(programName(argv), Key{"mda", argv})
		}
	case "rewrite":
		if argv, ok := d.command("rewrite", d.expand("rewrite", i.value)); ok {
			d.rewrite(argv)
		}
	case "smtp", "lmtp", "imap", "imaps":
		return d.serverSink(i)
	case "keep":
		d.keeps = true
	case "drop":
		d.disable("all its mail is dropped: add a sink, and deliver")
	case "tag": // only rules see it
	default:
		d.remark("%s has no counterpart, and is left out", i.kind)
	}
	return ""
}

// rewrite adds the filter.
func (d *fdmDraft) rewrite(argv []string) {
	if slices.ContainsFunc(d.Keys, func(k Key) bool { return k.Name == "filter" }) {
		d.disable("there is one rewrite too many: write a program that runs all of them, for filter")
		return
	}
	d.add("filter", []Key{{"command", argv}, {"on_failure", "wait"}})
}

// serverSink adds a sink for a server, and returns its name.
func (d *fdmDraft) serverSink(i fdmItem) (name string) {
	host, port := d.itemOption(i, "server"), d.itemOption(i, "port")
	if host == "" {
		return ""
	}
	kind, tls, defaultPort := i.kind, "none", map[string]string{"smtp": "25", "lmtp": "24", "imap": "143", "imaps": "993"}[i.kind]
	if _, starttls := i.options["starttls"]; starttls {
		tls = "starttls"
	}
	if kind == "imaps" {
		kind, tls = "imap", "implicit"
	}
	keys := []Key{{kind, host}}
	if !strings.HasPrefix(host, "/") { // it is no socket
		port = cmp.Or(map[string]string{"smtp": "25", "imap": "143", "imaps": "993", "submission": "587"}[port], port)
		keys = []Key{{kind, hostPort(host, port, defaultPort)}, {"tls", tls}}
		if tls == "none" && host != "localhost" {
			d.remark("everybody on the way to %s can read the mail. If it has TLS, take out tls: none of the sink", host)
		}
	}
	name = host
	if kind == "imap" {
		folder := d.itemOption(i, "folder")
		keys = append(keys, d.imapKeys(i, host, folder)...)
		name = cmp.Or(folder, host)
	} else {
		keys = append(keys, d.smtpKeys(i, host)...)
	}
	for _, k := range keys {
		if s, ok := k.Value.(string); ok && !d.checkText(k.Name, s) {
			return ""
		}
	}
	return d.addSink(name, keys...)
}

// itemOption returns the value of an option of an item, with its tags replaced.
func (d *fdmDraft) itemOption(i fdmItem, name string) string {
	return d.expand(name+" of "+i.kind, i.options[name])
}

// imapKeys returns the keys of the login to an IMAP server, and of the folder.
func (d *fdmDraft) imapKeys(i fdmItem, host, folder string) []Key {
	user := cmp.Or(d.itemOption(i, "user"), d.netrc(pythonNetrc).findMachine(host).login)
	password := cmp.Or(d.itemOption(i, "pass"), d.netrcPassword(host, user))
	if user == "" || password == "" {
		d.disable("the sink %s needs user and a password: there is none, nor in ~/.netrc", host)
	}
	keys := []Key{{"user", user}, {"password", password}}
	if folder != "" && folder != "INBOX" {
		keys = append(keys, Key{"folder", folder})
	}
	return keys
}

// smtpKeys returns the keys of the recipient and the sender.
func (d *fdmDraft) smtpKeys(i fdmItem, host string) []Key {
	to := d.itemOption(i, "to")
	if to == "" {
		d.disable("the sink %s needs the key to: fdm sends to the user who runs it", host)
		to = "me"
	}
	keys := []Key{{"to", to}}
	if from := d.itemOption(i, "from"); from != "" {
		keys = append(keys, Key{"sender", from})
	}
	return keys
}
