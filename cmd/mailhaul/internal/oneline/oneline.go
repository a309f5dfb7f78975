// Package oneline makes text that servers and messages may control safe to show.
package oneline

import (
	"fmt"
	"strings"
	"unicode"
)

// Of makes text safe for a terminal or an environment variable: it returns one line,
// without control characters and without marks that change the direction of writing.
func Of(s string) string {
	s = strings.ReplaceAll(s, "\n", "; ") // between joined errors
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), r == '\ufffd':
			return '?'
		case unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, s)
}

// Some lists the first limit names, and the number of those that it leaves out.
func Some(names []string, limit int) string {
	if len(names) > limit {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:limit], ", "), len(names)-limit)
	}
	return strings.Join(names, ", ")
}
