package mech

import "github.com/emersion/go-sasl"

// NewWithNonce is New with a nonce that an RFC has chosen.
func NewWithNonce(name string, c Credentials, nonce string) (sasl.Client, error) {
	c.nonce = nonce
	return New(name, c)
}
