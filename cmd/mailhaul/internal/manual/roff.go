// Package manual generates the manual pages, in mdoc(7): Command makes mailhaul(1) from the
// help of the commands, and Config makes mailhaul.yaml(5) from the example configuration.
// Both write to a page (roff.go). Only the tests of the program use this package, to keep
// the pages in docs up to date.
package manual

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// page is a manual page that is being written.
type page struct{ strings.Builder }

// newPage returns a page with its header. The date is fixed, so that a page changes only
// if its text does.
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

// text writes running text, with each sentence on a new line, as mdoc(7) wants it.
func (p *page) text(s string) {
	s = code.ReplaceAllString(escape(strings.Join(strings.Fields(s), " ")), `\fB$1\fP`)
	for sentence := range strings.Lines(sentences.ReplaceAllString(s, "$1\n$2")) {
		for line := range strings.Lines(wrap(sentence)) {
			p.line("%s", protect(strings.TrimSpace(line)))
		}
	}
}

// wrap breaks a line at blanks, into lines of at most 78 bytes if possible.
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

// literal writes lines unchanged, indented.
func (p *page) literal(lines []string) {
	p.line(".Bd -literal -offset indent")
	for _, l := range lines {
		p.line("%s", protect(escape(l)))
	}
	p.line(".Ed")
}

// paragraphs writes text in which empty lines separate paragraphs, and indented lines are
// literal.
func (p *page) paragraphs(lines []string) {
	first := true
	for len(lines) > 0 {
		if lines[0] == "" {
			lines = lines[1:]
			continue
		}
		var block []string
		if isIndented(lines[0]) {
			block, lines = cutWhile(lines, isIndented)
			p.literal(unindent(block))
		} else {
			if !first {
				p.line(".Pp")
			}
			block, lines = cutWhile(lines, func(l string) bool { return l != "" && !isIndented(l) })
			p.text(strings.Join(block, " "))
		}
		first = false
	}
}

// cutWhile splits lines before the first one for which is returns false.
func cutWhile(lines []string, is func(string) bool) (head, tail []string) {
	n := slices.IndexFunc(lines, func(l string) bool { return !is(l) })
	if n < 0 {
		n = len(lines)
	}
	return lines[:n], lines[n:]
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

// escape escapes what has a meaning in roff.
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

// protect keeps roff from taking a line of text for a request.
func protect(line string) string {
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		return `\&` + line
	}
	return line
}
