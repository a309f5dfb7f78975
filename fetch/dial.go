package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto"
)

const defaultSilence = 60 * time.Second

// maxListing is how many messages a maildrop may hold. A listing without end
// then costs 256 MiB of memory at most.
const maxListing = 1_500_000

// connect dials the server and returns a client that is greeted and, unless
// the server is PlainText, encrypted and verified.
func (s *Server) connect(ctx context.Context) (*pop3proto.Client, error) {
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, &ConnectError{Addr: s.Addr(), Err: err}
	}
	if s.KPOP != nil {
		if err := s.authenticate(ctx, conn); err != nil {
			conn.Close()
			return nil, err
		}
	}
	c, err := pop3proto.NewClient(ctx, conn, &pop3proto.Options{
		Timeout: s.silence(), Window: s.Window, MaxMessages: maxListing,
	})
	if err != nil {
		conn.Close()
		return nil, &ConnectError{Addr: s.Addr(), Err: &greetingError{err}}
	}
	if s.Security == StartTLS {
		if err := c.StartTLS(ctx, s.tlsConfig()); err != nil {
			c.Close()
			return nil, &ConnectError{Addr: s.Addr(), Err: err}
		}
	}
	return c, nil
}

func (s *Server) silence() time.Duration {
	if s.Silence > 0 {
		return s.Silence
	}
	return defaultSilence
}

func (s *Server) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.silence(), errSilence(s.silence()))
	defer cancel()
	dial := s.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", s.Addr())
	if err != nil || s.Security != ImplicitTLS {
		return conn, causeOf(ctx, err)
	}
	tc := tls.Client(conn, s.tlsConfig())
	if err := tc.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, causeOf(ctx, err)
	}
	return tc, nil
}

// causeOf replaces an error that comes of a context's end by the reason for
// that end.
func causeOf(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// errSilence is the error of a server that lets us wait for too long.
type errSilence time.Duration

func (d errSilence) Error() string {
	return fmt.Sprintf("no answer for %v", time.Duration(d))
}

// FingerprintError is the error of a server whose certificate is not the one
// that the account expects.
type FingerprintError struct {
	// Got is the SHA-256 of the certificate that the server showed.
	Got [sha256.Size]byte
}

// Error names the certificate's own fingerprint, so that it can be compared
// with one learned over another channel.
func (e *FingerprintError) Error() string {
	return "the certificate's fingerprint is not tls_fingerprint but " + hex.EncodeToString(e.Got[:])
}

func (s *Server) matchFingerprint(cs tls.ConnectionState) error {
	sum := sha256.Sum256(cs.PeerCertificates[0].Raw)
	if !bytes.Equal(sum[:], s.Fingerprint) {
		return &FingerprintError{Got: sum}
	}
	return nil
}
