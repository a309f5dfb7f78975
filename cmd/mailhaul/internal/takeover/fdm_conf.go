package takeover

import (
	"fmt"
	"slices"
	"strings"
)

// fdmConf is what an fdm.conf says. Macros are replaced in it, tags are not.
type fdmConf struct {
	settings map[string]string // by the name behind set; those without a value have ""
	accounts []fdmAccount
	actions  map[string][]fdmItem
	rules    []fdmRule
}

type fdmAccount struct {
	name       string
	disabled   bool
	otherUsers bool // its mail is delivered as other users
	fdmItem
}

// fdmItem is a way to get mail, or what is done with it.
type fdmItem struct {
	kind    string            // such as pop3s or maildir
	value   string            // the path or the command, if the kind has one
	options map[string]string // by keyword; those without a value have ""
	actions []string          // the names of those that an item of kind action stands for
}

// fdmRule is a rule, or a block of rules.
type fdmRule struct {
	conditions []fdmCondition
	items      []fdmItem
	goesOn     bool      // whether mail that matches goes on to the next rule
	block      []fdmRule // evaluated if the conditions hold; nil for a rule
}

// fdmCondition is a condition of a rule.
type fdmCondition struct {
	and      bool // joined to those before it by "and", not "or"
	not      bool
	kind     string   // all, account, matched, unmatched, or another
	accounts []string // patterns of names
}

// fdmParser parses an fdm.conf.
type fdmParser struct {
	fdmLexer
	conf *fdmConf
}

// parseFdm parses the fdm.conf at path. The error names the file and the line, but shows
// no string, which may be a password.
func parseFdm(path, home string) (*fdmConf, error) {
	p := &fdmParser{
		fdmLexer: fdmLexer{home: home, macros: map[string]string{}},
		conf:     &fdmConf{settings: map[string]string{}, actions: map[string][]fdmItem{}},
	}
	if err := p.include(path); err != nil {
		return nil, err
	}
	p.commands(&p.conf.rules)
	if p.peek().kind != fdmEnd {
		p.fail("} closes nothing")
	}
	return p.conf, p.err
}

// isWord reports whether the next token is one of the words in a list.
func (p *fdmParser) isWord(words string) bool {
	return p.peek().kind == fdmWordToken && strings.Contains(" "+words+" ", " "+p.peek().text+" ")
}

// accept skips the next token if that is one of the words in a list.
func (p *fdmParser) accept(words string) bool {
	if !p.isWord(words) {
		return false
	}
	p.next()
	return true
}

// acceptChar skips the next token if that is that character.
func (p *fdmParser) acceptChar(c byte) bool {
	if p.peek().kind != c {
		return false
	}
	p.next()
	return true
}

// unexpected fails because the next token is not what is wanted.
func (p *fdmParser) unexpected(want string) {
	p.fail("%s is expected", want) // what is there may be a password
}

// hasValue reports whether the next token begins a value.
func (p *fdmParser) hasValue() bool {
	return slices.Contains([]byte{fdmStringToken, fdmNumberToken, '$', '%'}, p.peek().kind)
}

// parseValue parses a number, or a string that may consist of several.
func (p *fdmParser) parseValue() string {
	value := ""
	for {
		t := p.next()
		text, ok := t.text, true
		switch t.kind {
		case fdmStringToken, fdmNumberToken:
		case '$', '%':
			if text, ok = p.macros[t.macro()]; !ok {
				p.fail("macro %s is not defined", t.macro())
				return ""
			}
		default:
			p.unexpected("a string or a number")
			return ""
		}
		value = joinFdm(value, text)
		// No token is read here, since it might be include, which may use the value.
		p.take(fdmSpace)
		if !strings.HasPrefix(p.rest(), "+") {
			break
		}
		p.skipBytes(1)
	}
	return value
}

// parseValues parses a value, or values in braces.
func (p *fdmParser) parseValues() (all []string) {
	if !p.acceptChar('{') {
		return []string{p.parseValue()}
	}
	for !p.acceptChar('}') && p.err == nil {
		all = append(all, p.parseValue())
	}
	return all
}

// commands parses commands up to the end, or to a } that ends a block. Rules are added to
// rules.
func (p *fdmParser) commands(rules *[]fdmRule) {
	for p.peek().kind != fdmEnd && p.peek().kind != '}' {
		switch {
		case p.peek().kind == '$' || p.peek().kind == '%':
			name := p.next().macro()
			if !p.acceptChar('=') {
				p.unexpected("=")
			}
			p.macros[name] = p.parseValue()
		case p.accept("account"):
			p.account()
		case p.accept("action"):
			name := p.parseValue()
			p.users()
			p.conf.actions[name] = p.items()
		case p.accept("match"):
			p.rule(rules)
		case p.accept("set"):
			p.set()
		case p.accept("cache"): // of the user's own strings
			p.parseValue()
			if p.accept("expire") {
				p.amount()
			}
		default:
			p.unexpected("a command")
		}
	}
}

// fdmUnits are the words behind a number, in octets or in seconds.
var fdmUnits = map[string]int64{
	"b": 1, "B": 1, "byte": 1, "bytes": 1,
	"k": 1 << 10, "K": 1 << 10, "kb": 1 << 10, "KB": 1 << 10, "kilobyte": 1 << 10, "kilobytes": 1 << 10,
	"m": 1 << 20, "M": 1 << 20, "mb": 1 << 20, "MB": 1 << 20, "megabyte": 1 << 20, "megabytes": 1 << 20,
	"g": 1 << 30, "G": 1 << 30, "gb": 1 << 30, "GB": 1 << 30, "gigabyte": 1 << 30, "gigabytes": 1 << 30,
	"second": 1, "seconds": 1, "minute": 60, "minutes": 60, "hour": 3600, "hours": 3600,
	"day": 86400, "days": 86400, "week": 7 * 86400, "weeks": 7 * 86400,
	"month": 30 * 86400, "months": 30 * 86400, "year": 365 * 86400, "years": 365 * 86400,
}

// amount parses a value that may have a unit. Of a number it returns the octets or
// seconds.
func (p *fdmParser) amount() string {
	value := p.parseValue()
	if unit, ok := fdmUnits[p.peek().text]; ok && p.peek().kind == fdmWordToken {
		p.next()
		value = multiply(value, unit)
	}
	return value
}

// set parses an option.
func (p *fdmParser) set() {
	if p.peek().kind != fdmWordToken {
		p.unexpected("the name of an option")
		return
	}
	name, value := p.next().text, ""
	switch name {
	case "unmatched-mail", "purge-after", "file-umask", "file-group":
		if p.peek().kind == fdmWordToken {
			value = p.next().text
			break
		}
		value = p.parseValue()
	case "lock-types", "lock-type", "lookup-order":
		for p.accept("fcntl flock dotlock none passwd courier") {
		}
	case "delete-oversized", "ignore-errors", "allow-multiple", "lock-wait", "verify-certificates", "no-received", "no-create":
	default:
		value = p.amount()
	}
	p.conf.settings[name] = value
}

// users parses the users as which mail is delivered, and reports whether there are any.
func (p *fdmParser) users() bool {
	if !p.accept("user users") {
		return false
	}
	p.parseValues()
	return true
}

// account parses an account.
func (p *fdmParser) account() {
	a := fdmAccount{name: p.parseValue()}
	a.otherUsers = p.users()
	a.disabled = p.accept("disabled")
	if p.peek().kind != fdmWordToken {
		p.unexpected("the kind of the account")
		return
	}
	a.kind = p.next().text
	if p.hasValue() || p.peek().kind == '{' { // the paths of a Maildir or an mbox
		p.parseValues()
	}
	a.options = p.options("server port pipe user pass cache folder folders group groups",
		"new-only old-only no-apop no-verify no-uidl no-cram-md5 no-plain no-login starttls insecure oauthbearer xoauth2 keep")
	_, piped := a.options["pipe"]
	if a.isPOP3() && a.options["server"] == "" && !piped {
		p.fail("the account has no server")
	}
	for _, name := range []string{"server", "pipe", "port", "user", "pass", "cache"} {
		if value, ok := a.options[name]; ok && value == "" {
			p.fail("%s is empty", name)
		}
	}
	p.conf.accounts = append(p.conf.accounts, a)
}

func (a fdmAccount) isPOP3() bool { return a.kind == "pop3" || a.kind == "pop3s" }

// options parses options: those in the list valued have a value, of which the first one
// counts, and flags have none.
func (p *fdmParser) options(valued, flags string) map[string]string {
	all := map[string]string{}
	for p.isWord(valued) || p.isWord(flags) {
		hasValue := p.isWord(valued)
		name := p.next().text
		all[name] = ""
		if hasValue {
			if values := p.parseValues(); len(values) > 0 {
				all[name] = values[0]
			}
		}
	}
	return all
}

// items parses an item, or items in braces.
func (p *fdmParser) items() (all []fdmItem) {
	if !p.acceptChar('{') {
		return []fdmItem{p.item()}
	}
	for !p.acceptChar('}') && p.err == nil {
		all = append(all, p.item())
	}
	return all
}

// item parses what is done with mail, or the name of an action.
func (p *fdmParser) item() fdmItem {
	if p.hasValue() {
		return fdmItem{kind: "action", actions: []string{p.parseValue()}}
	}
	if p.peek().kind != fdmWordToken {
		p.unexpected("an action")
		return fdmItem{}
	}
	i := fdmItem{kind: p.next().text}
	switch i.kind {
	case "drop", "keep", "stdout":
	case "exec", "pipe", "rewrite", "write", "append", "maildir":
		i.value = p.parseValue()
	case "mbox":
		i.value = p.parseValue()
		i.options = p.options("", "compress")
	case "remove-header", "remove-headers":
		p.parseValues()
	case "add-header":
		p.parseValue()
		p.accept("value")
		p.parseValue()
	case "tag", "add-to-cache", "to-cache", "remove-from-cache":
		p.parseValue()
		p.options("value key", "")
	case "imap", "imaps", "smtp", "lmtp":
		i.options = p.options("server port user pass folder folders from to",
			"no-verify no-cram-md5 no-plain no-login starttls insecure oauthbearer xoauth2")
	case "action", "actions":
		i.kind, i.actions = "action", p.parseValues()
	default:
		p.fail("there is no action %s", i.kind)
	}
	return i
}

// rule parses a rule, or a block of rules.
func (p *fdmParser) rule(rules *[]fdmRule) {
	r := fdmRule{conditions: []fdmCondition{p.condition()}}
	for p.isWord("and or") {
		and := p.next().text == "and"
		c := p.condition()
		c.and = and
		r.conditions = append(r.conditions, c)
	}
	if p.acceptChar('{') {
		r.block = []fdmRule{}
		p.commands(&r.block)
		if !p.acceptChar('}') {
			p.unexpected("}")
		}
		*rules = append(*rules, r)
		return
	}
	p.users()
	if !p.accept("action actions") {
		p.unexpected("action")
		return
	}
	r.items = p.items()
	r.goesOn = p.accept("continue")
	*rules = append(*rules, r)
}

// condition parses a condition.
func (p *fdmParser) condition() (c fdmCondition) {
	for p.accept("not") {
		c.not = !c.not
	}
	switch {
	case p.isWord("all matched unmatched"):
		c.kind = p.next().text
	case p.accept("account accounts"):
		c.kind, c.accounts = "account", p.parseValues()
	default: // it looks into a message, or runs a program
		for p.err == nil && p.peek().kind != fdmEnd && p.peek().kind != '{' && !p.isWord("and or action actions users") {
			p.next()
		}
	}
	return c
}

// multiply multiplies a number in decimal digits.
func multiply(number string, by int64) string {
	var n int64
	if _, err := fmt.Sscan(number, &n); err != nil || n > (1<<62)/by {
		return number
	}
	return fmt.Sprint(n * by)
}
