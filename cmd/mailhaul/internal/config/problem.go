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

// Error holds all mistakes of a configuration file, sorted by line. It never holds the
// value of a secret.
type Error struct {
	Path     string
	Problems []Problem
}

// Error returns the mistakes, one per line. A mistake that many accounts or many sinks
// share appears once: thousands of lines would hide the others.
func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return e.Path + ": " + e.Problems[0].String()
	}
	const (
		maxRepeated = 3  // mistakes that are listed one by one if they are the same
		maxNames    = 20 // accounts or sinks that are named if there are more
	)
	type mistake struct{ kind, text string }
	names := map[mistake][]string{}
	for _, p := range e.Problems {
		kind, name, text := p.splitSubject()
		names[mistake{kind, text}] = append(names[mistake{kind, text}], name)
	}
	summarized := map[mistake]bool{}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d mistakes", e.Path, len(e.Problems))
	for _, p := range e.Problems {
		kind, _, text := p.splitSubject()
		m := mistake{kind, text}
		if summarized[m] {
			continue
		}
		b.WriteString("\n  " + p.String())
		if same := names[m]; kind != "" && len(same) > maxRepeated {
			summarized[m] = true
			fmt.Fprintf(&b, "\n    the same in %d other %ss: %s", len(same)-1, kind, oneline.Some(same[1:], maxNames))
		}
	}
	return b.String()
}

// filePath matches a path in an error such as "open /path: no such file", which differs
// where accounts have files of their own. A path in quotes is the value of an option,
// and part of the mistake.
var filePath = regexp.MustCompile(` /\S+:`)

// splitSubject splits a mistake into the account or sink that it is in and the rest,
// without paths. kind is "account" or "sink", or "" with an empty name.
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
	// A mistake in a value that is read twice, by an alias, counts once.
	return &Error{Path: p.file, Problems: slices.Compact(p.problems)}
}

// quote returns s for an error message: shortened, and with control characters escaped.
func quote(s string) string {
	const most = 100
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
