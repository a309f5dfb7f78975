package smtp

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxPath is the longest address that is sent. RFC 5321 §4.5.3.1.3 allows 256
// octets; some list servers need a little more.
const maxPath = 320

// validPath reports whether addr is a mailbox that may stand between the
// angle brackets of a command as it is (RFC 5321 §4.1.2, RFC 6531 §3.3).
func validPath(addr string) bool {
	at := strings.LastIndexByte(addr, '@')
	return at > 0 && len(addr) <= maxPath && validLocal(addr[:at]) && validWord(addr[at+1:], `()<>;@\,"`)
}

// validLocal reports whether s is a local part, quoted or not. A quoted one
// holds no blanks and no quotes here, though RFC 5321 allows them.
func validLocal(s string) bool {
	if n := len(s); n > 2 && s[0] == '"' && s[n-1] == '"' {
		return validWord(s[1:n-1], `"\<>`)
	}
	return len(s) <= maxPath && validWord(s, `()<>[]:;@\,"`)
}

// validWord reports whether s is not empty and all of it can be printed, is
// no blank and is none of the special characters.
func validWord(s, special string) bool {
	return s != "" && utf8.ValidString(s) && !strings.ContainsAny(s, special) &&
		!strings.ContainsFunc(s, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) })
}
