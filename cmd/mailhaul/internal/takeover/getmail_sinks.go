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

// filters translates a filter. There can be but one.
func (a *getmailAccount) filters() {
	var found []*rcSection
	for _, s := range a.rc {
		if strings.HasPrefix(strings.ToLower(s.name), "filter") {
			s.used = true
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(x, y *rcSection) int { return strings.Compare(strings.ToLower(x.name), strings.ToLower(y.name)) })
	seen := false
	for _, s := range found {
		if kind := a.required(s, "type"); kind != "Filter_external" {
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

// texts returns numbers as they are written.
func formatInts(numbers []int) (all []string) {
	for _, n := range numbers {
		all = append(all, strconv.Itoa(n))
	}
	return all
}

// exitCodes reads the exit codes of a filter.
func (a *getmailAccount) exitCodes(s *rcSection, name string, otherwise ...int) (codes []int) {
	if s.key(name) == nil {
		return otherwise
	}
	for _, text := range a.tuple(s, name) {
		code, err := strconv.Atoi(text)
		if err != nil {
			a.err = cmp.Or(a.err, s.key(name).invalid("holds what is no exit code"))
		} else if code >= 0 && code <= 255 { // as getmail has it
			codes = append(codes, code)
		}
	}
	return codes
}

// command translates the program of a section and its arguments, nil if the account
// is off without them.
func (a *getmailAccount) command(s *rcSection) []string {
	argv := []string{a.filePath(s, "path")}
	if a.required(s, "path"); a.err != nil {
		return nil
	}
	for _, arg := range a.tuple(s, "arguments") {
		arg = strings.ReplaceAll(a.expand(arg), "{", "{{")
		arg = strings.NewReplacer("%(sender)", "{sender}", "%(recipient)", "{recipient}", "%(mailbox)", "").Replace(arg)
		if strings.Contains(arg, "%(local)") || strings.Contains(arg, "%(domain)") {
			a.disable("section %s: %%(local) and %%(domain) have no counterpart: write the command again, with {recipient} or {user}", s.name)
			return nil
		}
		argv = append(argv, arg)
	}
	if a.boolean(s, "unixfrom", false) {
		a.remark("section %s: unixfrom has no counterpart: the message comes without a line From", s.name)
	}
	if s.key("ignore_stderr") == nil {
		a.remark("section %s: what the program prints to standard error is no failure here; its exit code is", s.name)
	}
	if a.text(s, "group") != "" {
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
	if name := a.text(s, "user"); name != "" {
		a.remark("section %s: user has no counterpart: run mailhaul as %s", s.name, name)
	}
}

// deliver translates where the mail goes, and for whom.
func (a *getmailAccount) deliver(s *rcSection) {
	field, place, _ := strings.Cut(a.text(a.rc.section("retriever"), "envelope_recipient"), ":")
	if a.multidrop && field == "" {
		a.required(a.rc.section("retriever"), "envelope_recipient")
	}
	sinks, needs := a.sinks(s, 0)
	if len(sinks) > 0 {
		a.add("deliver", stringOrList(sinks))
	}
	switch {
	case !a.multidrop && needs != "":
		a.disable("add %s to the sink: for whom the mail is", needs)
	case !a.multidrop || a.route == nil && needs == "":
		return
	case place != "" && strings.TrimSpace(place) != "1":
		a.remark("envelope_recipient is not the first %s: here the first counts", field)
	}
	if needs != "" && a.multidrop {
		a.disable("add domains to route: the domains of which the sink takes mail")
	}
	if a.multidrop {
		a.add("route", append([]Key{{"header", field}}, a.route...))
	}
}

// merge adds more names to some, each once.
func appendUnique(some, more []string) []string {
	for _, name := range more {
		if !slices.Contains(some, name) {
			some = append(some, name)
		}
	}
	return some
}

// oneOrAll returns names as a person would write them.
func stringOrList(names []string) any {
	if len(names) == 1 {
		return names[0]
	}
	return names
}

// sinks translates a destination to sinks. needs is the key in which one of them would
// name a recipient, if no envelope does.
func (a *getmailAccount) sinks(s *rcSection, depth int) (names []string, needs string) {
	kind := a.required(s, "type")
	if depth > 5 && a.err == nil {
		a.err = fmt.Errorf("section [%s] leads to itself", s.name)
	}
	if a.err != nil {
		return nil, ""
	}
	add := func(name string, keys ...Key) { names = append(names, a.addSink(name, keys...)) }
	switch kind {
	case "Maildir", "Mboxrd":
		a.remarkUser(s)
		path := a.filePath(s, "path")
		a.required(s, "path")
		if kind == "Mboxrd" {
			if a.text(s, "locktype") == "flock" {
				a.remark("section %s: locktype flock has no counterpart: mailhaul locks by fcntl and a .lock file, and so must all others", s.name)
			}
			a.addFileSink(&names, path, "")
			break
		}
		if path != "" && !strings.HasSuffix(path, "/") && a.err == nil {
			a.err = s.key("path").invalid("of a Maildir must end with a slash")
		}
		a.addFileSink(&names, path, a.text(s, "filemode"))
	case "MDA_external":
		if argv := a.command(s); argv != nil {
			add(programName(argv), Key{"mda", argv})
			if slices.ContainsFunc(argv, func(arg string) bool { return strings.Contains(arg, "{recipient}") }) {
				needs = "recipient"
			}
		}
	case "MDA_lmtp":
		needs = a.lmtp(s, add)
	case "MultiDestination":
		all := a.tuple(s, "destinations")
		if len(all) == 0 {
			a.err = cmp.Or(a.err, fmt.Errorf("section [%s] has no destinations", s.name))
		}
		for _, to := range all {
			more, need := a.destination(to, depth)
			names, needs = appendUnique(names, more), cmp.Or(needs, need)
		}
	case "MultiSorter", "MultiGuesser":
		locals := a.items(s, "locals")
		names, needs = a.destination(a.required(s, "default"), depth)
		if kind == "MultiGuesser" {
			a.remark("MultiGuesser has no counterpart: what To and Cc say is not whom the mail was for. All mail goes where its default goes; a delivery agent such as maildrop can sort it")
			break
		}
		needs = cmp.Or(needs, a.routeByPatterns(s, locals, depth))
	case "MDA_qmaillocal":
		a.disable("MDA_qmaillocal has no counterpart: add a sink, and deliver")
		for _, k := range s.keys {
			k.used = true
		}
	default:
		a.err = cmp.Or(a.err, s.key("type").invalid("names no destination that getmail has"))
	}
	return names, needs
}

// file adds the sink for a Maildir, which ends with a slash, or an mbox.
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

// lmtp translates a server.
func (a *getmailAccount) lmtp(s *rcSection, add func(string, ...Key)) (needs string) {
	host, port := a.required(s, "host"), "2003" // which is Python's
	if n := a.number(s, "port"); n > 0 {
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
	if a.text(s, "fallback") != "" {
		a.remark("fallback has no counterpart: what the sink refuses stays on the server, or goes to another with refused: quarantine")
	}
	to := a.text(s, "override")
	if to != "" {
		keys = append(keys, Key{"to", to})
	} else {
		needs = "to"
	}
	if a.checkText("MDA_lmtp", host, to) {
		add("lmtp", keys...)
	}
	return needs
}

// destination translates one that another names: a section in brackets, a Maildir that
// ends with a slash, or an mbox.
func (a *getmailAccount) destination(to string, depth int) (names []string, needs string) {
	if strings.HasPrefix(to, "[") && strings.HasSuffix(to, "]") {
		s := a.rc.section(to[1 : len(to)-1])
		if s == nil {
			a.err = cmp.Or(a.err, fmt.Errorf("there is no section %s", to))
			return nil, ""
		}
		return a.sinks(s, depth+1)
	}
	path := a.resolvePath(to)
	if path != "" && !strings.ContainsAny(path[:1], "/.~$") {
		a.err = cmp.Or(a.err, fmt.Errorf("destination %s is neither a path nor a section in brackets", to))
		return nil, ""
	}
	a.addFileSink(&names, path, "")
	return names, ""
}

// sort translates the patterns of a MultiSorter that are addresses.
func (a *getmailAccount) routeByPatterns(s *rcSection, locals []any, depth int) (needs string) {
	if len(locals) == 2 {
		if _, one := locals[0].(string); one {
			locals = []any{locals}
		}
	}
	to := map[string][]string{}
	var order []string
	local := false
	for _, item := range locals {
		pair, _ := item.([]any)
		if len(pair) != 2 {
			a.err = cmp.Or(a.err, s.key("locals").invalid("is not a tuple of pairs"))
			return ""
		}
		pattern, _ := pair[0].(string)
		name, _ := pair[1].(string)
		names, need := a.destination(name, depth)
		needs = cmp.Or(needs, need)
		match := addressPattern.FindStringSubmatch(strings.ReplaceAll(pattern, `\.`, "."))
		if match == nil || match[1] == "" && match[2] == "" {
			a.disable("the pattern %s has no counterpart: write the addresses that it matches below map of route, or the domain, as \"@example.org\"", pattern)
			continue
		}
		key := strings.ToLower(match[1] + match[2])
		if match[2] == "@" {
			key, local = strings.TrimSuffix(key, "@"), true
		}
		if _, again := to[key]; !again {
			order = append(order, key)
		}
		to[key] = appendUnique(to[key], names)
	}
	if local {
		a.disable("add domains to route: those of the local parts in map")
	}
	if len(order) > 0 {
		a.remark("the patterns of MultiSorter have become whole addresses, of which the one that fits best counts; to getmail they are parts of addresses, and all that fit count")
	}
	var keys []Key
	for _, key := range order {
		keys = append(keys, Key{key, stringOrList(to[key])})
	}
	if len(keys) > 0 {
		a.route = []Key{{"map", keys}}
	}
	return needs
}

// getmailAddress is a pattern that is an address, "local@" or "@domain".
var addressPattern = regexp.MustCompile(`^\^?([\w.+-]*)(@[\w.-]*)\$?$`)
