// Package oneline makes text that others had a part in fit to be shown.
package oneline

import (
	"strings"
	"unicode"
)

// Of makes text that a server had a part in fit for a terminal, and for a
// variable: one line, nothing that moves the cursor, and nothing that turns the
// direction of writing. Errors that are joined stand on lines of their own.
func Of(s string) string {
	s = strings.ReplaceAll(s, "\n", "; ")
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
