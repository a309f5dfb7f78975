package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// SecretError means that the password or the access token could not be had.
// Err never holds it.
type SecretError struct {
	Needs mech.Proof // Password or Token
	Err   error
}

// Error returns "no password: cause".
func (e *SecretError) Error() string { return "no " + string(e.Needs) + ": " + e.Err.Error() }

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
// those that the server offers, and its name: SCRAM (RFC 5802, RFC 7677)
// before PLAIN (RFC 4616) and LOGIN, and on a connection that others can read
// CRAM-MD5 before these two, which send the password as it is. So it must be
// called once the connection is as secure as Protection says. With a Token it
// is OAUTHBEARER (RFC 7628) before XOAUTH2, and none that needs a password. The
// error is a *SecretError or a *MechanismError. Login.Finish has the last word
// on the login.
func (s *Server) Mechanism(ctx context.Context, offered []string) (login *Login, name string, err error) {
	needs, get := mech.Password, s.Secret
	switch {
	case s.Token != nil:
		needs, get = mech.Token, s.Token
	case s.Secret == nil && channel.ShowsCertificate(s.TLS):
		needs, get = mech.Certificate, func(context.Context) (string, error) { return "", nil }
	}
	for _, m := range mech.Strongest(s.Unix() || s.Protection() != PlainText) {
		// What binds itself to a TLS connection would have to be shown it.
		if m.Needs != needs || m.OnlyNamed || strings.HasSuffix(m.Name, "-plus") {
			continue
		}
		if !slices.ContainsFunc(offered, func(o string) bool { return strings.EqualFold(o, m.Name) }) {
			continue
		}
		if get == nil {
			return nil, "", &SecretError{needs, errors.New("none is configured")}
		}
		secret, err := get(ctx)
		if err != nil {
			return nil, "", &SecretError{needs, err}
		}
		client, err := mech.New(m.Name, s.credentials(secret))
		if err != nil {
			return nil, "", &SecretError{needs, err}
		}
		login := &Login{client: client, user: s.User}
		login.Hide(secret)
		return login, strings.ToUpper(m.Name), nil
	}
	return nil, "", &MechanismError{Offered: offered}
}

// credentials are what a mechanism is told, the secret being what Secret or
// Token returned.
func (s *Server) credentials(secret string) mech.Credentials {
	if secret == "" { // Strongest has a certificate log in only over TLS
		return mech.Credentials{Authzid: s.User, TLS: new(tls.ConnectionState)}
	}
	if s.Token == nil {
		return mech.Credentials{User: s.User, Password: secret}
	}
	c := mech.Credentials{User: s.User, Token: secret}
	if host, port, err := net.SplitHostPort(s.Addr); err == nil && !s.Unix() {
		c.Host = host
		c.Port, _ = strconv.Atoi(port) // the name of a service is left out
	}
	return c
}
