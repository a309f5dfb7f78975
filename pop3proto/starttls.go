package pop3proto

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"
)

// StartTLS upgrades the connection to TLS with STLS (RFC 2595 §4). Call it before
// the login. Capabilities that the server announced in the clear are discarded. If
// the server refuses, with a *ReplyError, the session goes on in the clear, and the
// caller must decide whether to use it. A failed handshake breaks the client. The
// error is ErrInjected if data followed the server's +OK.
func (c *Client) StartTLS(ctx context.Context, cfg *tls.Config) error {
	const verb = "STLS"
	if _, ok := c.TLS(); ok {
		return errors.New("STLS: the connection has TLS already")
	}
	end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if _, err := c.exchange(verb, verb); err != nil {
		return err
	}
	// CVE-2011-0411: bytes that came in the clear must not be taken for replies
	// received over TLS.
	if len(c.w.buffered()) > 0 {
		return c.w.fail(ErrInjected)
	}
	// The greeting came in the clear as well. If an attacker had changed its CRLF
	// to LF, a bare LF could end the body of a mail early.
	c.caps, c.w.eol = Capabilities{}, eolUnknown
	conn := tls.Client(c.w.conn, cfg)
	c.w.raw.SetDeadline(time.Now().Add(c.opts.Timeout))
	if err := conn.HandshakeContext(ctx); err != nil {
		return c.w.failIO(fmt.Errorf("TLS handshake: %w", err), "no TLS handshake from server")
	}
	c.w.conn = conn
	return nil
}
