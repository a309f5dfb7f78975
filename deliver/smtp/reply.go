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
	// Verb is the command that was refused. It is "message" for what DATA
	// sent, and empty for the connection.
	Verb string
	// Code is the reply code: 4xx for now, 5xx for good.
	Code int
	// Enhanced is the enhanced status code (RFC 3463), or empty.
	Enhanced string
	// Text is what else the server said, as it said it, cut to 300 octets.
	Text string
}

// Error returns the refusal in the server's words, quoted.
func (e *ReplyError) Error() string {
	s := fmt.Sprintf("the server refuses %s: %03d", cmp.Or(e.Verb, "the connection"), e.Code)
	if e.Enhanced != "" {
		s += " " + e.Enhanced
	}
	return fmt.Sprintf("%s %q", s, e.Text)
}

// isPermanent reports whether the same would be refused again.
func (e *ReplyError) isPermanent() bool { return e.Code/100 == 5 }

// endsSession reports whether the server hangs up (RFC 5321 §3.8).
func (e *ReplyError) endsSession() bool { return e.Code == 421 }

// asksLogin reports whether a refusal is one of the connection as it is set
// up, and would meet every message: RFC 4954 §6 and RFC 3207 §4 have the
// server ask so for a login, another login, or encryption. Some servers ask so
// at RCPT, too, for recipients who are not their own.
func asksLogin(refusal error) bool {
	e, ok := errors.AsType[*ReplyError](refusal)
	return ok && (e.Code == 530 || e.Code == 534 || e.Code == 535 || e.Code == 538)
}

// helo matches the command in the text of a refusal, but not within an address.
var helo = regexp.MustCompile(`(?i)(^|[\s/])(helo|ehlo)([\s/:]|$)`)

// blamesHello reports whether a refusal is about the name in our EHLO. Some servers send it
// only at RCPT.
func (e *ReplyError) blamesHello() bool {
	return e.isPermanent() && e.Verb != "message" && helo.MatchString(e.Text)
}

// aboutSender and aboutRecipient report whether a refusal for good is that of an
// address (RFC 3463 §3.2).
func (e *ReplyError) aboutSender() bool { return e.Enhanced == "5.1.7" || e.Enhanced == "5.1.8" }

func (e *ReplyError) aboutRecipient() bool {
	return e.Verb == "RCPT" && strings.HasPrefix(e.Enhanced, "5.1.") && !e.aboutSender()
}

// isTooManyRecipients reports whether a refusal of RCPT says that the server takes no more
// recipients at once (RFC 5321 §4.5.3.1.10, where 552 stands for 452, too), as
// far as it says anything: 452 may be a mailbox that is full (RFC 3463 §3.6).
func isTooManyRecipients(refusal error) bool {
	e, ok := errors.AsType[*ReplyError](refusal)
	return ok && (e.Code == 452 || e.Code == 552) &&
		(e.Enhanced == "" || strings.HasSuffix(e.Enhanced, ".5.3"))
}

const (
	maxText      = 300
	helloHint    = "set hello to a name that the server takes, such as this machine's full one"
	allMailHint  = "ask the server's operator why it takes no mail from this machine; some servers want a login first"
	passwordHint = "check user and password of the sink; some servers want a login before they take mail"
)

// asReplyError makes a *ReplyError of what go-smtp tells of a refusal: of a reply
// of 4xx or 5xx, after which both sides know where they are. Other errors stay
// as they are, but for what the server said in them, which is cut and quoted.
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

// isServerUnavailable reports whether a refusal says that the server itself has no room, or is
// not there for anybody, for now (RFC 3463 §3.4). One of greylisting says
// something else: each message waits by itself then. At RCPT, 452 may be too many
// recipients.
func isServerUnavailable(refusal error) bool {
	e, ok := errors.AsType[*ReplyError](refusal)
	return ok && (e.Enhanced == "4.3.1" || e.Enhanced == "4.3.2" ||
		e.Code == 452 && e.Enhanced == "" && e.Verb != "RCPT")
}

// maskSecrets takes the secrets of a login out of what the server said to it.
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

// errReply is the error of a reply that is not one, or not one to what was
// asked.
var errReply = errors.New("the server's reply makes no sense")

func clip(s string) string { return s[:min(len(s), maxText)] }

// refusalFault returns the fault of a refusal: by the server, or because of what the server
// has announced.
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

// Refusals that save the server a message that it says it will not take.
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
