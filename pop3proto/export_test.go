package pop3proto

import "context"

// Noop shows that the server is there, and that both ends are in step (RFC
// 1939 §5).
func (c *Client) Noop(ctx context.Context) error { return c.simpleCommand(ctx, "NOOP") }
