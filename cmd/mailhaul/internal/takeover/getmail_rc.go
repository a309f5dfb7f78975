package takeover

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// rcFile are the sections of a file that getmail reads, as Python's RawConfigParser
// does: there is no interpolation.
type rcFile []*rcSection

type rcSection struct {
	name string
	keys []*rcKey
	used bool
}

type rcKey struct {
	name, value string
	line        int
	used        bool
}

func (f rcFile) section(name string) *rcSection {
	for _, s := range f {
		if s.name == name {
			s.used = true
			return s
		}
	}
	return nil
}

// key returns a key, nil if there is none, also in no section. It counts as used.
func (s *rcSection) key(name string) *rcKey {
	if s == nil {
		return nil
	}
	for _, k := range s.keys {
		if k.name == name {
			k.used = true
			return k
		}
	}
	return nil
}

// text returns the value of a key, empty if there is none.
func (s *rcSection) text(name string) (string, error) {
	k := s.key(name)
	if k == nil {
		return "", nil
	}
	if strings.Contains(k.value, "\n") {
		return "", k.invalid("has a second line: is that line indented by mistake?")
	}
	return k.value, nil
}

func (s *rcSection) boolean(name string, otherwise bool) (bool, error) {
	k := s.key(name)
	if k == nil {
		return otherwise, nil
	}
	switch strings.ToLower(k.value) {
	case "1", "yes", "true", "on":
		return true, nil
	case "0", "no", "false", "off":
		return false, nil
	}
	return false, k.invalid("is neither true nor false")
}

func (s *rcSection) number(name string) (int64, error) {
	k := s.key(name)
	if k == nil {
		return 0, nil
	}
	n, err := strconv.ParseInt(k.value, 10, 64)
	if err != nil {
		return 0, k.invalid("is not a whole number")
	}
	return n, nil
}

// tuple returns the strings and numbers of a tuple, as strings.
func (s *rcSection) tuple(name string) ([]string, error) {
	items, err := s.items(name)
	var all []string
	for _, item := range items {
		text, ok := item.(string)
		if !ok {
			return nil, s.key(name).invalid("is not a tuple of strings")
		}
		all = append(all, text)
	}
	return all, err
}

// items returns what is in a tuple: strings, and tuples as []any.
func (s *rcSection) items(name string) ([]any, error) {
	k := s.key(name)
	if k == nil || k.value == "" {
		return nil, nil
	}
	p := pythonParser{rest: k.value}
	v, err := p.value(0)
	p.skipBlanks()
	items, ok := v.([]any)
	switch {
	case err != nil:
		return nil, k.invalid(err.Error())
	case p.rest != "" || !ok:
		return nil, k.invalid(`is not a tuple, such as ("one", "two") or ("one", )`)
	}
	return items, nil
}

// wrong returns an error about a key. Its value may be a secret.
func (k *rcKey) invalid(text string) error {
	return fmt.Errorf("line %d: %s %s", k.line, k.name, text)
}

var (
	rcHeader = regexp.MustCompile(`^\[(.+)\]`)
	rcOption = regexp.MustCompile(`^(.*?)\s*[=:]\s*(.*)$`)
)

// parseRC reads such a file.
func parseRC(text string) (rcFile, error) {
	var f rcFile
	var key *rcKey
	indent, n := 0, 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, " \t\r\n\v\f")
		inner := strings.TrimLeft(line, " \t\v\f")
		header := rcHeader.FindStringSubmatch(inner)
		option := rcOption.FindStringSubmatch(inner)
		switch at := len(line) - len(inner); {
		case !utf8.ValidString(line):
			return nil, fmt.Errorf("line %d is not UTF-8: iconv makes it so", n)
		case inner == "" && key != nil:
			key.value += "\n"
			continue
		case inner == "" || inner[0] == '#' || inner[0] == ';':
			continue
		case key != nil && at > indent:
			key.value += "\n" + inner
			continue
		case header != nil:
			name := header[1]
			if slices.ContainsFunc(f, func(s *rcSection) bool { return s.name == name }) {
				return nil, fmt.Errorf("line %d: section %s appears twice", n, name)
			}
			f, key = append(f, &rcSection{name: name}), nil
			indent = at
		case len(f) == 0:
			return nil, fmt.Errorf("line %d stands before the first section, such as [retriever]", n)
		case option == nil || option[1] == "":
			return nil, fmt.Errorf("line %d is neither a section nor name = value", n)
		default:
			last, name := f[len(f)-1], strings.ToLower(option[1])
			if slices.ContainsFunc(last.keys, func(k *rcKey) bool { return k.name == name }) {
				return nil, fmt.Errorf("line %d: %s appears twice in section %s", n, name, last.name)
			}
			key = &rcKey{name: name, value: option[2], line: n}
			last.keys = append(last.keys, key)
			indent = at
		}
	}
	for _, s := range f {
		for _, k := range s.keys {
			k.value = strings.TrimRight(k.value, "\n")
		}
	}
	return f, nil
}

// python reads what getmail has Python evaluate, as far as it is a tuple of literals.
// Nothing is evaluated.
type pythonParser struct{ rest string }

var errNotLiteral = errors.New("holds more of Python than strings, numbers and tuples of them")

func (p *pythonParser) skipBlanks() {
	for {
		p.rest = strings.TrimLeft(p.rest, " \t\n")
		if !strings.HasPrefix(p.rest, "#") {
			return
		}
		_, p.rest, _ = strings.Cut(p.rest, "\n")
	}
}

func (p *pythonParser) consume(s string) bool {
	p.skipBlanks()
	rest, ok := strings.CutPrefix(p.rest, s)
	p.rest = rest
	return ok
}

var (
	pythonQuote  = regexp.MustCompile(`^[rRuU]?['"]`)
	pythonNumber = regexp.MustCompile(`^(0|[1-9][0-9]*)`)
	pythonEscape = regexp.MustCompile(`(?s)\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[0-7]{1,3}|.)`)
)

func (p *pythonParser) value(depth int) (any, error) {
	p.skipBlanks()
	if number := pythonNumber.FindString(p.rest); number != "" {
		p.rest = p.rest[len(number):]
		return number, nil
	}
	if pythonQuote.MatchString(p.rest) {
		all := ""
		for p.skipBlanks(); pythonQuote.MatchString(p.rest); p.skipBlanks() { // one behind another are one
			s, err := p.quoted()
			if err != nil {
				return nil, err
			}
			all += s
		}
		return all, nil
	}
	if depth > 3 || !p.consume("(") {
		return nil, errNotLiteral
	}
	items, comma := []any{}, true
	for !p.consume(")") {
		if !comma {
			return nil, errNotLiteral
		}
		item, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		items, comma = append(items, item), p.consume(",")
	}
	if len(items) == 1 && !comma {
		return items[0], nil // which are mere parentheses
	}
	return items, nil
}

// text reads one string in quotes.
func (p *pythonParser) quoted() (string, error) {
	prefix := pythonQuote.FindString(p.rest)
	quote := prefix[len(prefix)-1]
	body := p.rest[len(prefix):]
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '\\':
			i++
		case '\n':
			return "", errNotLiteral
		case quote:
			if i == 0 && strings.HasPrefix(body[1:], string(quote)) {
				return "", errNotLiteral // three begin another kind of string
			}
			p.rest = body[i+1:]
			if strings.ContainsAny(prefix, "rR") {
				return body[:i], nil
			}
			return pythonEscape.ReplaceAllStringFunc(body[:i], unescape), nil
		}
	}
	return "", errors.New("lacks a quote at its end")
}

// unescape returns what an escape in a string stands for. An unknown one stands for
// itself.
func unescape(s string) string {
	if plain, ok := map[string]string{`\n`: "\n", `\t`: "\t", `\r`: "\r", `\\`: `\`, `\'`: "'", `\"`: `"`, "\\\n": ""}[s]; ok {
		return plain
	}
	digits, base := strings.TrimLeft(s, `\xu`), 16
	if s[1] >= '0' && s[1] <= '7' {
		digits, base = s[1:], 8
	}
	n, err := strconv.ParseUint(digits, base, 16)
	if err != nil || len(s) < 3 && base == 16 {
		return s
	}
	return string(rune(n))
}
