package takeover

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
)

// pythonParser reads literals of Python, in which fetchmail prints its configuration and
// getmail has its tuples. It evaluates nothing.
type pythonParser struct {
	text string
	at   int  // how far text was read
	dump bool // whether fetchmail wrote the text, see garbled
}

var (
	errNotLiteral = errors.New("holds more of Python than strings, numbers and tuples of them")
	errOpenString = errors.New("lacks a quote at its end")
)

var (
	pythonName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z_0-9]*`)
	pythonInt    = regexp.MustCompile(`^-?[0-9]+`)
	pythonQuote  = regexp.MustCompile(`^[rRuU]?['"]`)
	pythonEscape = regexp.MustCompile(`(?s)^(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[0-7]{1,3}|.)`)
)

// skip skips white space and comments.
func (p *pythonParser) skip() {
	for {
		p.at = len(p.text) - len(strings.TrimLeft(p.text[p.at:], " \t\r\n"))
		if !strings.HasPrefix(p.text[p.at:], "#") {
			return
		}
		comment, _, _ := strings.Cut(p.text[p.at:], "\n")
		p.at += len(comment)
	}
}

// next reports whether a token comes next.
func (p *pythonParser) next(token string) bool { return strings.HasPrefix(p.text[p.at:], token) }

// consume skips white space, and then a token if it comes next.
func (p *pythonParser) consume(token string) bool {
	p.skip()
	if !p.next(token) {
		return false
	}
	p.at += len(token)
	return true
}

// read returns what a pattern matches next, "" for nothing.
func (p *pythonParser) read(pattern *regexp.Regexp) string {
	match := pattern.FindString(p.text[p.at:])
	p.at += len(match)
	return match
}

var pythonConstants = map[string]any{"TRUE": true, "True": true, "FALSE": false, "False": false, "None": nil}

// value reads a literal: a string, an int, a bool, nil, a []any for a list or a tuple, or
// a map[string]any. depth is the number of literals around it.
func (p *pythonParser) value(depth int) (any, error) {
	const maxDepth = 20
	p.skip()
	if depth > maxDepth {
		return nil, errNotLiteral
	}
	switch {
	case pythonQuote.MatchString(p.text[p.at:]):
		return p.strings()
	case p.next("["):
		items, _, err := p.items("[", "]", depth)
		return items, err
	case p.next("("):
		items, comma, err := p.items("(", ")", depth)
		if err == nil && len(items) == 1 && !comma {
			return items[0], nil // mere parentheses
		}
		return items, err
	case p.next("{"):
		return p.dict(depth)
	}
	if digits := p.read(pythonInt); digits != "" {
		n, err := strconv.Atoi(digits)
		if err != nil {
			return nil, errNotLiteral
		}
		return n, nil
	}
	if value, ok := pythonConstants[p.read(pythonName)]; ok {
		return value, nil
	}
	return nil, errNotLiteral
}

// items reads a list or a tuple. comma reports whether a comma follows the last item.
func (p *pythonParser) items(begin, end string, depth int) (items []any, comma bool, err error) {
	p.consume(begin)
	items, comma = []any{}, true
	for !p.consume(end) {
		if !comma {
			return nil, false, errNotLiteral
		}
		item, err := p.value(depth + 1)
		if err != nil {
			return nil, false, err
		}
		items, comma = append(items, item), p.consume(",")
	}
	return items, comma, nil
}

// dict reads a dictionary, whose keys are strings.
func (p *pythonParser) dict(depth int) (map[string]any, error) {
	p.consume("{")
	dict, comma := map[string]any{}, true
	for !p.consume("}") {
		key, err := p.value(depth + 1)
		name, ok := key.(string)
		switch {
		case err != nil:
			return nil, err
		case !ok || !comma || !p.consume(":"):
			return nil, errNotLiteral
		}
		if dict[name], err = p.value(depth + 1); err != nil {
			return nil, err
		}
		comma = p.consume(",")
	}
	return dict, nil
}

// strings reads strings that follow one another, which are one to Python.
func (p *pythonParser) strings() (string, error) {
	all := ""
	for p.skip(); pythonQuote.MatchString(p.text[p.at:]); p.skip() {
		s, err := p.quoted()
		if err != nil {
			return "", err
		}
		all += s
	}
	return all, nil
}

// quoted reads a string with its quotes.
func (p *pythonParser) quoted() (string, error) {
	prefix := p.read(pythonQuote)
	quote := prefix[len(prefix)-1:]
	raw := strings.ContainsAny(prefix, "rR")
	if p.next(quote + quote) {
		return "", errNotLiteral // a string in three quotes
	}
	var b strings.Builder
	for p.at < len(p.text) {
		switch {
		case p.next(quote):
			p.at++
			return strings.ToValidUTF8(b.String(), garbled), nil
		case p.next("\n"):
			return "", errNotLiteral
		case p.next(`\`) && raw:
			end := min(p.at+2, len(p.text)) // the backslash stays, and so does what it escapes
			b.WriteString(p.text[p.at:end])
			p.at = end
		case p.next(`\0x`) && p.dump:
			p.skipGarbled()
			b.WriteString(garbled)
		case p.next(`\`):
			p.at++
			escape := p.read(pythonEscape)
			text, known := unescape(escape)
			if !known && p.dump {
				return "", errNotLiteral
			} else if !known {
				text = `\` + escape // as Python has it
			}
			b.WriteString(text)
		default:
			b.WriteByte(p.text[p.at])
			p.at++
		}
	}
	return "", errOpenString
}

// garbled stands for an octet that is not ASCII in a string that fetchmail prints: it
// prints \0x, half of the octet, and a random octet in the place of the other half.
const garbled = "\ufffd"

// skipGarbled skips such an octet. The random one may be a quote or a backslash; if it is
// a NUL, the string lacks both octets behind \0x.
func (p *pythonParser) skipGarbled() {
	p.at += len(`\0x`)
	if rest := p.text[p.at:]; len(rest) > 1 && strings.IndexByte("0123456789abcdefABCDEF", rest[1]) >= 0 && !strings.HasPrefix(rest, `\0x`) {
		p.at += 2
	}
}

var pythonEscapes = map[string]string{
	"n": "\n", "t": "\t", "b": "\b", "r": "\r", "a": "\a", "f": "\f", "v": "\v", `\`: `\`, `"`: `"`, "'": "'", "\n": "",
}

// unescape returns what an escape, without its backslash, stands for.
func unescape(escape string) (text string, known bool) {
	if text, ok := pythonEscapes[escape]; ok {
		return text, true
	}
	digits, base, bits := escape, 8, 8
	if strings.HasPrefix(escape, "x") || strings.HasPrefix(escape, "u") {
		digits, base, bits = escape[1:], 16, 16
	}
	n, err := strconv.ParseUint(digits, base, bits)
	return string(rune(n)), err == nil
}
