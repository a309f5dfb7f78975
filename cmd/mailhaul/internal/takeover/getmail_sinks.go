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
)

// deliver translates where the mail goes and, for a multidrop maildrop, the route.
func (a *getmailAccount) deliver(s *getmailSection) {
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
func (a *getmailAccount) sinks(s *getmailSection, depth int) (names []string, recipientKey string) {
	kind := s.required("type")
	if depth > 5 {
		a.rc.fail(fmt.Errorf("section [%s] leads to itself", s.name))
	}
	if a.rc.err != nil {
		return nil, ""
	}
	switch kind {
	case "Maildir":
		return a.maildir(s), ""
	case "Mboxrd":
		return a.mbox(s), ""
	case "MDA_external":
		return a.mda(s)
	case "MDA_lmtp":
		return a.lmtp(s)
	case "MultiDestination":
		return a.multiDestination(s, depth)
	case "MultiSorter":
		return a.multiSorter(s, depth)
	case "MultiGuesser":
		s.items("locals")
		names, recipientKey = a.destination(s.required("default"), depth)
		a.remark("MultiGuesser has no counterpart: what To and Cc say is not whom the mail was for. All mail goes where its default goes; a delivery agent such as maildrop can sort it")
		return names, recipientKey
	case "MDA_qmaillocal":
		a.disable("MDA_qmaillocal has no counterpart: add a sink, and deliver")
		s.ignoreKeys()
	default:
		a.rc.fail(s.key("type").invalid("names no destination that getmail has"))
	}
	return nil, ""
}

// The following translate a kind of destination. Their results are those of sinks.

func (a *getmailAccount) maildir(s *getmailSection) (names []string) {
	a.remarkUser(s)
	path := a.filePath(s, "path")
	s.required("path")
	if path != "" && !strings.HasSuffix(path, "/") {
		a.rc.fail(s.key("path").invalid("of a Maildir must end with a slash"))
	}
	return a.fileSink(path, s.text("filemode"))
}

func (a *getmailAccount) mbox(s *getmailSection) (names []string) {
	a.remarkUser(s)
	path := a.filePath(s, "path")
	s.required("path")
	if s.text("locktype") == "flock" {
		a.remark("section %s: locktype flock has no counterpart: mailhaul locks by fcntl and a .lock file, and so must all others", s.name)
	}
	return a.fileSink(path, "")
}

func (a *getmailAccount) mda(s *getmailSection) (names []string, recipientKey string) {
	argv := a.command(s)
	if argv == nil {
		return nil, ""
	}
	if slices.ContainsFunc(argv, func(arg string) bool { return strings.Contains(arg, "{recipient}") }) {
		recipientKey = "recipient"
	}
	return []string{a.addSink(programName(argv), Key{"mda", argv})}, recipientKey
}

func (a *getmailAccount) lmtp(s *getmailSection) (names []string, recipientKey string) {
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
		names = []string{a.addSink("lmtp", keys...)}
	}
	return names, recipientKey
}

func (a *getmailAccount) multiDestination(s *getmailSection, depth int) (names []string, recipientKey string) {
	all := s.tuple("destinations")
	if len(all) == 0 {
		a.rc.fail(fmt.Errorf("section [%s] has no destinations", s.name))
	}
	for _, to := range all {
		more, key := a.destination(to, depth)
		names, recipientKey = appendUnique(names, more), cmp.Or(recipientKey, key)
	}
	return names, recipientKey
}

func (a *getmailAccount) multiSorter(s *getmailSection, depth int) (names []string, recipientKey string) {
	locals := s.items("locals")
	names, recipientKey = a.destination(s.required("default"), depth)
	return names, cmp.Or(recipientKey, a.routeByPatterns(s, locals, depth))
}

// fileSink adds the sink for a path, a Maildir if it ends in a slash, else an mbox, and
// returns its name. There is none for an empty path.
func (a *getmailAccount) fileSink(path, mode string) (names []string) {
	kind := "mbox"
	if strings.HasSuffix(path, "/") {
		kind = "maildir"
	}
	if path == "" || !a.checkText(kind, path, mode) {
		return nil
	}
	keys := []Key{{kind, path}}
	n, err := strconv.ParseUint(mode, 8, 32)
	switch {
	case mode == "", err == nil && n == 0o600: // the default
	case err == nil && n&^0o666 == 0 && n&0o600 == 0o600:
		keys = append(keys, Key{"mode", fmt.Sprintf("%04o", n)})
	default:
		a.remark("filemode %s has no counterpart: mode can be 0600, 0640, 0644 or 0660", mode)
	}
	return []string{a.addSink(filepath.Base(path), keys...)}
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
	return a.fileSink(path, ""), ""
}

// routeByPatterns translates the patterns of a MultiSorter that are addresses to
// a.routeMap. recipientKey is as for sinks.
func (a *getmailAccount) routeByPatterns(s *getmailSection, locals []any, depth int) (recipientKey string) {
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
