package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"
)

// SecretError means that the password could not be had. Err never holds it.
type SecretError struct{ Err error }

// Error returns "no password: cause".
func (e *SecretError) Error() string { return "no password: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *SecretError) Unwrap() error { return e.Err }

// MechanismError means that the server offers no mechanism that we know.
type MechanismError struct{ Offered []string }

// Error names what the server offers.
func (e *MechanismError) Error() string {
	if len(e.Offered) == 0 {
		return "the server offers no login"
	}
	return fmt.Sprintf("the server offers no login but %.200q", strings.Join(e.Offered, " "))
}

// Mechanism returns the strongest SASL mechanism for a login as User among
// those that the server offers, and its name: PLAIN (RFC 4616), else LOGIN.
// Both send the password as it is, so it must be called once the connection
// is as secure as Protection says. The error is a *SecretError or a
// *MechanismError.
func (s *Server) Mechanism(ctx context.Context, offered []string) (client sasl.Client, name string, err error) {
	for _, name := range []string{sasl.Plain, sasl.Login} {
		if !slices.ContainsFunc(offered, func(o string) bool { return strings.EqualFold(o, name) }) {
			continue
		}
		secret, err := s.secret(ctx)
		if err != nil {
			return nil, "", &SecretError{Err: err}
		}
		if name == sasl.Login {
			return &login{answers: []string{s.User, secret}}, name, nil
		}
		return sasl.NewPlainClient("", s.User, secret), name, nil
	}
	return nil, "", &MechanismError{Offered: offered}
}

func (s *Server) secret(ctx context.Context) (string, error) {
	if s.Secret == nil {
		return "", errors.New("none is configured")
	}
	return s.Secret(ctx)
}

// login is LOGIN (draft-murchison-sasl-login-00). Servers word the two
// questions as they like, and so only their order counts.
type login struct{ answers []string }

func (l *login) Start() (mech string, ir []byte, err error) { return sasl.Login, nil, nil }

func (l *login) Next([]byte) ([]byte, error) {
	if len(l.answers) == 0 {
		return nil, sasl.ErrUnexpectedServerChallenge
	}
	answer := l.answers[0]
	l.answers = l.answers[1:]
	return []byte(answer), nil
}
