package pop3proto

import "context"

// Noop sends NOOP (RFC 1939 §5), which succeeds if the session is usable.
func (c *Client) Noop(ctx context.Context) error { return c.simpleCommand(ctx, "NOOP") }
