package takeover

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/mailhaul/mailhaul/deliver/filter"
	"github.com/mailhaul/mailhaul/deliver/program"
)

// filters translates the filter. With more than one, the account is disabled.
func (a *getmailAccount) filters() {
	var found []*rcSection
	for _, s := range a.rc.sections {
		if strings.HasPrefix(strings.ToLower(s.name), "filter") {
			s.used = true
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(x, y *rcSection) int { return strings.Compare(strings.ToLower(x.name), strings.ToLower(y.name)) })
	seen := false
	for _, s := range found {
		if kind := s.required("type"); kind != "Filter_external" {
			a.remark("section %s has no counterpart, and is left out: a filter here prints the whole message, as Filter_external does, and not what a header is to hold", s.name)
			for _, k := range s.keys {
				k.used = true
			}
			continue
		}
		argv := a.command(s)
		if seen {
			a.disable("section %s is one filter too many: write a program that runs all of them, for filter", s.name)
		}
		options := filter.Options{
			Argv: argv, OnFailure: filter.Wait,
			Keep: a.exitCodes(s, "exitcodes_keep", 0), Drop: a.exitCodes(s, "exitcodes_drop", 99, 100),
		}
		if i := slices.Index(options.Drop, 100); i >= 0 {
			options.Drop = slices.Delete(options.Drop, i, i+1)
			a.remark("section %s: the exit code 100 leaves a message on the server; only 99 drops it, or what drop says", s.name)
		}
		keys := []Key{{"command", argv}}
		if len(options.Keep) > 0 {
			keys = append(keys, Key{"keep", formatInts(options.Keep)})
		}
		if len(options.Drop) > 0 {
			keys = append(keys, Key{"drop", formatInts(options.Drop)}, Key{"allow_drop", true})
		}
		if _, err := filter.New(options); err != nil && argv != nil {
			a.disable("section %s: the exit codes have no counterpart: write filter anew", s.name)
		} else if argv != nil && !seen {
			a.add("filter", append(keys, Key{"on_failure", "wait"}))
		}
		seen = true
	}
}

func formatInts(numbers []int) (all []string) {
	for _, n := range numbers {
		all = append(all, strconv.Itoa(n))
	}
	return all
}

// exitCodes returns the exit codes in a key of a filter.
func (a *getmailAccount) exitCodes(s *rcSection, name string, defaults ...int) (codes []int) {
	if s.key(name) == nil {
		return defaults
	}
	for _, text := range s.tuple(name) {
		code, err := strconv.Atoi(text)
		if err != nil {
			a.rc.fail(s.key(name).invalid("holds what is no exit code"))
		} else if code >= 0 && code <= 255 { // getmail ignores others
			codes = append(codes, code)
		}
	}
	return codes
}

// command translates the program of a section and its arguments. If it cannot, it
// disables the account and returns nil.
func (a *getmailAccount) command(s *rcSection) []string {
	argv := []string{a.filePath(s, "path")}
	if s.required("path"); a.rc.err != nil {
		return nil
	}
	for _, arg := range s.tuple("arguments") {
		arg = strings.ReplaceAll(a.expand(arg), "{", "{{")
		arg = strings.NewReplacer("%(sender)", "{sender}", "%(recipient)", "{recipient}", "%(mailbox)", "").Replace(arg)
		if strings.Contains(arg, "%(local)") || strings.Contains(arg, "%(domain)") {
			a.disable("section %s: %%(local) and %%(domain) have no counterpart: write the command again, with {recipient} or {user}", s.name)
			return nil
		}
		argv = append(argv, arg)
	}
	if s.boolean("unixfrom", false) {
		a.remark("section %s: unixfrom has no counterpart: the message comes without a line From", s.name)
	}
	if s.key("ignore_stderr") == nil {
		a.remark("section %s: what the program prints to standard error is no failure here; its exit code is", s.name)
	}
	if s.text("group") != "" {
		a.remark("section %s: group has no counterpart: run mailhaul in that group", s.name)
	}
	a.remarkUser(s)
	if !a.checkText(s.name, argv...) {
		return nil
	}
	if _, err := program.Parse(argv); err != nil {
		a.disable("section %s: the program could run what a stranger wrote: write the command again, and let a script read \"$MAILHAUL_SENDER\"", s.name)
		return nil
	}
	return argv
}

func (a *getmailAccount) remarkUser(s *rcSection) {
	if name := s.text("user"); name != "" {
		a.remark("section %s: user has no counterpart: run mailhaul as %s", s.name, name)
	}
}

// deliver translates where the mail goes and, for a multidrop maildrop, the route.
func (a *getmailAccount) deliver(s *rcSection) {
	retriever := a.rc.section("retriever")
	field, place, _ := strings.Cut(retriever.text("envelope_recipient"), ":")
	if a.multidrop && field == "" {
		retriever.required("envelope_recipient")
	}
	sinks, recipientKey := a.sinks(s, 0)
	if len(sinks) > 0 {
		a.add("deliver", stringOrList(sinks))
	}
	if !a.multidrop {
		if recipientKey != "" {
			a.disable("add %s to the sink: for whom the mail is", recipientKey)
		}
		return
	}
	if a.routeMap == nil && recipientKey == "" {
		return
	}
	if place != "" && strings.TrimSpace(place) != "1" {
		a.remark("envelope_recipient is not the first %s: here the first counts", field)
	}
	if recipientKey != "" {
		a.disable("add domains to route: the domains of which the sink takes mail")
	}
	route := []Key{{"header", field}}
	if a.routeMap != nil {
		route = append(route, Key{"map", a.routeMap})
	}
	a.add("route", route)
}

// appendUnique appends names to some, each once.
func appendUnique(some, more []string) []string {
	for _, name := range more {
		if !slices.Contains(some, name) {
			some = append(some, name)
		}
	}
	return some
}

// stringOrList returns a single name as a string, and several as a list.
func stringOrList(names []string) any {
	if len(names) == 1 {
		return names[0]
	}
	return names
}

// sinks translates a destination, and returns the names of its sinks. recipientKey is the
// key that a sink among them needs if no envelope names the recipient, "" for none. depth
// is the number of destinations around it.
func (a *getmailAccount) sinks(s *rcSection, depth int) (names []string, recipientKey string) {
	kind := s.required("type")
	if depth > 5 {
		a.rc.fail(fmt.Errorf("section [%s] leads to itself", s.name))
	}
	if a.rc.err != nil {
		return nil, ""
	}
	add := func(name string, keys ...Key) { names = append(names, a.addSink(name, keys...)) }
	switch kind {
	case "Maildir", "Mboxrd":
		a.remarkUser(s)
		path := a.filePath(s, "path")
		s.required("path")
		if kind == "Mboxrd" {
			if s.text("locktype") == "flock" {
				a.remark("section %s: locktype flock has no counterpart: mailhaul locks by fcntl and a .lock file, and so must all others", s.name)
			}
			a.addFileSink(&names, path, "")
			break
		}
		if path != "" && !strings.HasSuffix(path, "/") {
			a.rc.fail(s.key("path").invalid("of a Maildir must end with a slash"))
		}
		a.addFileSink(&names, path, s.text("filemode"))
	case "MDA_external":
		if argv := a.command(s); argv != nil {
			add(programName(argv), Key{"mda", argv})
			if slices.ContainsFunc(argv, func(arg string) bool { return strings.Contains(arg, "{recipient}") }) {
				recipientKey = "recipient"
			}
		}
	case "MDA_lmtp":
		recipientKey = a.lmtp(s, add)
	case "MultiDestination":
		all := s.tuple("destinations")
		if len(all) == 0 {
			a.rc.fail(fmt.Errorf("section [%s] has no destinations", s.name))
		}
		for _, to := range all {
			more, key := a.destination(to, depth)
			names, recipientKey = appendUnique(names, more), cmp.Or(recipientKey, key)
		}
	case "MultiSorter", "MultiGuesser":
		locals := s.items("locals")
		names, recipientKey = a.destination(s.required("default"), depth)
		if kind == "MultiGuesser" {
			a.remark("MultiGuesser has no counterpart: what To and Cc say is not whom the mail was for. All mail goes where its default goes; a delivery agent such as maildrop can sort it")
			break
		}
		recipientKey = cmp.Or(recipientKey, a.routeByPatterns(s, locals, depth))
	case "MDA_qmaillocal":
		a.disable("MDA_qmaillocal has no counterpart: add a sink, and deliver")
		for _, k := range s.keys {
			k.used = true
		}
	default:
		a.rc.fail(s.key("type").invalid("names no destination that getmail has"))
	}
	return names, recipientKey
}

// addFileSink adds the sink for a path: a Maildir if it ends in a slash, else an mbox.
func (a *getmailAccount) addFileSink(names *[]string, path, mode string) {
	kind := "mbox"
	if strings.HasSuffix(path, "/") {
		kind = "maildir"
	}
	if path == "" || !a.checkText(kind, path, mode) {
		return
	}
	keys := []Key{{kind, path}}
	if n, err := strconv.ParseUint(mode, 8, 32); err == nil && n&^0o666 == 0 && n&0o600 == 0o600 && n != 0o600 {
		keys = append(keys, Key{"mode", fmt.Sprintf("%04o", n)})
	} else if mode != "" && (err != nil || n != 0o600) {
		a.remark("filemode %s has no counterpart: mode can be 0600, 0640, 0644 or 0660", mode)
	}
	*names = append(*names, a.addSink(filepath.Base(path), keys...))
}

// lmtp translates an LMTP server. recipientKey is as for sinks.
func (a *getmailAccount) lmtp(s *rcSection, add func(string, ...Key)) (recipientKey string) {
	host, port := s.required("host"), "2003" // the default of Python's smtplib
	if n := s.number("port"); n > 0 {
		port = strconv.FormatInt(n, 10)
	}
	address := hostPort(host, port, "24")
	ip, _ := netip.ParseAddr(host)
	keys := []Key{{"lmtp", address}}
	if strings.HasPrefix(host, "/") {
		keys[0].Value = escapePath(host)
	} else if host != "localhost" && !ip.IsLoopback() {
		keys = append(keys, Key{"tls", "none"})
		a.remark("everybody on the way to %s can read the mail. If it has TLS, take out tls: none of the sink", host)
	}
	if s.text("fallback") != "" {
		a.remark("fallback has no counterpart: what the sink refuses stays on the server, or goes to another with refused: quarantine")
	}
	to := s.text("override")
	if to != "" {
		keys = append(keys, Key{"to", to})
	} else {
		recipientKey = "to"
	}
	if a.checkText("MDA_lmtp", host, to) {
		add("lmtp", keys...)
	}
	return recipientKey
}

// destination translates the name of a destination in another one: a section in brackets,
// a Maildir that ends in a slash, or an mbox. The results are those of sinks.
func (a *getmailAccount) destination(to string, depth int) (names []string, recipientKey string) {
	if strings.HasPrefix(to, "[") && strings.HasSuffix(to, "]") {
		s := a.rc.section(to[1 : len(to)-1])
		if s == nil {
			a.rc.fail(fmt.Errorf("there is no section %s", to))
			return nil, ""
		}
		return a.sinks(s, depth+1)
	}
	path := a.resolvePath(to)
	if path != "" && !strings.ContainsAny(path[:1], "/.~$") {
		a.rc.fail(fmt.Errorf("destination %s is neither a path nor a section in brackets", to))
		return nil, ""
	}
	a.addFileSink(&names, path, "")
	return names, ""
}

// routeByPatterns translates the patterns of a MultiSorter that are addresses to
// a.routeMap. recipientKey is as for sinks.
func (a *getmailAccount) routeByPatterns(s *rcSection, locals []any, depth int) (recipientKey string) {
	if len(locals) == 2 {
		if _, single := locals[0].(string); single {
			locals = []any{locals}
		}
	}
	sinks := map[string][]string{} // by address
	var addresses []string         // in the order of the file
	hasLocalPart := false
	for _, item := range locals {
		pair, _ := item.([]any)
		if len(pair) != 2 {
			a.rc.fail(s.key("locals").invalid("is not a tuple of pairs"))
			return ""
		}
		pattern, _ := pair[0].(string)
		name, _ := pair[1].(string)
		names, key := a.destination(name, depth)
		recipientKey = cmp.Or(recipientKey, key)
		match := addressPattern.FindStringSubmatch(strings.ReplaceAll(pattern, `\.`, "."))
		if match == nil || match[1] == "" && match[2] == "" {
			a.disable("the pattern %s has no counterpart: write the addresses that it matches below map of route, or the domain, as \"@example.org\"", pattern)
			continue
		}
		address := strings.ToLower(match[1] + match[2])
		if match[2] == "@" {
			address, hasLocalPart = strings.TrimSuffix(address, "@"), true
		}
		if _, known := sinks[address]; !known {
			addresses = append(addresses, address)
		}
		sinks[address] = appendUnique(sinks[address], names)
	}
	if hasLocalPart {
		a.disable("add domains to route: those of the local parts in map")
	}
	if len(addresses) > 0 {
		a.remark("the patterns of MultiSorter have become whole addresses, of which the one that fits best counts; to getmail they are parts of addresses, and all that fit count")
	}
	var keys []Key
	for _, address := range addresses {
		keys = append(keys, Key{address, stringOrList(sinks[address])})
	}
	if keys != nil {
		a.routeMap = keys
	}
	return recipientKey
}

// addressPattern matches a pattern that is an address, "local@" or "@domain".
var addressPattern = regexp.MustCompile(`^\^?([\w.+-]*)(@[\w.-]*)\$?$`)
