// Package oneline makes text that others had a part in fit to be shown.
package oneline

import "strings"

// Of makes text that a server had a part in fit for a terminal, and for a
// variable: one line, nothing that moves the cursor. Errors that are joined
// stand on lines of their own.
func Of(s string) string {
	s = strings.ReplaceAll(s, "\n", "; ")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\ufffd' {
			return '?'
		}
		return r
	}, s)
}
