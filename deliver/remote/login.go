package remote

import (
	"cmp"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"

	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// Login is our side of a login by a SASL mechanism, a sasl.Client. It remembers
// what it sent, since servers repeat that in what they say. The zero Login
// hides what Hide is told.
type Login struct {
	client  sasl.Client
	user    string
	secrets []string
	failed  error // of the mechanism, which does not accept what the server says
}

// LoginError means that a mechanism did not accept what the server said, or
// that the server told the mechanism why it refuses.
type LoginError struct{ Err error }

// Error returns the mechanism's reason.
func (e *LoginError) Error() string { return e.Err.Error() }

// Unwrap returns the mechanism's reason.
func (e *LoginError) Unwrap() error { return e.Err }

// Start implements sasl.Client.
func (l *Login) Start() (name string, response []byte, err error) {
	name, response, err = l.client.Start()
	return name, l.sent(response, err), err
}

// Next implements sasl.Client.
func (l *Login) Next(challenge []byte) ([]byte, error) {
	response, err := l.client.Next(challenge)
	return l.sent(response, err), err
}

func (l *Login) sent(response []byte, err error) []byte {
	if l.failed == nil {
		l.failed = err
	}
	if string(response) != l.user { // LOGIN sends it alone
		l.Hide(string(response))
	}
	return response
}

// Finish returns what to make of the end of the login: err, or a *LoginError
// where the mechanism, and not the server, ended it, is not content with its
// end or knows the reason for it.
func (l *Login) Finish(err error) error {
	if f, ok := l.client.(interface{ Done(error) error }); ok {
		done := f.Done(err)
		if _, refused := errors.AsType[*mech.OAuthError](done); refused || err == nil && l.failed == nil {
			l.failed = done
		}
	}
	if l.failed != nil {
		return &LoginError{Err: l.failed}
	}
	return err
}

// Hide has Mask hide a secret, also in base64 and in a quoted string.
func (l *Login) Hide(secret string) {
	if secret == "" {
		return
	}
	l.secrets = append(l.secrets, secret, base64.StdEncoding.EncodeToString([]byte(secret)),
		strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(secret))
	// The longest first: it may hold another.
	slices.SortFunc(l.secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
}

// Mask returns text without the secrets. It must see the whole of what a
// server said: a cut may leave half a secret. A nil Login hides nothing.
func (l *Login) Mask(text string) string {
	if l == nil {
		return text
	}
	var pairs []string
	for _, s := range l.secrets {
		pairs = append(pairs, s, "***")
	}
	return strings.NewReplacer(pairs...).Replace(text)
}
