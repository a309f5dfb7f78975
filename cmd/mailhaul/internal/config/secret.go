package config

import (
	"fmt"
	"io"
)

// Secret is text that no format verb and no encoder shows.
type Secret struct {
	// fmt does not call the methods of an unexported field but prints what is
	// in it: of a pointer, the address.
	text *string
}

const masked = "***"

// NewSecret makes a secret of text.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal returns the text.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String returns "***".
func (s Secret) String() string { return masked }

// Format writes "***" for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, masked) }

// MarshalText returns "***": encoding/json and yaml use it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(masked), nil }
