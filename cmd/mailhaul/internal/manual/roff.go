// Package manual makes the manual pages, in mdoc(7), out of what there is
// already: the help of the commands, and the example of a configuration. Only
// the tests of the program use it, which keep the pages in docs up to date.
package manual

import (
	"fmt"
	"regexp"
	"strings"
)

// page is a page in the making.
type page struct{ strings.Builder }

// newPage writes what every page begins with. The date is that of the form, not
// of the contents: a page is to change only when it says something else.
func newPage(name string, section int, what string) *page {
	p := &page{}
	p.line(".\\\" Made by make man; see cmd/mailhaul/internal/manual.")
	p.line(".Dd November 28, 2026")
	p.line(".Dt %s %d", strings.ToUpper(name), section)
	p.line(".Os")
	p.line(".Sh NAME")
	p.line(".Nm %s", name)
	p.line(".Nd %s", escape(what))
	return p
}

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

var (
	code      = regexp.MustCompile("`([^`]+)`")
	sentences = regexp.MustCompile(`([.!?:]\)?) +([A-Z({\\$])`)
)

// text writes running text, a sentence a line, as typesetters want it.
func (p *page) text(s string) {
	s = code.ReplaceAllString(escape(strings.Join(strings.Fields(s), " ")), `\fB$1\fP`)
	for sentence := range strings.Lines(sentences.ReplaceAllString(s, "$1\n$2")) {
		for line := range strings.Lines(wrap(sentence)) {
			p.line("%s", protect(strings.TrimSpace(line)))
		}
	}
}

// wrap breaks a line into lines of at most 78 bytes, where it can.
func wrap(s string) string {
	var b strings.Builder
	length := 0
	for word := range strings.FieldsSeq(s) {
		switch {
		case length == 0:
		case length+1+len(word) > 78:
			b.WriteByte('\n')
			length = 0
		default:
			b.WriteByte(' ')
			length++
		}
		b.WriteString(word)
		length += len(word)
	}
	return b.String()
}

// literal writes lines as they are.
func (p *page) literal(lines []string) {
	p.line(".Bd -literal -offset indent")
	for _, l := range lines {
		p.line("%s", protect(escape(l)))
	}
	p.line(".Ed")
}

// paragraphs writes text in which an empty line parts paragraphs and lines
// that are indented stay as they are.
func (p *page) paragraphs(lines []string) {
	first := true
	for len(lines) > 0 {
		n := 0
		as := func(kind func(string) bool) []string {
			for n < len(lines) && kind(lines[n]) {
				n++
			}
			return lines[:n]
		}
		switch {
		case lines[0] == "":
			n = 1
		case isIndented(lines[0]):
			p.literal(unindent(as(isIndented)))
			first = false
		default:
			if !first {
				p.line(".Pp")
			}
			p.text(strings.Join(as(func(l string) bool { return l != "" && !isIndented(l) }), " "))
			first = false
		}
		lines = lines[n:]
	}
}

func isIndented(line string) bool { return strings.HasPrefix(line, " ") }

func unindent(lines []string) []string {
	least := len(lines[0])
	for _, l := range lines {
		least = min(least, len(l)-len(strings.TrimLeft(l, " ")))
	}
	var out []string
	for _, l := range lines {
		out = append(out, l[least:])
	}
	return out
}

// escape makes text of what roff would take for its own.
func escape(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r == '^':
			b.WriteString(`\(ha`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '"':
			b.WriteString(`\(dq`)
		case r > '~':
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// protect keeps a line of text from being taken for a request.
func protect(line string) string {
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		return `\&` + line
	}
	return line
}
