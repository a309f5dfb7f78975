package smtp

import (
	"cmp"
	"errors"
	"fmt"
	"net/textproto"
	"regexp"
	"strings"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/remote"
)

// ReplyError is a server's refusal (RFC 5321 §4.2).
type ReplyError struct {
	// Verb is the command that was refused. It is "message" for the text after DATA, and
	// empty for the greeting.
	Verb string
	// Code is the reply code: 4xx is a temporary refusal, and 5xx a permanent one.
	Code int
	// Enhanced is the enhanced status code (RFC 3463), or empty.
	Enhanced string
	// Text is the rest of the reply, unescaped and cut to 300 octets.
	Text string
}

// Error returns the command, the codes and the text, quoted.
func (e *ReplyError) Error() string {
	s := fmt.Sprintf("the server refuses %s: %03d", cmp.Or(e.Verb, "the connection"), e.Code)
	if e.Enhanced != "" {
		s += " " + e.Enhanced
	}
	return fmt.Sprintf("%s %q", s, e.Text)
}

// isPermanent reports whether the server would refuse the same again.
func (e *ReplyError) isPermanent() bool { return e.Code/100 == 5 }

// endsSession reports whether the server closes the connection (RFC 5321 §3.8).
func (e *ReplyError) endsSession() bool { return e.Code == 421 }

// asksLogin reports whether the server asks for a login, another login or encryption
// (RFC 4954 §6, RFC 3207 §4), so that it would refuse every message. But some servers ask
// for a login at RCPT, and only for recipients of other servers.
func asksLogin(refusal error) bool {
	e, ok := errors.AsType[*ReplyError](refusal)
	return ok && (e.Code == 530 || e.Code == 534 || e.Code == 535 || e.Code == 538)
}

// helo matches HELO or EHLO in the text of a refusal, but not within an address.
var helo = regexp.MustCompile(`(?i)(^|[\s/])(helo|ehlo)([\s/:]|$)`)

// blamesHello reports whether a refusal is about the name in our EHLO. Some servers send it
// only at RCPT.
func (e *ReplyError) blamesHello() bool {
	return e.isPermanent() && e.Verb != "message" && helo.MatchString(e.Text)
}

// aboutSender reports whether the sender's address is permanently refused (RFC 3463 §3.2).
func (e *ReplyError) aboutSender() bool { return e.Enhanced == "5.1.7" || e.Enhanced == "5.1.8" }

// aboutRecipient reports whether a recipient's address is permanently refused (RFC 3463
// §3.2).
func (e *ReplyError) aboutRecipient() bool {
	return e.Verb == "RCPT" && strings.HasPrefix(e.Enhanced, "5.1.") && !e.aboutSender()
}

// isTooManyRecipients reports whether a refusal of RCPT may say that the transaction has too
// many recipients (RFC 5321 §4.5.3.1.10, where 552 has the meaning of 452, too). Without an
// enhanced code, 452 may also mean that a mailbox is full; with one, it is x.5.3 (RFC 3463
// §3.6).
func isTooManyRecipients(refusal error) bool {
	e, ok := errors.AsType[*ReplyError](refusal)
	return ok && (e.Code == 452 || e.Code == 552) &&
		(e.Enhanced == "" || strings.HasSuffix(e.Enhanced, ".5.3"))
}

const (
	maxText      = 300 // octets of a reply that an error may contain
	helloHint    = "set hello to a name that the server takes, such as this machine's full one"
	allMailHint  = "ask the server's operator why it takes no mail from this machine; some servers want a login first"
	passwordHint = "check user and password of the sink; some servers want a login before they take mail"
)

// asReplyError returns a *ReplyError for a reply of 4xx or 5xx to verb, and errReply, with
// the text cut and quoted, for any other reply that go-smtp does not expect. Other errors
// are returned unchanged.
func asReplyError(verb string, err error) error {
	e, ok := errors.AsType[*gosmtp.SMTPError](err)
	if ok && (e.Code/100 == 4 || e.Code/100 == 5) {
		r := &ReplyError{Verb: verb, Code: e.Code, Text: clip(e.Message)}
		if e.EnhancedCode[0] > 0 {
			r.Enhanced = fmt.Sprintf("%d.%d.%d", e.EnhancedCode[0], e.EnhancedCode[1], e.EnhancedCode[2])
		}
		return r
	}
	if _, protocol := errors.AsType[textproto.ProtocolError](err); ok || protocol {
		return fmt.Errorf("%w: %q", errReply, clip(err.Error()))
	}
	return err
}

// isServerUnavailable reports whether the server has no room or is out of service, for all
// messages (RFC 3463 §3.4). The refusals of greylisting have other codes, and concern one
// message each. At RCPT, 452 may mean too many recipients.
func isServerUnavailable(refusal error) bool {
	e, ok := errors.AsType[*ReplyError](refusal)
	return ok && (e.Enhanced == "4.3.1" || e.Enhanced == "4.3.2" ||
		e.Code == 452 && e.Enhanced == "" && e.Verb != "RCPT")
}

// maskSecrets masks the secrets of a login in the text of a reply.
func maskSecrets(login *remote.Login, err error) error {
	if e, ok := errors.AsType[*gosmtp.SMTPError](err); ok {
		said := *e
		said.Message = login.Mask(said.Message)
		return &said
	}
	if e, ok := errors.AsType[textproto.ProtocolError](err); ok {
		return textproto.ProtocolError(login.Mask(string(e)))
	}
	return err
}

// errReply is the error of a reply that is malformed or has an unexpected code.
var errReply = errors.New("the server's reply makes no sense")

// clip returns at most maxText octets of a reply.
func clip(s string) string { return s[:min(len(s), maxText)] }

// refusalFault returns the fault of a refusal, which is a *ReplyError or one of the errors
// below.
func refusalFault(refusal error) deliver.Fault {
	e, ok := errors.AsType[*ReplyError](refusal)
	switch {
	case asksLogin(refusal):
		return deliver.FaultOperator
	case ok && !e.isPermanent(), errors.Is(refusal, errUnanswered):
		return deliver.FaultTemporary
	default:
		return deliver.FaultMessage
	}
}

// recipientRefusal is the refusal of a recipient; to is empty if it concerns all of them.
type recipientRefusal struct {
	to  string
	why error
}

// errUnanswered is the temporary refusal of a recipient for whom the server did not answer.
var errUnanswered = errors.New("the server ended the session before it said whether it takes this recipient")

// These refusals are ours: the server has announced that it would not accept the message, or
// does not offer what the message needs.
var (
	errTooLarge      = errors.New("the message is too large for the server")
	errSenderUTF8    = errors.New("the sender has letters beyond ASCII, and the server does not know SMTPUTF8")
	errRecipientUTF8 = errors.New("the recipient has letters beyond ASCII, and the server does not know SMTPUTF8")
)

// hint returns what the user can do about a permanent refusal.
func (r recipientRefusal) hint() string {
	e, ok := errors.AsType[*ReplyError](r.why)
	switch {
	case errors.Is(r.why, errSenderUTF8):
		return "set sender to an address in ASCII, or null_sender"
	case errors.Is(r.why, errRecipientUTF8):
		return "give the recipient an address in ASCII, or use a server that knows SMTPUTF8"
	case errors.Is(r.why, errTooLarge), ok && e.Enhanced == "5.3.4": // RFC 3463 §3.4
		return "raise the server's limit for the size of a message"
	case asksLogin(r.why):
		return passwordHint
	case ok && e.blamesHello():
		return helloHint
	case ok && e.aboutRecipient():
		return "check the recipients in to"
	default:
		return ""
	}
}

// refusedError returns the error of a message that the server did not accept for all of its
// recipients. It is that of a temporary refusal, if there is one, so that the message is
// tried again.
func (s *Sink) refusedError(m *message, refusals []recipientRefusal) *deliver.Error {
	first := refusals[0]
	for _, r := range refusals {
		if refusalFault(r.why) < refusalFault(first.why) {
			first = r
		}
	}
	e := &deliver.Error{
		Fault: refusalFault(first.why), Target: s.o.Server.Addr,
		Op: "deliver", Err: first.why, Hint: first.hint(),
	}
	if first.to != "" {
		e.Op += " to " + first.to
	}
	switch n := len(refusals) - 1; {
	case n == 1:
		e.Op += " (1 more refusal)"
	case n > 1:
		e.Op += fmt.Sprintf(" (%d more refusals)", n)
	}
	if taken := len(m.recipients) - len(m.pending); taken > 0 {
		e.Op += fmt.Sprintf(" (%d of %d recipients have it)", taken, len(m.recipients))
	}
	return e
}
