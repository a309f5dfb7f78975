package takeover

import (
	"slices"
	"strconv"
	"strings"

	"github.com/mailhaul/mailhaul/deliver/filter"
	"github.com/mailhaul/mailhaul/deliver/program"
)

// filters translates the filter. With more than one, the account is disabled.
func (a *getmailAccount) filters() {
	var found []*getmailSection
	for _, s := range a.rc.sections {
		if strings.HasPrefix(strings.ToLower(s.name), "filter") {
			s.used = true
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(x, y *getmailSection) int {
		return strings.Compare(strings.ToLower(x.name), strings.ToLower(y.name))
	})
	first := true
	for _, s := range found {
		if s.required("type") != "Filter_external" {
			a.remark("section %s has no counterpart, and is left out: a filter here prints the whole message, as Filter_external does, and not what a header is to hold", s.name)
			s.ignoreKeys()
			continue
		}
		a.addFilter(s, first)
		first = false
	}
}

// addFilter translates a section. If it is not the first filter, it disables the account.
func (a *getmailAccount) addFilter(s *getmailSection, first bool) {
	argv := a.command(s)
	if !first {
		a.disable("section %s is one filter too many: write a program that runs all of them, for filter", s.name)
	}
	o := filter.Options{
		Argv: argv, OnFailure: filter.Wait,
		Keep: a.exitCodes(s, "exitcodes_keep", 0), Drop: a.exitCodes(s, "exitcodes_drop", 99, 100),
	}
	if i := slices.Index(o.Drop, 100); i >= 0 {
		o.Drop = slices.Delete(o.Drop, i, i+1)
		a.remark("section %s: the exit code 100 leaves a message on the server; only 99 drops it, or what drop says", s.name)
	}
	keys := []Key{{"command", argv}}
	if len(o.Keep) > 0 {
		keys = append(keys, Key{"keep", formatInts(o.Keep)})
	}
	if len(o.Drop) > 0 {
		keys = append(keys, Key{"drop", formatInts(o.Drop)}, Key{"allow_drop", true})
	}
	_, err := filter.New(o)
	switch {
	case argv == nil: // the account is disabled already
	case err != nil:
		a.disable("section %s: the exit codes have no counterpart: write filter anew", s.name)
	case first:
		a.add("filter", append(keys, Key{"on_failure", "wait"}))
	}
}

func formatInts(numbers []int) (all []string) {
	for _, n := range numbers {
		all = append(all, strconv.Itoa(n))
	}
	return all
}

// exitCodes returns the exit codes in a key of a filter.
func (a *getmailAccount) exitCodes(s *getmailSection, name string, defaults ...int) (codes []int) {
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
func (a *getmailAccount) command(s *getmailSection) []string {
	argv := []string{a.filePath(s, "path")}
	s.required("path")
	if a.rc.err != nil {
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

// remarkUser remarks on a section whose program or file is to belong to another user.
func (a *getmailAccount) remarkUser(s *getmailSection) {
	if name := s.text("user"); name != "" {
		a.remark("section %s: user has no counterpart: run mailhaul as %s", s.name, name)
	}
}
