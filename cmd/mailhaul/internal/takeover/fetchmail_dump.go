package takeover

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// garbled stands for what fetchmail does not print as it is: of all that is not ASCII
// it shows half of each octet, and a random octet for the other half.
const garbled = "\ufffd"

// parseDump reads what fetchmail --configdump prints: assignments of Python, whose
// values are literals. Nothing is executed. A value is a string, an int, a bool, nil, a
// []any or a map[string]any.
func parseDump(text string) (map[string]any, error) {
	p := dumpParser{text: text}
	vars := map[string]any{}
	for p.skipBlanks(" \t\r\n;"); p.at < len(p.text); p.skipBlanks(" \t\r\n;") {
		name := p.identifier()
		p.skipBlanks(" \t")
		if name == "" || !p.consume("=") {
			return nil, p.syntaxError()
		}
		value, err := p.value(0)
		if err != nil {
			return nil, err
		}
		vars[name] = value
	}
	return vars, nil
}

type dumpParser struct {
	text string
	at   int
}

// wrong is the error of what stands at the place that was reached. It shows nothing of
// it, which may be a password.
func (p *dumpParser) syntaxError() error {
	return fmt.Errorf("line %d is not what fetchmail --configdump prints", 1+strings.Count(p.text[:min(p.at, len(p.text))], "\n"))
}

// blanks skips white space and comments.
func (p *dumpParser) skipBlanks(set string) {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case strings.IndexByte(set, c) >= 0:
			p.at++
		case c == '#':
			if end := strings.IndexByte(p.text[p.at:], '\n'); end >= 0 {
				p.at += end
			} else {
				p.at = len(p.text)
			}
		default:
			return
		}
	}
}

// take skips a token if it comes next.
func (p *dumpParser) consume(token string) bool {
	if !strings.HasPrefix(p.text[p.at:], token) {
		return false
	}
	p.at += len(token)
	return true
}

// word reads a name, "" if there is none.
func (p *dumpParser) identifier() string {
	start := p.at
	for p.at < len(p.text) {
		c := p.text[p.at]
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (p.at == start || c < '0' || c > '9') {
			break
		}
		p.at++
	}
	return p.text[start:p.at]
}

// constants are the names that a value may be.
var pythonConstants = map[string]any{"TRUE": true, "True": true, "FALSE": false, "False": false, "None": nil}

// value reads a literal. depth is how many others it stands in.
func (p *dumpParser) value(depth int) (any, error) {
	const deepest = 20
	p.skipBlanks(" \t\r\n")
	if p.at == len(p.text) || depth > deepest {
		return nil, p.syntaxError()
	}
	switch c := p.text[p.at]; {
	case c == '"' || c == '\'':
		return p.quoted()
	case c == '-' || c >= '0' && c <= '9':
		start := p.at
		for p.at++; p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9'; {
			p.at++
		}
		n, err := strconv.Atoi(p.text[start:p.at])
		if err != nil {
			return nil, p.syntaxError()
		}
		return n, nil
	case c == '[':
		return p.list("]", depth)
	case c == '(':
		return p.list(")", depth)
	case c == '{':
		return p.dict(depth)
	}
	if value, ok := pythonConstants[p.identifier()]; ok {
		return value, nil
	}
	return nil, p.syntaxError()
}

// list reads a list or a tuple up to its end.
func (p *dumpParser) list(end string, depth int) (any, error) {
	items := []any{}
	p.at++
	for {
		if p.skipBlanks(" \t\r\n"); p.consume(end) {
			return items, nil
		}
		item, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
		if p.skipBlanks(" \t\r\n"); !p.consume(",") && !strings.HasPrefix(p.text[p.at:], end) {
			return nil, p.syntaxError()
		}
	}
}

// dict reads a dictionary, whose keys are strings.
func (p *dumpParser) dict(depth int) (any, error) {
	dict := map[string]any{}
	p.at++
	for {
		if p.skipBlanks(" \t\r\n"); p.consume("}") {
			return dict, nil
		}
		key, err := p.value(depth + 1)
		name, ok := key.(string)
		if err != nil {
			return nil, err
		}
		if p.skipBlanks(" \t\r\n"); !ok || !p.consume(":") {
			return nil, p.syntaxError()
		}
		if dict[name], err = p.value(depth + 1); err != nil {
			return nil, err
		}
		if p.skipBlanks(" \t\r\n"); !p.consume(",") && !strings.HasPrefix(p.text[p.at:], "}") {
			return nil, p.syntaxError()
		}
	}
}

// escapes are those of C with one letter.
var cEscapes = map[byte]byte{
	'n': '\n', 't': '\t', 'b': '\b', 'r': '\r', 'a': '\a', 'f': '\f', 'v': '\v', '\\': '\\', '"': '"', '\'': '\'',
}

// quoted reads a string with the escapes of C.
func (p *dumpParser) quoted() (string, error) {
	var b strings.Builder
	quote := p.text[p.at]
	for p.at++; p.at < len(p.text); {
		c := p.text[p.at]
		p.at++
		switch {
		case c == quote:
			return strings.ToValidUTF8(b.String(), garbled), nil
		case c == '\n':
			p.at--
			return "", p.syntaxError()
		case c != '\\':
			b.WriteByte(c)
		case p.consume("0x"): // for which C has no use
			b.WriteString(garbled)
			// The random octet may be a quote or a backslash; if it is a NUL, then both
			// that follow are missing.
			if rest := p.text[p.at:]; len(rest) > 1 && isHexDigit(rest[1]) && !strings.HasPrefix(rest, `\0x`) {
				p.at += 2
			}
		default:
			if err := p.escape(&b); err != nil {
				return "", err
			}
		}
	}
	return "", p.syntaxError()
}

// escape reads what follows a backslash.
func (p *dumpParser) escape(b *strings.Builder) error {
	rest := p.text[p.at:]
	base, digits, n := 8, 0, 3
	if strings.HasPrefix(rest, "x") {
		p.at, rest, base, n = p.at+1, rest[1:], 16, 2
	}
	for digits < min(n, len(rest)) && (base == 16 && isHexDigit(rest[digits]) || rest[digits] >= '0' && rest[digits] <= '7') {
		digits++
	}
	p.at += digits
	code, err := strconv.ParseUint(rest[:digits], base, 8)
	switch {
	case digits == 0 && base == 8 && rest != "" && cEscapes[rest[0]] != 0:
		p.at++
		b.WriteByte(cEscapes[rest[0]])
	case errors.Is(err, strconv.ErrSyntax), errors.Is(err, strconv.ErrRange):
		return p.syntaxError()
	default:
		b.WriteByte(byte(code))
	}
	return nil
}

func isHexDigit(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}
