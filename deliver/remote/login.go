package remote

import (
	"context"
	"errors"

	"github.com/emersion/go-sasl"

	"github.com/mailhaul/mailhaul/pop3proto/mask"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// Login is our side of a login by a SASL mechanism, a sasl.Client. It remembers
// what it sent, since servers repeat that in what they say.
type Login struct {
	mechanism      string
	cred           mech.Credentials
	client         sasl.Client
	secrets        mask.Set
	onTokenRefused func() // is told that a token was; nil if nobody wants to know
	err            error  // of the mechanism, which does not accept what the server says
}

// LoginError means that a mechanism did not accept what the server said, or
// that the server told the mechanism why it refuses.
type LoginError struct{ Err error }

// Error returns the mechanism's reason.
func (e *LoginError) Error() string { return e.Err.Error() }

// Unwrap returns the mechanism's reason.
func (e *LoginError) Unwrap() error { return e.Err }

// LimitInitialResponse has the first response wait until the server asks for it if it has
// more than room octets in base64.
func (l *Login) LimitInitialResponse(room int) {
	l.client = mech.WithShortInitialResponse(l.client, room)
}

// Start implements sasl.Client.
func (l *Login) Start() (name string, response []byte, err error) {
	name, response, err = l.client.Start()
	return name, l.noteResponse(response, err), err
}

// Next implements sasl.Client.
func (l *Login) Next(challenge []byte) ([]byte, error) {
	response, err := l.client.Next(challenge)
	return l.noteResponse(response, err), err
}

func (l *Login) noteResponse(response []byte, err error) []byte {
	if l.err == nil {
		l.err = err
	}
	l.secrets.AddMessage(string(response))
	return response
}

// Do has exchange speak to the server, with the Login as its mechanism, and
// returns what to make of the end: exchange's error, or a *LoginError where the
// mechanism, and not the server, ended the login, is not content with its end or
// knows the reason for it. Where the server does not know how SCRAM was bound to
// the TLS connection, exchange does it once more, with another binding; so it
// must end what the mechanism breaks off in a way that leaves the connection
// good for that.
func (l *Login) Do(ctx context.Context, exchange func() error) error {
	err := l.outcome(exchange())
	if !l.cred.Rebind(err) {
		return err
	}
	if l.client, err = mech.New(ctx, l.mechanism, l.cred); err != nil {
		return err
	}
	l.err = nil
	return l.outcome(exchange())
}

func (l *Login) outcome(err error) error {
	if f, ok := l.client.(interface{ Done(error) error }); ok {
		done := f.Done(err)
		if _, refused := errors.AsType[*mech.OAuthError](done); refused || err == nil && l.err == nil {
			l.err = done
			if refused && l.onTokenRefused != nil {
				l.onTokenRefused()
			}
		}
	}
	if l.err != nil {
		return &LoginError{Err: l.err}
	}
	return err
}

// Mask returns text without the secrets. It must see the whole of what a
// server said: a cut may leave half a secret. A nil Login hides nothing.
func (l *Login) Mask(text string) string {
	if l == nil {
		return text
	}
	return l.secrets.Text(text)
}
