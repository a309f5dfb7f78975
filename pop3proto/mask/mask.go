// Package mask takes secrets out of what a server says. Servers repeat what
// they are sent, in errors above all, and not always as it was: in base64, in
// hexadecimal, as a part of a URL, or in pieces.
package mask

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
)

// part is the length of the pieces of a secret that are taken out, in bytes,
// and of any longer ones. What is shorter may be a piece of anything.
const part = 8

// hidden stands where a secret was.
const hidden = "***"

// Set is the secrets to take out. The zero Set has none. It is for one
// goroutine at a time.
type Set struct {
	secrets, messages []string            // that were added and are not in the forms yet
	short             []string            // whole forms shorter than part
	parts             map[string]struct{} // all pieces of part bytes of the longer ones
}

// Add has Text take out a secret, and every piece of eight bytes or more of it:
// as it is, in base64 wherever in a longer text it was encoded, in hexadecimal,
// as in a URL, and as in a quoted string.
func (s *Set) Add(secret string) { s.secrets = append(s.secrets, secret) }

// AddMessage has Text take out a message that holds secrets, in base64, as SASL
// sends it.
func (s *Set) AddMessage(message string) { s.messages = append(s.messages, message) }

// learn finds the forms of what was added. Most logins work, and nobody asks
// for them.
func (s *Set) learn() {
	for _, secret := range s.secrets {
		s.add(secret)
		if len(secret) < 3 {
			continue // its forms would be found in everything
		}
		quoted := fmt.Sprintf("%q", secret)
		for _, form := range []string{quoted[1 : len(quoted)-1], url.QueryEscape(secret), url.PathEscape(secret)} {
			if form != secret {
				s.add(form)
			}
		}
		s.add(hex.EncodeToString([]byte(secret)))
		s.add(base64.StdEncoding.EncodeToString([]byte(secret)))
		for before := range 3 {
			s.addBase64(before, secret)
		}
	}
	for _, message := range s.messages {
		s.add(base64.StdEncoding.EncodeToString([]byte(message)))
	}
	s.secrets, s.messages = nil, nil
}

// addBase64 adds what is certain of the base64 of a secret with so many bytes
// before it, and anything behind it.
func (s *Set) addBase64(before int, secret string) {
	raw := append(make([]byte, before), secret...)
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		form := encoding.EncodeToString(raw)
		// Each character holds six bits: those of the first may be another's,
		// too, and those of the last.
		first := (before*8 + 5) / 6
		last := len(raw) * 8 / 6
		if last-first >= 3 {
			s.add(form[first:last])
		}
	}
}

func (s *Set) add(form string) {
	form = lower(form)
	if len(form) < part {
		if form != "" {
			s.short = append(s.short, form)
		}
		return
	}
	if s.parts == nil {
		s.parts = make(map[string]struct{})
	}
	for i := range len(form) - part + 1 {
		s.parts[form[i:i+part]] = struct{}{}
	}
}

// Text returns text with "***" in the place of secrets, whatever the case of
// their letters. It must see the whole of what a server said: a cut may leave
// too little to know a secret by. A nil Set hides nothing.
func (s *Set) Text(text string) string {
	if s == nil {
		return text
	}
	s.learn()
	if len(s.short) == 0 && len(s.parts) == 0 {
		return text
	}
	low := lower(text)
	secret := make([]bool, len(text))
	mark := func(from, n int) {
		for i := from; i < from+n; i++ {
			secret[i] = true
		}
	}
	for _, form := range s.short {
		for from := 0; ; from++ {
			i := strings.Index(low[from:], form)
			if i < 0 {
				break
			}
			from += i
			mark(from, len(form))
		}
	}
	for i := range max(0, len(low)-part+1) {
		if _, ok := s.parts[low[i:i+part]]; ok {
			mark(i, part)
		}
	}
	var b strings.Builder
	for i := range len(text) {
		switch {
		case !secret[i]:
			b.WriteByte(text[i])
		case i == 0 || !secret[i-1]:
			b.WriteString(hidden)
		}
	}
	return b.String()
}

// lower is strings.ToLower for ASCII alone, which keeps every byte in its place.
func lower(text string) string {
	b := []byte(text)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
