package pop3proto

import (
	"context"
	"net"
)

const verbQuit = "QUIT"

// Quit ends the session with QUIT, which makes the server carry out its deletions,
// and closes the connection, whatever the outcome. The deletions are real only if
// the error is nil: after -ERR, a *ReplyError, some messages may remain (RFC 1939
// §6), and without a reply the outcome is unknown.
func (c *Client) Quit(ctx context.Context) error {
	defer c.Close()
	if err := c.simpleCommand(ctx, verbQuit); err != nil {
		return err
	}
	c.closeAfterQuit()
	return nil
}

// closeAfterQuit closes the connection cleanly.
func (c *Client) closeAfterQuit() {
	c.w.conn.Close() // with close_notify over TLS, or some servers log an error
	c.w.fail(net.ErrClosed)
}

// Leave sends QUIT and closes the connection without waiting for the reply, which
// saves a round trip. It is for sessions without deletions. It leaves nothing unread
// that has arrived, so that the system closes the connection in order, after QUIT
// (RFC 9293 §3.6).
func (c *Client) Leave(ctx context.Context) error {
	defer c.Close()
	end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := c.checkUnsolicited(verbQuit); err != nil {
		return err
	}
	c.w.queue(verbQuit)
	if err := c.w.flush(); err != nil {
		return err
	}
	c.closeAfterQuit()
	return nil
}
