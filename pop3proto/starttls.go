package pop3proto

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"
)

// StartTLS upgrades the connection (RFC 2595 §4). It is to be called before
// the login. What the server said of its capabilities is forgotten, and how it
// ended its lines: that came in the clear. If the server refuses, with a
// *ReplyError, the session goes on in the clear, and it is for the caller not to
// let it. A handshake that fails breaks the client. If data came behind the
// server's +OK, the error is an ErrInjected.
func (c *Client) StartTLS(ctx context.Context, cfg *tls.Config) error {
	const verb = "STLS"
	if _, ok := c.TLS(); ok {
		return errors.New("STLS: the connection has TLS already")
	}
	done, err := c.start(ctx)
	if err != nil {
		return err
	}
	defer done()
	if _, err := c.exchange(verb, verb); err != nil {
		return err
	}
	// RFC 2595 §2.4; CVE-2011-0411 and its many sisters. Here, and not at the
	// next command, for these bytes came in the clear.
	if len(c.w.pending()) > 0 {
		return c.w.fail(ErrInjected)
	}
	// So did the greeting, and with it how the server ends its lines: whoever made it
	// end in a bare LF would have a mail's author end its body early, see dot.
	c.caps, c.w.ends = Capabilities{}, endUnknown
	conn := tls.Client(c.w.conn, cfg)
	c.w.raw.SetDeadline(time.Now().Add(c.opts.Timeout))
	if err := conn.HandshakeContext(ctx); err != nil {
		return c.w.failIO(fmt.Errorf("TLS handshake: %w", err), "no TLS handshake from server")
	}
	c.w.conn = conn
	return nil
}
