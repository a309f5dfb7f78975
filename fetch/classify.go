package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

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
		return adviseLook(e.err)
	}
	for _, rule := range adviceRules {
		if class, hint, ok := rule(err); ok {
			return class, hint
		}
	}
	return adviseNetwork(err)
}

// adviseLook advises on the error of a look, which has delivered nothing.
func adviseLook(err error) (Class, string) {
	class, hint := advise(err)
	switch {
	case isOverBudget(err):
		hint = slowHint
	case hint == safeHint:
		hint = "nothing was changed; try again later"
	}
	return class, hint
}

// adviceRules are asked in this order, because an error may wrap several of those that
// they know: a refused login, for example, one of the connection. ok is false if a rule
// knows none of them.
var adviceRules = []func(error) (class Class, hint string, ok bool){
	adviseNoPoll, adviseLocal, adviseCommand, adviseHinted, adviseOffer, adviseLogin, adviseKerberos, adviseRefusal, adviseChannel,
}

// adviseNoPoll covers polls that did not take place, or whose failure may mean nothing.
func adviseNoPoll(err error) (Class, string, bool) {
	if _, ok := errors.AsType[*state.HeldError](err); ok {
		return ClassFine, "", true
	}
	if _, ok := errors.AsType[*PauseError](err); ok {
		return ClassFine, "", true
	}
	if _, ok := errors.AsType[*DoubtfulError](err); ok {
		return ClassRetry, "this login worked before: the server may be in trouble, and mailhaul tries again; if the password was changed, set the new one", true
	}
	return 0, "", false
}

// adviseLocal covers this machine, the state database and the sinks.
func adviseLocal(err error) (Class, string, bool) {
	// Too many open files: whatever could not be opened is not at fault.
	if errors.Is(err, syscall.EMFILE) {
		return ClassMachine, "raise the limit of open files (ulimit -n, LimitNOFILE), or lower parallel", true
	}
	if e, ok := errors.AsType[*state.Error](err); ok {
		switch {
		case state.IsMachineError(err):
			return ClassMachine, e.Hint, true
		case state.IsBusy(err):
			return ClassRetry, e.Hint, true
		default:
			return ClassOperator, e.Hint, true
		}
	}
	if e, ok := errors.AsType[*deliver.Error](err); ok {
		return classOf[e.Fault], e.Hint, true
	}
	return 0, "", false
}

var classOf = map[deliver.Fault]Class{
	deliver.FaultTemporary: ClassRetry,
	deliver.FaultMessage:   ClassRefused,
	deliver.FaultOperator:  ClassOperator,
	deliver.FaultMachine:   ClassMachine,
}

// adviseCommand covers what gives the account its secret, and the hooks.
func adviseCommand(err error) (Class, string, bool) {
	if e, ok := errors.AsType[*mech.SecretError](err); ok {
		switch {
		case deliver.FaultOf(e.Err) == deliver.FaultMachine:
			return ClassMachine, "", true // a new token could not be stored
		case e.Temporary():
			return ClassRetry, cmp.Or(e.Hint(), "the provider of the token could not be asked; try again later"), true
		default:
			return ClassOperator, cmp.Or(e.Hint(), fmt.Sprintf("check the account's %s options", e.Needs)), true
		}
	}
	if e, ok := errors.AsType[*HookError](err); ok {
		if e.Person {
			return ClassOperator, "check that the command of " + e.Hook + " is there and may be run", true
		}
		return ClassRetry, "the command of " + e.Hook + " failed; nothing was fetched", true
	}
	return 0, "", false
}

// adviseHinted covers errors of this package that say themselves what can be done.
func adviseHinted(err error) (Class, string, bool) {
	if e, ok := errors.AsType[*hintedError](err); ok {
		return e.class, e.hint, true
	}
	if isOverBudget(err) {
		return ClassRetry, "what was delivered is safe and the next poll goes on from there; " + slowHint, true
	}
	return 0, "", false
}

// adviseOffer covers a server that offers no mechanism which the account can use.
func adviseOffer(err error) (Class, string, bool) {
	e, ok := errors.AsType[*mech.OfferError](err)
	if !ok {
		return 0, "", false
	}
	if login, ok := errors.AsType[*LoginError](err); ok && len(login.Named) > 0 {
		return ClassOperator, login.namedHint() + ", or ask the provider", true
	}
	if e.Allowed == nil {
		return ClassOperator, "a server that wants a password needs one of the password options, one that wants a token oauth or token_command; or ask the provider", true
	}
	return ClassOperator, "allow one that the server offers with auth, or ask the provider", true
}

// adviseRefusal covers a server that refused a command, or the login.
func adviseRefusal(err error) (Class, string, bool) {
	e, ok := errors.AsType[*pop3proto.ReplyError](err)
	if !ok {
		return 0, "", false
	}
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
	class, hint := adviseReply(e, hint)
	return class, hint, true
}

// adviseChannel covers the way to the server, and its encryption.
func adviseChannel(err error) (Class, string, bool) {
	if errors.Is(err, pop3proto.ErrInjected) {
		return ClassOperator, mistrustHint, true
	}
	a, ok := channel.Advise(err)
	switch {
	case !ok:
		return 0, "", false
	case a.Person:
		return ClassOperator, a.Hint, true
	default:
		return ClassRetry, a.Hint, true
	}
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

// adviseNetwork covers all other errors: the connection could not be made, or it died.
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
		return ClassRetry, "some servers hang up over CAPA: if this goes on, and tls is none, name the way to log in, as in auth: user"
	}
	if _, ok := errors.AsType[*LoginError](err); ok && hungUp(err) {
		return ClassRetry, "some servers hang up on a wrong password: check it if this goes on"
	}
	return ClassRetry, safeHint
}

// Hints that several errors have.
const (
	slowHint     = "raise time_limit if the server is just slow"
	safeHint     = "what was delivered is safe; the next poll goes on from there"
	mistrustHint = "do not trust this network; tls: implicit leaves no room for it"
	passwordHint = "check user and password; some providers want POP3 switched on first, an app password, or oauth"
	reachHint    = "check server, its port and tls: is this where the provider has POP3, and is the network up?"
)
