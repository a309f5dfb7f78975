package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/oneline"
)

// Problem is one mistake in a configuration file.
type Problem struct {
	Line int // 0 if it concerns the file as a whole
	Text string
	Hint string // what to write instead; may be empty
}

// String returns the problem in one line.
func (p Problem) String() string {
	s := p.Text
	if p.Line > 0 {
		s = fmt.Sprintf("line %d: %s", p.Line, s)
	}
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

// Error holds every mistake of a configuration file, sorted by line. It never
// holds the value of a secret.
type Error struct {
	Path     string
	Problems []Problem
}

// Error returns the mistakes, one a line. One that many accounts have in common, or
// many sinks, stands once: a list of thousands would hide the others.
func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return e.Path + ": " + e.Problems[0].String()
	}
	const most, named = 3, 20
	type mistake struct{ kind, text string }
	who := map[mistake][]string{}
	for _, p := range e.Problems {
		kind, name, text := p.splitSubject()
		who[mistake{kind, text}] = append(who[mistake{kind, text}], name)
	}
	told := map[mistake]bool{}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d mistakes", e.Path, len(e.Problems))
	for _, p := range e.Problems {
		kind, _, text := p.splitSubject()
		m := mistake{kind, text}
		if told[m] {
			continue
		}
		b.WriteString("\n  " + p.String())
		if names := who[m]; kind != "" && len(names) > most {
			told[m] = true
			fmt.Fprintf(&b, "\n    the same in %d other %ss: %s", len(names)-1, kind, oneline.Some(names[1:], named))
		}
	}
	return b.String()
}

// ownFile finds what differs where accounts have files of their own, which are missing
// or not to be read. In quotes is what an option says, which is the mistake.
var filePath = regexp.MustCompile(` /\S+:`)

// split returns which account or sink a mistake is in, and what is wrong there; else
// kind and name are "".
func (p Problem) splitSubject() (kind, name, text string) {
	for _, kind := range []string{"account", "sink"} {
		if rest, ok := strings.CutPrefix(p.Text, kind+" "); ok {
			if name, text, ok := strings.Cut(rest, ": "); ok {
				return kind, name, filePath.ReplaceAllString(text, "")
			}
		}
	}
	return "", "", p.Text
}

// failure returns the problems found so far as an *Error, nil if there are
// none.
func (p *parser) failure() error {
	if len(p.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(p.problems, func(a, b Problem) int { return a.Line - b.Line })
	// A default that is wrong, or an alias used twice, is one mistake.
	return &Error{Path: p.file, Problems: slices.Compact(p.problems)}
}

// quote returns s for an error message: bounded, and with nothing in it that
// a terminal would obey.
func quote(s string) string {
	const most = 100
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
