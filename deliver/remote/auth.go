package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// OfferError means that the server offers no mechanism that can be used.
type OfferError = mech.OfferError

// Mechanism returns a Login as User on conn, by the strongest SASL mechanism that the server
// offers and Auth allows, and the name of the mechanism. Login.Do does the login. The error
// is a *mech.SecretError or an *OfferError.
//
// With a password, the strongest is SCRAM (RFC 5802, RFC 7677), bound to the TLS connection
// if the server supports that, and then PLAIN (RFC 4616) and LOGIN. On a connection that
// others can read, CRAM-MD5 comes before these two, which send the password as it is: so
// Mechanism must be called after STARTTLS. With a Token, it is OAUTHBEARER (RFC 7628) and
// then XOAUTH2; with Kerberos, GSSAPI.
func (s *Server) Mechanism(ctx context.Context, conn net.Conn, offered []string) (login *Login, name string, err error) {
	login = &Login{cred: mech.Credentials{User: s.User, Service: s.Service, PlusOffered: mech.OffersPlus(offered)}}
	cred := &login.cred
	if tc, ok := conn.(*tls.Conn); ok {
		state := tc.ConnectionState()
		cred.TLS = &state
	}
	if host, port, err := net.SplitHostPort(s.Addr); err == nil && !s.isUnixSocket() {
		cred.Host = host
		cred.Port, _ = strconv.Atoi(port) // 0 if it is the name of a service
	}
	for _, m := range mech.Strongest(s.isUnixSocket() || s.Protection() != PlainText) {
		if !s.allows(m) || m.NeedsTLS && cred.TLS == nil {
			continue
		}
		if !slices.ContainsFunc(offered, func(o string) bool { return strings.EqualFold(o, m.Name) }) {
			continue
		}
		login.mechanism = m.Name
		if err = s.loadSecret(ctx, m.Needs, login); err == nil {
			login.client, err = mech.New(ctx, m.Name, *cred)
		}
		if err != nil {
			return nil, "", &mech.SecretError{Needs: m.Needs, Err: err}
		}
		return login, strings.ToUpper(m.Name), nil
	}
	return nil, "", &OfferError{Offered: offered, Allowed: s.Auth}
}

// configuredProof returns what the server is shown in a login, by the fields that are set.
func (s *Server) configuredProof() mech.Proof {
	switch {
	case s.Token != nil:
		return mech.Token
	case s.Kerberos != nil:
		return mech.Ticket
	case s.Secret == nil && channel.ShowsCertificate(s.TLS):
		return mech.Certificate
	default:
		return mech.Password
	}
}

// allows reports whether Auth allows a mechanism, and what it needs is configured.
func (s *Server) allows(m mech.Info) bool {
	named := slices.Contains(s.Auth, m.Name)
	switch {
	case !named && (len(s.Auth) > 0 || m.OnlyNamed):
		return false
	case m.Needs == mech.Certificate:
		// If a password is configured, too, the certificate may only be for TLS.
		return channel.ShowsCertificate(s.TLS) && (named || s.configuredProof() == mech.Certificate)
	default:
		return m.Needs == s.configuredProof()
	}
}

// Password returns the password for a login by a command that is no SASL mechanism, and a
// Login whose Mask masks it. The error is a *mech.SecretError.
func (s *Server) Password(ctx context.Context) (string, *Login, error) {
	login := new(Login)
	if err := s.loadSecret(ctx, mech.Password, login); err != nil {
		return "", nil, &mech.SecretError{Needs: mech.Password, Err: err}
	}
	return login.cred.Password, login, nil
}

// AllowsPassword reports whether there is a password, and Auth allows to send it as it is, by
// a command that is no SASL mechanism.
func (s *Server) AllowsPassword() bool {
	return s.configuredProof() == mech.Password && s.Secret != nil && (len(s.Auth) == 0 || slices.Contains(s.Auth, "login"))
}

// loadSecret sets the credentials of a login by what the mechanism needs. The login masks
// them from then on.
func (s *Server) loadSecret(ctx context.Context, needs mech.Proof, login *Login) (err error) {
	cred := &login.cred
	switch needs {
	case mech.Certificate:
		cred.Authzid = s.User // a certificate may be valid for several users
	case mech.Ticket:
		cred.Kerberos = *s.Kerberos
	case mech.Token:
		cred.Token, err = s.Token(ctx)
		login.secrets.Add(cred.Token)
		if token := cred.Token; s.TokenRefused != nil {
			login.onTokenRefused = func() { s.TokenRefused(token) }
		}
	default:
		if s.Secret == nil {
			return errors.New("none is configured")
		}
		cred.Password, err = s.Secret(ctx)
		login.secrets.Add(cred.Password)
	}
	return err
}
