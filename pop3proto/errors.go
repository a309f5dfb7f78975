package pop3proto

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// ErrBroken is what every error is, in the sense of errors.Is, from the first
// failure on that leaves client and server out of step. The first cause is
// wrapped beside it.
var ErrBroken = errors.New("connection is broken")

// ErrInjected means that somebody sent data in the clear behind the server's
// +OK to STLS, to have it taken for the server's own once TLS is up. The
// client is broken then.
var ErrInjected = errors.New("data in the clear behind the reply to STLS: somebody tampers with the connection")

// ErrControl means that a user name or password holds what no command can.
// Nothing was sent.
var ErrControl = errors.New("user name or password holds a CR, LF or NUL")

var (
	// errLooping is returned by commands inside a loop over messages.
	errLooping = errors.New("command inside a loop over messages")
	// errRecalled is returned by the body of a message whose turn is over.
	errRecalled = errors.New("message read after its turn")
)

// brokenError is a cause that broke the client.
type brokenError struct{ cause error }

func (e *brokenError) Error() string   { return e.cause.Error() }
func (e *brokenError) Unwrap() []error { return []error{ErrBroken, e.cause} }

// silenceError says that the server did nothing for too long.
type silenceError struct {
	what string
	wait time.Duration
}

func (e *silenceError) Error() string {
	return fmt.Sprintf("%s for %gs", e.what, e.wait.Seconds())
}

func (e *silenceError) Unwrap() error { return os.ErrDeadlineExceeded }
func (e *silenceError) Timeout() bool { return true }

// CapabilitiesError is a connection that the server ended, or was silent on, when it
// was asked what it can do. Some do that to whatever they do not know, although they
// are to refuse it (RFC 1939 §3).
type CapabilitiesError struct{ Err error }

// Error returns the cause and what it came upon.
func (e *CapabilitiesError) Error() string {
	return e.Err.Error() + ", when it was asked what it can do (CAPA)"
}

// Unwrap returns the cause.
func (e *CapabilitiesError) Unwrap() error { return e.Err }

// AheadError is a server that hung up over several commands which came at once, or was
// silent after it had answered the first: it may have dropped the others. Some do that
// although they offer PIPELINING.
type AheadError struct{ Err error }

// Error returns the cause and what it came upon.
func (e *AheadError) Error() string {
	return e.Err.Error() + ", when several commands were sent at once"
}

// Unwrap returns the cause.
func (e *AheadError) Unwrap() error { return e.Err }

// ProtocolError means that the server sent what the protocol does not allow
// at that point, or more than this package is ready to take.
type ProtocolError struct {
	Verb string // the command it answered; "greeting" before the first
	Want string // what was expected, in words
	Got  string // what came, cut to about 80 bytes; may be empty
}

// Error returns a line for a person, with the server's bytes quoted.
func (e *ProtocolError) Error() string {
	s := e.Verb + ": expected " + e.Want
	if e.Got != "" {
		s += fmt.Sprintf(", the server sent %q", e.Got)
	}
	return s
}
