package smtp

import (
	"cmp"
	"errors"
	"strings"

	"github.com/mailhaul/mailhaul/deliver"
)

// reporter reports what became of the messages of a batch. Refusals that may be
// those of all mail wait until the whole batch tells.
type reporter struct {
	sink   *Sink
	landed func(deliver.Receipt) error

	anyDelivered   bool              // somebody has got a message
	held           []deliver.Receipt // for want of a login, or of room
	sameRefusal    []deliver.Receipt // of all messages until now, for good, in the same words
	firstSender    string            // the sender of the first of those
	severalSenders bool              // they have several
}

// hold keeps the refusal of a message if it may be that of all mail.
func (v *reporter) hold(m *message, r deliver.Receipt) bool {
	switch {
	case asksLogin(r.Err) || isServerUnavailable(r.Err):
		v.held = append(v.held, r)
	case len(v.sameRefusal) == int(r.Ticket) && v.sink.mayConcernAllMail(m, r.Err) && (r.Ticket == 0 || sameReply(r.Err, v.sameRefusal[0].Err)):
		if len(v.sameRefusal) == 0 {
			v.firstSender = m.sender
		}
		v.severalSenders = v.severalSenders || m.sender != v.firstSender
		v.sameRefusal = append(v.sameRefusal, r)
	default:
		return false
	}
	return true
}

// report reports these receipts, and first those in alike: this verdict shows that
// they were not about all mail.
func (v *reporter) report(receipts ...deliver.Receipt) error {
	receipts, v.sameRefusal = append(v.sameRefusal, receipts...), nil
	for _, r := range receipts {
		if err := v.landed(r); err != nil {
			return err
		}
	}
	return nil
}

// finish is to be called after the last of n messages. Its error may be a refusal
// that is that of all mail. welcome says that the server wants no login for all.
func (v *reporter) finish(n int, welcome bool) error {
	if len(v.sameRefusal) == n && n > 1 && v.concernsAllMail() {
		e, _ := errors.AsType[*deliver.Error](v.sameRefusal[0].Err)
		e.Fault, e.Hint = deliver.FaultOperator, cmp.Or(e.Hint, allMailHint)
		return markBlameless(e)
	}
	if err := v.report(); err != nil {
		return err
	}
	for _, r := range v.held {
		e, _ := errors.AsType[*deliver.Error](r.Err)
		switch {
		case asksLogin(e) && welcome:
			e.Fault = deliver.FaultMessage // others need no login
		case asksLogin(e), !v.anyDelivered:
			return markUntaken(e)
		}
		if err := v.landed(r); err != nil {
			return err
		}
	}
	return nil
}

// concernsAllMail reports whether refusals in the same words are no refusals of one sender,
// of whom all the messages may be.
func (v *reporter) concernsAllMail() bool {
	r, _ := errors.AsType[*ReplyError](v.sameRefusal[0].Err)
	return v.severalSenders || v.sink.hasFixedSender() || r.blamesHello() || r.aboutRecipient()
}

// mayConcernAllMail reports whether the refusal of a message may be that of all mail: one of
// this machine, or of recipients who are those of all mail. It is not if it is
// about the sender, or if somebody has the message.
func (s *Sink) mayConcernAllMail(m *message, refusal error) bool {
	e, ok := errors.AsType[*ReplyError](refusal)
	switch {
	case !ok || !e.isPermanent() || len(m.pending) < len(m.recipients):
		return false
	case !s.hasFixedSender() && (e.aboutSender() || strings.Contains(e.Text, cmp.Or(m.sender, "<>"))):
		return false
	default:
		return e.blamesHello() || e.Verb == "RCPT" && len(s.to) > 0
	}
}

// hasFixedSender reports whether all mail has one sender, whoever it is from.
func (s *Sink) hasFixedSender() bool { return s.o.Sender != "" || s.o.NullSender }

// sameReply reports whether two refusals are in the same words.
func sameReply(a, b error) bool {
	e, _ := errors.AsType[*ReplyError](a)
	f, _ := errors.AsType[*ReplyError](b)
	return *e == *f
}
