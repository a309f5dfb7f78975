// Package pop3proto is a POP3 client: RFC 1939 with CAPA (RFC 2449), STLS
// (RFC 2595), response codes (RFC 2449 §8, RFC 3206), SASL (RFC 5034) and UTF8
// (RFC 6856). It implements the protocol and leaves the mail to its caller.
//
// # A session
//
// [NewClient] takes a connection and reads the greeting. [Client.StartTLS]
// upgrades it, and [Client.Login], [Client.APOP] or [Client.Authenticate] logs
// in. [Client.List] returns a [Listing]; its entries go to [Client.Retrieve],
// which lends each [Message] for one turn of a loop. [Client.DeleteAndQuit]
// deletes messages and ends the session. [Client.Close] ends it without
// deleting any. [Client.Capabilities] tells what the server supports; only a
// server that offers PIPELINING is sent a command before it has replied to the
// last one.
//
// One goroutine at a time may use a Client; only Close may be called from
// another. Every command returns soon after its context ends, and no wait for
// the server is longer than Options.Timeout.
//
// # Errors
//
// A [*ReplyError] is the server's -ERR. The session goes on. Anything that may
// leave client and server out of step breaks the client: a lost connection, a
// timeout, a malformed reply, a context that ends between a command and its
// reply. That error and all later ones match [ErrBroken], and only Close is left
// to call. The client never tries to resynchronise.
//
// The client limits the length of lines, listings and authentication exchanges.
// Message bodies have no limit: they are streamed and never held in memory.
//
// # Files
//
//	client.go             Options, Client, and the frame of every command
//	wire.go, dot.go       the buffered connection; bodies of multi-line replies
//	reply.go, errors.go   status lines, response codes and error types
//	caps.go, starttls.go  CAPA and STLS
//	login.go, auth.go     USER and PASS, APOP; AUTH with SASL
//	list.go, merge.go     STAT, LIST and UIDL; merging them into one Listing
//	pipeline.go           sending commands ahead of their replies
//	retrieve.go           RETR and TOP, on a pipeline
//	message.go            the Message that a loop lends
//	delete.go, quit.go    DELE, also on a pipeline, and QUIT
//	trace.go              the dialogue with secrets masked
package pop3proto
