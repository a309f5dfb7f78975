package remote

import (
	"context"
	"errors"

	"github.com/emersion/go-sasl"

	"github.com/mailhaul/mailhaul/pop3proto/mask"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// Login is the client's side of a login by a SASL mechanism. It implements sasl.Client. It
// keeps what it has sent, since servers repeat that in their replies, for Mask.
type Login struct {
	mechanism      string
	cred           mech.Credentials
	client         sasl.Client
	secrets        mask.Set
	onTokenRefused func() // is called if the server refuses the token; may be nil
	err            error  // of the mechanism, which did not accept what the server sent
}

// LoginError means that a mechanism did not accept what the server sent, or that the server
// told the mechanism why it refuses the login.
type LoginError struct{ Err error }

// Error returns the text of the mechanism's error.
func (e *LoginError) Error() string { return e.Err.Error() }

// Unwrap returns the mechanism's error.
func (e *LoginError) Unwrap() error { return e.Err }

// LimitInitialResponse bounds the initial response. If it has more than room octets in
// base64, it is only sent when the server asks for it.
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

// noteResponse keeps what Start or Next returns.
func (l *Login) noteResponse(response []byte, err error) []byte {
	if l.err == nil {
		l.err = err
	}
	l.secrets.AddMessage(string(response))
	return response
}

// Do calls exchange, which logs in to the server with the Login as the sasl.Client. It
// returns the error of exchange, or a *LoginError if the mechanism has ended the login, does
// not accept how it ended, or knows why the server refuses it.
//
// If the server does not support how SCRAM was bound to the TLS connection, Do calls exchange
// again, with another binding. So if the mechanism fails, exchange must cancel the login in
// a way that the connection can still be used.
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

// outcome returns the error of a login; err is that of the exchange.
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

// Mask masks the secrets in text from the server. The text must not be cut before: that may
// leave half a secret. A nil Login masks nothing.
func (l *Login) Mask(text string) string {
	if l == nil {
		return text
	}
	return l.secrets.Text(text)
}
