package pop3proto

import (
	"context"
	"errors"
	"net"
)

// Quit asks the server to carry out the session's deletions and hangs up,
// whatever the outcome. Only nil means that the deletions are real: after
// -ERR, a *ReplyError, some messages may remain (RFC 1939 §6), and without an
// answer nobody knows.
func (c *Client) Quit(ctx context.Context) error {
	defer c.Close()
	if err := c.command(ctx, "QUIT"); err != nil {
		return err
	}
	// TLS says goodbye too, or some servers log an error.
	c.w.conn.Close()
	c.w.fail(net.ErrClosed)
	return nil
}

// ignoreClosed makes closing twice no error.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
