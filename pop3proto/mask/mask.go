// Package mask removes secrets from text that a server sends. Servers repeat what they
// are sent, above all in errors, and not always literally: in base64, in hexadecimal, in
// a URL, or in part. A [Set] collects the secrets, and its method Text masks them.
package mask

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
)

// pieceSize is the length in bytes from which a piece of a secret is masked. Shorter
// pieces may occur in any text.
const pieceSize = 8

// Replacement stands in the place of a secret.
const Replacement = "***"

// Set is a set of secrets. The zero Set is empty. It must not be used concurrently.
type Set struct {
	secrets, messages []string // added, but not yet in shortForms and pieces

	// A form is an encoding of a secret, in lower case.
	shortForms []string            // those shorter than pieceSize
	pieces     map[string]struct{} // all pieces of pieceSize bytes of the others
}

// Add makes Text mask a secret, and any piece of it of at least eight bytes: literally,
// in base64 at any offset in a longer text, in hexadecimal, as in a URL, and as in a
// quoted string.
func (s *Set) Add(secret string) { s.secrets = append(s.secrets, secret) }

// AddMessage makes Text mask the base64 of a message that contains secrets, as SASL
// sends it.
func (s *Set) AddMessage(message string) { s.messages = append(s.messages, message) }

// addForms adds the forms of what was added to the set. Text calls it and not Add, since
// most sessions never need them.
func (s *Set) addForms() {
	for _, secret := range s.secrets {
		s.addForm(secret)
		if len(secret) < 3 {
			continue // encodings this short would match everywhere
		}
		quoted := fmt.Sprintf("%q", secret)
		for _, form := range []string{quoted[1 : len(quoted)-1], url.QueryEscape(secret), url.PathEscape(secret)} {
			if form != secret {
				s.addForm(form)
			}
		}
		s.addForm(hex.EncodeToString([]byte(secret)))
		s.addForm(base64.StdEncoding.EncodeToString([]byte(secret)))
		for offset := range 3 {
			s.addBase64(offset, secret)
		}
	}
	for _, message := range s.messages {
		s.addForm(base64.StdEncoding.EncodeToString([]byte(message)))
	}
	s.secrets, s.messages = nil, nil
}

// addBase64 adds the base64 of a secret at an offset in a longer text: those characters
// that do not depend on the rest of the text.
func (s *Set) addBase64(offset int, secret string) {
	raw := append(make([]byte, offset), secret...)
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		form := encoding.EncodeToString(raw)
		// Each character holds six bits. The first and the last may share theirs
		// with other text.
		first := (offset*8 + 5) / 6
		last := len(raw) * 8 / 6
		if last-first >= 3 {
			s.addForm(form[first:last])
		}
	}
}

func (s *Set) addForm(form string) {
	form = lowerASCII(form)
	if len(form) < pieceSize {
		if form != "" {
			s.shortForms = append(s.shortForms, form)
		}
		return
	}
	if s.pieces == nil {
		s.pieces = make(map[string]struct{})
	}
	for i := range len(form) - pieceSize + 1 {
		s.pieces[form[i:i+pieceSize]] = struct{}{}
	}
}

// Excerpt masks the secrets in text as Text does, and truncates the result to limit
// bytes, which "..." then shows. Truncated before, half a secret would not be recognised.
func (s *Set) Excerpt(text string, limit int) string {
	text = s.Text(text)
	if len(text) > limit {
		text = text[:limit] + "..."
	}
	return text
}

// Text returns text with Replacement in place of secrets, in any case of their letters. Pass
// the whole text before truncating it: a truncated secret may not be recognised. A nil
// Set masks nothing.
func (s *Set) Text(text string) string {
	if s == nil {
		return text
	}
	s.addForms()
	if len(s.shortForms) == 0 && len(s.pieces) == 0 {
		return text
	}
	masked := s.find(lowerASCII(text))
	var b strings.Builder
	for i := range len(text) {
		switch {
		case !masked[i]:
			b.WriteByte(text[i])
		case i == 0 || !masked[i-1]:
			b.WriteString(Replacement)
		}
	}
	return b.String()
}

// find returns for each byte of lower, a text in lower case, whether it is part of a secret.
func (s *Set) find(lower string) (masked []bool) {
	masked = make([]bool, len(lower))
	mark := func(from, n int) {
		for i := from; i < from+n; i++ {
			masked[i] = true
		}
	}
	for _, form := range s.shortForms {
		for from := 0; ; from++ {
			i := strings.Index(lower[from:], form)
			if i < 0 {
				break
			}
			from += i
			mark(from, len(form))
		}
	}
	for i := range max(0, len(lower)-pieceSize+1) {
		if _, ok := s.pieces[lower[i:i+pieceSize]]; ok {
			mark(i, pieceSize)
		}
	}
	return masked
}

// lowerASCII is strings.ToLower for ASCII only, which keeps all offsets.
func lowerASCII(text string) string {
	b := []byte(text)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
