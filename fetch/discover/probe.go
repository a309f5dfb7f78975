package discover

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/mailhaul/mailhaul/pop3proto"
)

// probe returns nil if the server greets, with a certificate that is valid for its name.
func (f *Finder) probe(ctx context.Context, s Server) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout())
	defer cancel()
	dial := f.Dial
	if dial == nil {
		dial = (&net.Dialer{Resolver: f.Resolver}).DialContext
	}
	conn, err := dial(ctx, "tcp", s.Addr())
	if err != nil {
		return err
	}
	defer conn.Close()
	cfg := &tls.Config{ServerName: s.Host, RootCAs: f.RootCAs, MinVersion: tls.VersionTLS12}
	opts := &pop3proto.Options{Timeout: f.timeout()}
	if !s.StartTLS {
		tc := tls.Client(conn, cfg)
		if err := tc.HandshakeContext(ctx); err != nil {
			return err
		}
		conn = tc
	}
	c, err := pop3proto.NewClient(ctx, conn, opts)
	if err != nil {
		return err
	}
	defer c.Close()
	if s.StartTLS {
		if err := c.StartTLS(ctx, cfg); err != nil {
			return err
		}
	}
	_ = c.Quit(ctx) // a courtesy to the server: the probe has succeeded
	return nil
}
