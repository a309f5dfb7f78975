// Package remote connects sinks to their servers: by TCP or a UNIX socket, with verified
// TLS, with a login that never sends a password unencrypted unless the user asked for
// that, and with timeouts for every read and write.
//
// remote.go has the Server, conn.go the connection and its timeouts, auth.go and login.go
// the login, errors.go the faults and hints, pool.go the unused connections, and line.go
// reads lines before TLS.
package remote

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// Security is how a connection is protected.
type Security int

const (
	// ImplicitTLS is TLS from the first byte (RFC 8314 §3).
	ImplicitTLS Security = iota
	// StartTLS begins unencrypted and must change to TLS before the login. Connect
	// returns the unencrypted connection; the package of the protocol starts TLS.
	StartTLS
	// PlainText is never encrypted. A password can be read on the way.
	PlainText
)

const (
	// defaultTimeout is what RFC 5321 §4.5.3.2 gives a server to answer most
	// commands.
	defaultTimeout = 5 * time.Minute
	connectTimeout = 30 * time.Second
)

// Server says how to reach a server. A Server is not changed by its methods.
type Server struct {
	// Name is what the user calls the sink, for hints; it may be empty.
	Name string
	// Addr is host:port, or the absolute path of a UNIX socket.
	Addr string
	// Security is how the connection is protected. A UNIX socket is
	// PlainText whatever this says: it does not leave the machine.
	Security Security
	// TLS says what to verify; channel.Trust makes it. Without it, or without its
	// ServerName, the certificate must be for the host in Addr. Without it, the
	// certificate must be from an authority that the system trusts, and TLS 1.2 is
	// the oldest version.
	TLS *tls.Config
	// Timeout is how long the server may send no octet and accept none. 0 is 5 minutes
	// (RFC 5321 §4.5.3.2). Connecting, TLS included, takes 30 seconds at most, or
	// Timeout if that is less.
	Timeout time.Duration
	// User is the name to log in with; if it is empty, there is no login.
	User string
	// Secret returns the password. It is called once for each login.
	Secret func(context.Context) (string, error)
	// Token returns an access token of OAuth 2.0, to log in with instead of a password.
	// It is called once for each login. Its error may have the methods Temporary() bool,
	// which reports whether it may work later without the user, and Hint() string, which
	// returns what the user can do.
	Token func(context.Context) (string, error)
	// TokenRefused, if not nil, is called with a token that the server has refused.
	TokenRefused func(token string)
	// Kerberos says where GSSAPI finds its tickets, to log in with instead of a password.
	Kerberos *mech.Kerberos
	// Auth are the names in package mech of the mechanisms that are allowed. nil allows
	// all except those with Info.OnlyNamed.
	Auth []string
	// Service is the name of the protocol, also for GSSAPI and DIGEST-MD5: "imap",
	// "smtp" or "lmtp".
	Service string
	// Via says how to connect. It is ignored if Dial is not nil.
	Via channel.Via
	// Dial connects to the server; nil uses Via.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// isUnixSocket reports whether Addr is the path of a UNIX socket.
func (s *Server) isUnixSocket() bool { return filepath.IsAbs(s.Addr) }

// Protection returns how the connection is protected: Security, except for a UNIX socket.
func (s *Server) Protection() Security {
	if s.isUnixSocket() {
		return PlainText
	}
	return s.Security
}

// Secure does a TLS handshake over a connection. It closes the connection if that fails.
func (s *Server) Secure(ctx context.Context, conn net.Conn) (net.Conn, error) {
	return channel.Secure(ctx, conn, channel.Named(s.TLS, s.Addr))
}

// ForgetTLSSession makes the next connection begin a new TLS session. It is called after a
// connection has failed, for which a resumed session may be the reason.
func (s *Server) ForgetTLSSession() { channel.Forget(s.TLS) }

// Connect opens a connection, with TLS if that is implicit. A read or a write fails if no
// octet is read or written for Timeout; deadlines that are set on the connection can only
// shorten that. After the first error of a read or a write, all others fail at once. The
// error of Connect is a *ReachError of the network, the name lookup or TLS. Fail makes a
// *deliver.Error of it.
func (s *Server) Connect(ctx context.Context) (net.Conn, error) {
	ctx, cancel := channel.Within(ctx, min(s.EffectiveTimeout(), connectTimeout))
	defer cancel()
	dial, network := s.Dial, "tcp"
	if dial == nil {
		dial = s.Via.DialContext
	}
	if s.isUnixSocket() {
		network = "unix"
	}
	raw, err := dial(ctx, network, s.Addr)
	if err != nil {
		return nil, &ReachError{err}
	}
	c := &conn{Conn: raw, timeout: s.EffectiveTimeout()}
	if s.Protection() != ImplicitTLS {
		return c, nil
	}
	secure, err := s.Secure(ctx, c)
	if _, ok := errors.AsType[*channel.ResumeError](err); ok {
		return s.Connect(ctx) // this time without the old TLS session
	}
	if err != nil {
		s.ForgetTLSSession()
		return nil, &ReachError{err}
	}
	return secure, nil
}

// EffectiveTimeout returns Timeout, or its default if it is 0.
func (s *Server) EffectiveTimeout() time.Duration { return cmp.Or(s.Timeout, defaultTimeout) }
