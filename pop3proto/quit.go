package pop3proto

import (
	"context"
	"net"
)

const verbQuit = "QUIT"

// Quit asks the server to carry out the session's deletions and hangs up,
// whatever the outcome. Only nil means that the deletions are real: after
// -ERR, a *ReplyError, some messages may remain (RFC 1939 §6), and without an
// answer nobody knows.
func (c *Client) Quit(ctx context.Context) error {
	defer c.Close()
	if err := c.command(ctx, verbQuit); err != nil {
		return err
	}
	c.bye()
	return nil
}

// bye ends the connection in good order.
func (c *Client) bye() {
	c.w.conn.Close() // TLS says goodbye too, or some servers log an error
	c.w.fail(net.ErrClosed)
}

// Leave says QUIT and hangs up without waiting for the answer, which spares a
// round trip. It is for a session that has nothing to learn from the answer: it
// has deleted nothing. Nothing that the server sent is left unread, so that the
// connection is closed in order, QUIT first (RFC 9293 §3.6).
func (c *Client) Leave(ctx context.Context) error {
	defer c.Close()
	done, err := c.start(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := c.idle(verbQuit); err != nil {
		return err
	}
	c.w.put(verbQuit)
	if err := c.w.flush(); err != nil {
		return err
	}
	c.bye()
	return nil
}
