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
	// TLS is what to verify, as channel.Trust makes it. nil, or one without
	// ServerName, stands for the host's name; nil also for the system's
	// authorities and TLS 1.2.
	TLS *tls.Config
	// Timeout bounds silence: the wait for the peer's next byte, and for the
	// peer to take one. 0 is 5 minutes (RFC 5321 §4.5.3.2). Connecting, TLS
	// included, takes 30 seconds at most, or Timeout if that is less.
	Timeout time.Duration
	// User is the name to log in with; without one there is no login.
	User string
	// Secret returns the password. It is called once a login.
	Secret func(context.Context) (string, error)
	// Token returns an access token of OAuth 2.0, to log in with instead of a
	// password. It is called once a login. Its error may tell by a method
	// Temporary() bool that nobody is needed, and by Hint() string what to do.
	Token func(context.Context) (string, error)
	// TokenRefused, if not nil, is told a token that the server refused.
	TokenRefused func(token string)
	// Kerberos is where GSSAPI finds its tickets, to log in with instead of a
	// password.
	Kerberos *mech.Kerberos
	// Auth restricts the mechanisms, by their names in package mech; nil allows
	// all that need not be named.
	Auth []string
	// Service is the protocol's name for GSSAPI and DIGEST-MD5: "imap", "smtp"
	// or "lmtp".
	Service string
	// Via is how the connection is made, unless Dial, not nil, makes it.
	Via  channel.Via
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// isUnixSocket reports whether Addr is the path of a UNIX socket.
func (s *Server) isUnixSocket() bool { return filepath.IsAbs(s.Addr) }

// Protection is Security as it applies to Addr.
func (s *Server) Protection() Security {
	if s.isUnixSocket() {
		return PlainText
	}
	return s.Security
}

// Secure does a TLS handshake over a connection, which it closes if that fails.
func (s *Server) Secure(ctx context.Context, conn net.Conn) (net.Conn, error) {
	return channel.Secure(ctx, conn, channel.Named(s.TLS, s.Addr))
}

// ForgetTLSSession makes the next connection begin a new TLS session. It is called after a
// connection has failed, for which a resumed session may be the reason.
func (s *Server) ForgetTLSSession() { channel.Forget(s.TLS) }

// Connect opens a connection, with TLS if that is implicit. On the connection
// nothing blocks for longer than Timeout without a byte going over; deadlines
// set on it can only shorten that. After the first failure of a read or a
// write every other one fails at once. The error is a *ReachError of the network,
// the name lookup or TLS: Fail turns it into one of package deliver.
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
		return s.Connect(ctx) // now it is offered no session
	}
	if err != nil {
		s.ForgetTLSSession()
		return nil, &ReachError{err}
	}
	return secure, nil
}

// EffectiveTimeout returns Timeout, or its default if it is 0.
func (s *Server) EffectiveTimeout() time.Duration { return cmp.Or(s.Timeout, defaultTimeout) }
