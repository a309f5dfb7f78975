// Package oneline makes text that others had a part in fit to be shown.
package oneline

import (
	"fmt"
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

// Some lists names: the first of them, and how many more there are than most.
func Some(names []string, most int) string {
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
