package pop3proto

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// ErrBroken matches, with errors.Is, the error that left client and server out of
// step and every error after it. They also wrap the original cause.
var ErrBroken = errors.New("connection is broken")

// ErrInjected means that data in the clear followed the server's +OK to STLS. An
// attacker sends it to have it taken for replies received over TLS. The client is
// broken.
var ErrInjected = errors.New("data in the clear behind the reply to STLS: somebody tampers with the connection")

// ErrControl means that a user name or password contains CR, LF or NUL, which no
// command can carry. Nothing was sent.
var ErrControl = errors.New("user name or password holds a CR, LF or NUL")

var (
	// errInLoop is returned by commands inside a loop over messages.
	errInLoop = errors.New("command inside a loop over messages")
	// errTurnOver is returned by Message.Read after the message's turn of the loop.
	errTurnOver = errors.New("message read after its turn")
)

// brokenError wraps the cause that broke the client.
type brokenError struct{ cause error }

func (e *brokenError) Error() string   { return e.cause.Error() }
func (e *brokenError) Unwrap() []error { return []error{ErrBroken, e.cause} }

// timeoutError means that the server was silent, or took no data, for too long.
type timeoutError struct {
	what string
	wait time.Duration
}

func (e *timeoutError) Error() string {
	return fmt.Sprintf("%s for %gs", e.what, e.wait.Seconds())
}

func (e *timeoutError) Unwrap() error { return os.ErrDeadlineExceeded }
func (e *timeoutError) Timeout() bool { return true }

// CapabilitiesError means that the server hung up or fell silent when it was sent
// CAPA. Some do that for any command that they do not know, although RFC 1939 §3
// requires -ERR.
type CapabilitiesError struct{ Err error }

// Error returns the cause and mentions CAPA.
func (e *CapabilitiesError) Error() string {
	return e.Err.Error() + ", when it was asked what it can do (CAPA)"
}

// Unwrap returns the cause.
func (e *CapabilitiesError) Unwrap() error { return e.Err }

// AheadError means that the server hung up on several commands sent at once, or
// replied to some and then fell silent: it may have dropped the others. Some do that
// although they offer PIPELINING.
type AheadError struct{ Err error }

// Error returns the cause and mentions that commands were sent at once.
func (e *AheadError) Error() string {
	return e.Err.Error() + ", when several commands were sent at once"
}

// Unwrap returns the cause.
func (e *AheadError) Unwrap() error { return e.Err }

// ProtocolError means that the server sent something that the protocol does not
// allow at that point, or that exceeds a limit of this package.
type ProtocolError struct {
	Verb string // the command it replied to, or "greeting"
	Want string // a description of what was expected
	Got  string // what the server sent, truncated to about 80 bytes; may be empty
}

// Error returns one line of text, with the server's bytes quoted.
func (e *ProtocolError) Error() string {
	s := e.Verb + ": expected " + e.Want
	if e.Got != "" {
		s += fmt.Sprintf(", the server sent %q", e.Got)
	}
	return s
}

// hungUp reports whether err is that the server closed the connection.
func hungUp(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}
