package fetch

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
)

const defaultSilence = 60 * time.Second

// maxListing is the largest number of messages in a maildrop. It bounds the memory that
// an endless listing costs to 256 MiB.
const maxListing = 1_500_000

// connect dials the server and returns a client that is greeted and, unless
// the server is PlainText, encrypted and verified.
func (s *Server) connect(ctx context.Context) (*pop3proto.Client, error) {
	c, err := s.connectOnce(ctx)
	if _, ok := errors.AsType[*channel.ResumeError](err); ok {
		c, err = s.connectOnce(ctx) // this time there is no TLS session to resume
	}
	return c, err
}

// connectOnce is one attempt of connect.
func (s *Server) connectOnce(ctx context.Context) (*pop3proto.Client, error) {
	if s.Preconnect != nil {
		if err := s.Preconnect(ctx); err != nil {
			return nil, err
		}
	}
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, &ConnectError{Addr: s.Addr(), Err: &greetingError{err}}
	}
	if s.KPOP != nil {
		if err := s.authenticateKPOP(ctx, conn); err != nil {
			conn.Close()
			return nil, err
		}
	}
	c, err := pop3proto.NewClient(ctx, conn, &pop3proto.Options{
		Timeout: s.silence(), Window: s.Window, MaxMessages: maxListing, Trace: s.Trace,
	})
	if err != nil {
		return nil, &ConnectError{Addr: s.Addr(), Err: &greetingError{err}}
	}
	if s.Security == StartTLS {
		config := channel.Named(s.TLS, s.Addr())
		if err := channel.NotResumed(config, c.StartTLS(ctx, config)); err != nil {
			c.Close()
			if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
				err = fmt.Errorf("%w: %w", errClear, err)
			}
			return nil, &ConnectError{Addr: s.Addr(), Err: err}
		}
	}
	return c, nil
}

func (s *Server) silence() time.Duration { return cmp.Or(s.Silence, defaultSilence) }

// dial opens the connection, and encrypts it if TLS comes before the greeting.
func (s *Server) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := channel.Within(ctx, s.silence())
	defer cancel()
	dial := s.Dial
	if dial == nil {
		dial = s.Via.DialContext
	}
	conn, err := dial(ctx, "tcp", s.Addr())
	if err != nil || s.Security != ImplicitTLS {
		return conn, err
	}
	return channel.Secure(ctx, conn, channel.Named(s.TLS, s.Addr()))
}
