package pop3proto

import "context"

// Noop does nothing but show that the server is there (RFC 1939 §5).
func (c *Client) Noop(ctx context.Context) error { return c.command(ctx, "NOOP") }

// Reset takes back every deletion of the session (RFC 1939 §5).
func (c *Client) Reset(ctx context.Context) error { return c.command(ctx, "RSET") }

// UTF8 asks the server for messages as they are rather than as downgraded to
// ASCII (RFC 6856 §2.1). It is to be called before the login.
func (c *Client) UTF8(ctx context.Context) error { return c.command(ctx, "UTF8") }
