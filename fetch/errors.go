package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
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

// cutError means that the connection died while a message was on its way. The message
// may have been the cause.
type cutError struct{ err error }

func (e *cutError) Error() string { return e.err.Error() }
func (e *cutError) Unwrap() error { return e.err }

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

// DoubtfulError is a login that was refused although the last ones were not. Servers in
// trouble refuse good passwords, so a person is needed only if it happens again and again.
type DoubtfulError struct{ Err error }

// Error is that of the refusal.
func (e *DoubtfulError) Error() string { return e.Err.Error() }

// Unwrap returns the refusal.
func (e *DoubtfulError) Unwrap() error { return e.Err }

// A finding is an error that always has the same class and hint.
type finding struct {
	text  string
	class Class
	hint  string
}

// Error returns the text.
func (f *finding) Error() string { return f.text }

var (
	// errNotEncrypted stops a login that would send a password in the clear.
	errNotEncrypted = &finding{
		"the connection is not encrypted", ClassOperator,
		"use tls: implicit or tls: starttls; tls: none would send the password in the clear",
	}
	// errNoDates means that old mail cannot be told from new.
	errNoDates = &finding{
		"the server gives no headers, which tell old mail from new", ClassOperator,
		"adopt all mail, without a date; or fetch it",
	}
	// errNoNames means that the server no longer gives the unique-ids by which its
	// messages are remembered.
	errNoNames = &finding{
		"the server refuses UIDL, by which it named its messages before: nothing is fetched until it does so again", ClassRetry,
		"the server may have trouble of its own; if it has given up UIDL for good, mailhaul state forget ACCOUNT begins anew, and fetches again what is kept there",
	}
	// errUnclear means that some messages have lost their unique-ids. It follows a text
	// that says so.
	errUnclear = &finding{
		"may be among those that were adopted: left alone", ClassRetry,
		"the server does not name all its messages; try again later",
	}
	// errNameless means that some kept messages cannot be told from new ones. It follows a
	// text that says so.
	errNameless = &finding{
		"cannot be told from what was fetched, since the server has no TOP: left alone", ClassOperator,
		"they are fetched where each message is deleted once it is delivered: with keep: false for this account, and without --keep",
	}
	// errRenamed means that adopted messages may be listed under other unique-ids.
	errRenamed = &finding{
		"none of the messages that were adopted is listed, and as many others are: the server may have given them new unique-ids", ClassOperator,
		"if you deleted them yourself, have mailhaul forget them, with mailhaul state forget ACCOUNT UID ...; else adopt them again, with mailhaul state adopt ACCOUNT",
	}
	// errNoIdentity means that nothing tells a kept message from a new one.
	errNoIdentity = &finding{
		"the server knows neither UIDL nor TOP, so that kept messages cannot be told from new ones", ClassOperator,
		"set keep: false for this account, so that each message is deleted once it is delivered",
	}
	// errClear means that the server did not answer the handshake after STLS, but went on
	// in the clear.
	errClear = &finding{"the server went on in the clear after STLS", ClassOperator, mistrustHint}
	// errStopped means that a poll did not begin because the program is to end.
	errStopped = &finding{"not polled: asked to stop", ClassRetry, ""}
	// errSilent means that a poll did not begin because its server answers no account.
	errSilent = &finding{"not polled: the server has not answered for the accounts before", ClassRetry, ""}
)

// ErrCutShort means that a poll, or a look, was cancelled before its end. It is nobody's
// fault, and says nothing about the account.
var ErrCutShort error = &finding{"cut short: asked to stop", ClassRetry, ""}

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

// Class says who has to act after an error, and when.
type Class int

const (
	// ClassFine means that nothing failed.
	ClassFine Class = iota
	// ClassRefused means that some messages stay on the server; the rest
	// went through.
	ClassRefused
	// ClassRetry means that the same may work at the next poll.
	ClassRetry
	// ClassOperator means that a person is needed, for a password, a certificate or a
	// path.
	ClassOperator
	// ClassMachine means that this machine is in trouble: a full disk, a
	// broken state database.
	ClassMachine
)

// String returns the class in a word: "fine", "refused", "retry",
// "person", "machine".
func (c Class) String() string {
	switch c {
	case ClassFine:
		return "fine"
	case ClassRefused:
		return "refused"
	case ClassRetry:
		return "retry"
	case ClassOperator:
		return "person"
	default:
		return "machine"
	}
}

// Classify returns the class of an error of this package, nil included.
func Classify(err error) Class {
	class, _ := advise(err)
	return class
}

// Hint returns what the user can do about an error, or "".
func Hint(err error) string {
	_, hint := advise(err)
	return hint
}

// advise is the one place that decides what class an error has, and what the user can do
// about it. Of several joined errors the worst counts.
func advise(err error) (Class, string) {
	if err == nil {
		return ClassFine, ""
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		class, hint := ClassFine, ""
		for _, e := range joined.Unwrap() {
			if c, h := advise(e); c > class {
				class, hint = c, h
			}
		}
		return class, hint
	}
	if e, ok := errors.AsType[*lookError](err); ok {
		class, hint := advise(e.err)
		switch {
		case isOverBudget(e.err):
			hint = slowHint
		case hint == safeHint:
			hint = "nothing was changed; try again later"
		}
		return class, hint
	}
	if _, ok := errors.AsType[*state.HeldError](err); ok {
		return ClassFine, ""
	}
	if _, ok := errors.AsType[*PauseError](err); ok {
		return ClassFine, ""
	}
	if _, ok := errors.AsType[*DoubtfulError](err); ok {
		return ClassRetry, doubtHint
	}
	// Too many open files: whatever could not be opened is not at fault.
	if errors.Is(err, syscall.EMFILE) {
		return ClassMachine, "raise the limit of open files (ulimit -n, LimitNOFILE), or lower parallel"
	}
	if e, ok := errors.AsType[*state.Error](err); ok {
		switch {
		case state.Machine(err):
			return ClassMachine, e.Hint
		case state.Busy(err):
			return ClassRetry, e.Hint
		default:
			return ClassOperator, e.Hint
		}
	}
	if e, ok := errors.AsType[*deliver.Error](err); ok {
		return classOf[e.Fault], e.Hint
	}
	if e, ok := errors.AsType[*mech.SecretError](err); ok {
		if deliver.FaultOf(e.Err) == deliver.FaultMachine {
			return ClassMachine, "" // a new token could not be stored
		}
		if e.Temporary() {
			return ClassRetry, cmp.Or(e.Hint(), "the provider of the token could not be asked; try again later")
		}
		return ClassOperator, cmp.Or(e.Hint(), fmt.Sprintf("check the account's %s options", e.Needs))
	}
	if e, ok := errors.AsType[*HookError](err); ok {
		if e.Person {
			return ClassOperator, "check that the command of " + e.Hook + " is there and may be run"
		}
		return ClassRetry, "the command of " + e.Hook + " failed; nothing was fetched"
	}
	if e, ok := errors.AsType[*finding](err); ok {
		return e.class, e.hint
	}
	if isOverBudget(err) {
		return ClassRetry, "what was delivered is safe and the next poll goes on from there; " + slowHint
	}
	if e, ok := errors.AsType[*mech.OfferError](err); ok {
		if login, ok := errors.AsType[*LoginError](err); ok && len(login.Named) > 0 {
			return ClassOperator, login.namedHint() + ", or ask the provider"
		}
		if e.Allowed == nil {
			return ClassOperator, "a server that wants a password needs one of the password options, one that wants a token oauth or token_command; or ask the provider"
		}
		return ClassOperator, "allow one that the server offers with auth, or ask the provider"
	}
	if class, hint, ok := adviseLogin(err); ok {
		return class, hint
	}
	if class, hint, ok := adviseKerberos(err); ok {
		return class, hint
	}
	if e, ok := errors.AsType[*pop3proto.ReplyError](err); ok {
		hint := ""
		if login, ok := errors.AsType[*LoginError](err); ok {
			hint = login.refusedHint()
			switch {
			case unknownLogin(e):
				hint = unknownLoginHint + hint
			case e.Verb == "USER" && len(login.Named) > 0: // it did not wait for the password
				hint = login.namedHint() + "; else " + hint
			}
		}
		return adviseReply(e, hint)
	}
	if errors.Is(err, pop3proto.ErrInjected) {
		return ClassOperator, mistrustHint
	}
	if a, ok := channel.Advise(err); ok {
		if a.Person {
			return ClassOperator, a.Hint
		}
		return ClassRetry, a.Hint
	}
	return adviseNetwork(err)
}

var classOf = map[deliver.Fault]Class{
	deliver.FaultTemporary: ClassRetry,
	deliver.FaultMessage:   ClassRefused,
	deliver.FaultOperator:  ClassOperator,
	deliver.FaultMachine:   ClassMachine,
}

// adviseReply classifies a server's refusal: by its response code if there is one (RFC 2449
// §8.1, RFC 3206), else by words that servers use. wrong is what to do if the refusal means
// that user or secret are wrong; it is empty if the command was no login.
func adviseReply(e *pop3proto.ReplyError, wrong string) (Class, string) {
	switch e.Code {
	case pop3proto.CodeInUse:
		return ClassRetry, "another program has the mailbox open; some servers take ten minutes to notice that it has gone"
	case pop3proto.CodeLoginDelay:
		return ClassRetry, "the server wants a longer pause between polls"
	case pop3proto.CodeSysTemp:
		return ClassRetry, "the server has trouble of its own; try again later"
	case pop3proto.CodeSysPerm:
		if wrong != "" {
			return ClassOperator, "the server says that this will not pass by itself: see whether POP3 is switched on in the settings of the mailbox, or ask its operator"
		}
		return ClassOperator, "the server says that this will not pass by itself: ask its operator"
	case pop3proto.CodeAuth:
		return ClassOperator, cmp.Or(wrong, passwordHint)
	}
	// A blocked account is not a locked mailbox.
	text := strings.ReplaceAll(strings.ToLower(e.Text), "blocked", "")
	for _, word := range []string{
		"lock", "busy", "in use", "wait", "try again", "try later", "temporar", "too many", "limit",
		"unavailable", "overload", "exceeded", "maximum", "once in", "too often", "frequently",
	} {
		if strings.Contains(text, word) {
			hint := "the server asks for patience; try again later"
			if wrong != "" && strings.Contains(text, "password") { // some servers list all possible reasons
				hint += "; if this goes on, " + wrong
			}
			return ClassRetry, hint
		}
	}
	if e.Verb == "STLS" {
		return ClassOperator, "the server refuses STARTTLS: try tls: implicit"
	}
	switch {
	case wrong != "":
		return ClassOperator, wrong
	case e.Verb == "DELE":
		return ClassRetry, "the mail stays there, and is not fetched again; if this goes on, ask the server's operator, or set keep: forever"
	case e.Verb == "QUIT":
		return ClassRetry, safeHint
	}
	return ClassRetry, ""
}

const slowHint = "raise time_limit if the server is just slow"

const safeHint = "what was delivered is safe; the next poll goes on from there"

const doubtHint = "this login worked before: the server may be in trouble, and mailhaul tries again; if the password was changed, set the new one"

const mistrustHint = "do not trust this network; tls: implicit leaves no room for it"

const passwordHint = "check user and password; some providers want POP3 switched on first, an app password, or oauth"

func adviseNetwork(err error) (Class, string) {
	if e, ok := errors.AsType[*pop3proto.ProtocolError](err); ok {
		if e.Verb == "greeting" {
			return ClassRetry, reachHint
		}
		return ClassRetry, ""
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return ClassRetry, reachHint
	}
	if _, ok := errors.AsType[*greetingError](err); ok {
		return ClassRetry, reachHint
	}
	if errors.Is(err, context.Canceled) {
		return ClassRetry, ""
	}
	if _, ok := errors.AsType[*pop3proto.CapabilitiesError](err); ok {
		return ClassRetry, capaHint
	}
	if _, ok := errors.AsType[*LoginError](err); ok && hungUp(err) {
		return ClassRetry, "some servers hang up on a wrong password: check it if this goes on"
	}
	return ClassRetry, safeHint
}

const capaHint = "some servers hang up over CAPA: if this goes on, and tls is none, name the way to log in, as in auth: user"

const reachHint = "check server, its port and tls: is this where the provider has POP3, and is the network up?"

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
