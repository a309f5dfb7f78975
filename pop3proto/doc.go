// Package pop3proto is a POP3 client: RFC 1939, with CAPA (RFC 2449), STLS
// (RFC 2595), response codes (RFC 2449 §8, RFC 3206), SASL (RFC 5034) and UTF8
// (RFC 6856). It knows the protocol and nothing of what is done with the mail.
//
// A Client is used by one goroutine at a time; only Close may be called from
// another. Every command takes a context and returns soon after it ends.
// Besides, no wait for the server's next byte is longer than Options.Timeout.
//
// Errors come in two kinds. After a *ReplyError, the server's -ERR, the
// session goes on. Whatever leaves the two ends out of step (a connection
// that is cut, silence, a reply that is none, a context that ends between a
// command and its reply) breaks the client for good: that error and every
// later one is an ErrBroken, and all that is left is Close. Nobody
// resynchronises by guessing.
//
// Nothing a server says is believed without a bound: lines, listings, rounds
// of authentication. Only the bodies of messages have none; they are streamed
// and never held in memory.
package pop3proto
