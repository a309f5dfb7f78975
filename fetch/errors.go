package fetch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// ConnectError is a failure of the connection to a server: it could not be
// opened or secured, or it broke.
type ConnectError struct {
	Addr string // host:port
	Err  error
}

// Error returns "addr: cause".
func (e *ConnectError) Error() string { return e.Addr + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// LoginError is a login that failed: the server refused the user, or there is
// no way to log in that both sides allow.
type LoginError struct {
	Account    string // its name in the configuration
	Addr, User string
	Mechanism  string // empty if none could be tried
	// Named are the mechanisms that the server offers and the account could use, if
	// Account.Auth named them; the strongest first.
	Named []string
	Err   error
}

// Error returns "addr: cannot log in as user: cause".
func (e *LoginError) Error() string {
	return fmt.Sprintf("%s: cannot log in as %q: %v", e.Addr, e.User, e.Err)
}

// Unwrap returns the cause.
func (e *LoginError) Unwrap() error { return e.Err }

// UnconfirmedError means that the server did not confirm the deletions of a
// session with a +OK to QUIT. The next poll asks for them again, but looks at the headers
// first: by then the server may have given the unique-ids to other messages.
type UnconfirmedError struct {
	Addr     string
	Messages int
	Err      error
}

// Error says how many messages are concerned.
func (e *UnconfirmedError) Error() string {
	return fmt.Sprintf("%s: the server did not confirm the deletion of %s: %v", e.Addr, number(e.Messages, "message", "messages"), e.Err)
}

// Unwrap returns the cause.
func (e *UnconfirmedError) Unwrap() error { return e.Err }

// tornError means that the connection died while a message was received. That message
// is torn, and may have been the cause.
type tornError struct{ err error }

func (e *tornError) Error() string { return e.err.Error() }
func (e *tornError) Unwrap() error { return e.err }

// HookError means that a command that the configuration wants run before or after a poll
// failed.
type HookError struct {
	Hook   string // its key in the configuration
	Err    error
	Person bool // it cannot be run at all
}

// Error returns "hook: cause".
func (e *HookError) Error() string { return e.Hook + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *HookError) Unwrap() error { return e.Err }

// greetingError means that the connection could not be made, or broke before the greeting.
type greetingError struct{ err error }

func (e *greetingError) Error() string { return e.err.Error() }
func (e *greetingError) Unwrap() error { return e.err }

// PauseError means that an account was not polled because its server wants no login yet.
type PauseError struct {
	Until time.Time
	Why   string
}

// Error says until when, and why.
func (e *PauseError) Error() string {
	return fmt.Sprintf("the server wants a pause until %s: %s", e.Until.Local().Format(time.DateTime), e.Why)
}

// DoubtfulError is a login that was refused although logins worked until recently. Servers
// in trouble refuse good passwords, so a person is needed only if it happens again and again.
type DoubtfulError struct{ Err error }

// Error is that of the refusal.
func (e *DoubtfulError) Error() string { return e.Err.Error() }

// Unwrap returns the refusal.
func (e *DoubtfulError) Unwrap() error { return e.Err }

// hintedError is an error that always has the same class and hint.
type hintedError struct {
	text  string
	class Class
	hint  string
}

// Error returns the text.
func (e *hintedError) Error() string { return e.text }

var (
	// errNotEncrypted stops a login that would send a password in the clear.
	errNotEncrypted = &hintedError{
		"the connection is not encrypted", ClassOperator,
		"use tls: implicit or tls: starttls; tls: none would send the password in the clear",
	}
	// errNoDates means that old mail cannot be told from new.
	errNoDates = &hintedError{
		"the server gives no headers, which tell old mail from new", ClassOperator,
		"adopt all mail, without a date; or fetch it",
	}
	// errUIDLRefused means that the server no longer gives the unique-ids by which its
	// messages are remembered.
	errUIDLRefused = &hintedError{
		"the server refuses UIDL, by which it named its messages before: nothing is fetched until it does so again", ClassRetry,
		"the server may have trouble of its own; if it has given up UIDL for good, mailhaul state forget ACCOUNT begins anew, and fetches again what is kept there",
	}
	// errUnclear means that some messages have lost their unique-ids. It follows a text
	// that says so.
	errUnclear = &hintedError{
		"may be among those that were adopted: left alone", ClassRetry,
		"the server does not name all its messages; try again later",
	}
	// errNameless means that some kept messages cannot be told from new ones. It follows a
	// text that says so.
	errNameless = &hintedError{
		"cannot be told from what was fetched, since the server has no TOP: left alone", ClassOperator,
		"they are fetched where each message is deleted once it is delivered: with keep: false for this account, and without --keep",
	}
	// errUIDsChanged means that adopted messages may be listed under other unique-ids.
	errUIDsChanged = &hintedError{
		"none of the messages that were adopted is listed, and as many others are: the server may have given them new unique-ids", ClassOperator,
		"if you deleted them yourself, have mailhaul forget them, with mailhaul state forget ACCOUNT UID ...; else adopt them again, with mailhaul state adopt ACCOUNT",
	}
	// errNoIdentity means that nothing tells a kept message from a new one.
	errNoIdentity = &hintedError{
		"the server knows neither UIDL nor TOP, so that kept messages cannot be told from new ones", ClassOperator,
		"set keep: false for this account, so that each message is deleted once it is delivered",
	}
	// errClear means that the server did not answer the handshake after STLS, but went on
	// in the clear.
	errClear = &hintedError{"the server went on in the clear after STLS", ClassOperator, mistrustHint}
	// errStopped means that a poll did not begin because the program is to end.
	errStopped = &hintedError{"not polled: asked to stop", ClassRetry, ""}
	// errSilent means that a poll did not begin because its server answers no account.
	errSilent = &hintedError{"not polled: the server has not answered for the accounts before", ClassRetry, ""}
)

// ErrCutShort means that a poll, or a look, was cancelled before its end. It is nobody's
// fault, and says nothing about the account.
var ErrCutShort error = &hintedError{"cut short: asked to stop", ClassRetry, ""}

// cutShort returns err, or ErrCutShort in its place if err says no more than that ctx was
// cancelled, or how something failed because of that.
func cutShort(ctx context.Context, err error) error {
	if !errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	cancelled := errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))
	if class := Classify(err); class == ClassRetry || class == ClassOperator && cancelled {
		return ErrCutShort
	}
	return err
}

// lookError is the error of a look or a dry run, which would not have delivered or
// changed anything.
type lookError struct{ err error }

func (e *lookError) Error() string { return e.err.Error() }
func (e *lookError) Unwrap() error { return e.err }

// lookFailed returns the error of a look that failed with err.
func lookFailed(ctx context.Context, err error) error {
	return &lookError{cutShort(ctx, orOverBudget(ctx, err))}
}

// isReply reports whether err is the server's refusal of one command, after which the
// connection can be used.
func isReply(err error) bool {
	_, ok := errors.AsType[*pop3proto.ReplyError](err)
	return ok && !errors.Is(err, pop3proto.ErrBroken)
}

// faultOf returns the fault of a sink's error; -1 for any other error.
func faultOf(err error) deliver.Fault {
	if e, ok := errors.AsType[*deliver.Error](err); ok {
		return e.Fault
	}
	return -1
}

// isSinkTrouble reports whether err is one sink's own trouble, which is no reason for
// other sinks to stop.
func isSinkTrouble(err error) bool {
	f := faultOf(err)
	return f == deliver.FaultTemporary || f == deliver.FaultOperator
}
