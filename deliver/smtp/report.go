package smtp

import (
	"cmp"
	"errors"
	"strings"

	"github.com/mailhaul/mailhaul/deliver"
)

// reporter reports the receipts of a batch. It holds back refusals that may concern all
// mail until the end of the batch shows whether they do.
type reporter struct {
	sink   *Sink
	landed func(deliver.Receipt) error

	anyDelivered   bool              // a message was delivered
	held           []deliver.Receipt // refused because a login or room is missing
	sameRefusal    []deliver.Receipt // all messages until now, if all were refused in the same words
	firstSender    string            // the sender of the first of sameRefusal
	severalSenders bool              // sameRefusal has messages of several senders
}

// hold holds back the refusal of a message if it may concern all mail, and reports
// whether it does.
func (v *reporter) hold(m *message, r deliver.Receipt) bool {
	switch {
	case asksLogin(r.Err) || isServerUnavailable(r.Err):
		v.held = append(v.held, r)
	case v.isSameRefusal(m, r):
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

// isSameRefusal reports whether all messages until now, with that of r, were refused in the
// same words, and the refusal may concern all mail.
func (v *reporter) isSameRefusal(m *message, r deliver.Receipt) bool {
	n := len(v.sameRefusal)
	if n != int(r.Ticket) || !v.sink.mayConcernAllMail(m, r.Err) {
		return false
	}
	return n == 0 || sameReply(r.Err, v.sameRefusal[0].Err)
}

// report reports the receipts, after those in sameRefusal: another outcome shows that
// these did not concern all mail.
func (v *reporter) report(receipts ...deliver.Receipt) error {
	receipts, v.sameRefusal = append(v.sameRefusal, receipts...), nil
	for _, r := range receipts {
		if err := v.landed(r); err != nil {
			return err
		}
	}
	return nil
}

// finish is called after the last of n messages. It reports what was held back, or returns
// a refusal that concerns all mail. rcptWithoutLogin is that of the sessions.
func (v *reporter) finish(n int, rcptWithoutLogin bool) error {
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
		case asksLogin(e) && rcptWithoutLogin:
			e.Fault = deliver.FaultMessage // other messages need no login
		case asksLogin(e), !v.anyDelivered:
			return markUntaken(e)
		}
		if err := v.landed(r); err != nil {
			return err
		}
	}
	return nil
}

// concernsAllMail reports whether the refusals in sameRefusal concern all mail, and not
// only the one sender of these messages.
func (v *reporter) concernsAllMail() bool {
	r, _ := errors.AsType[*ReplyError](v.sameRefusal[0].Err)
	return v.severalSenders || v.sink.hasFixedSender() || r.blamesHello() || r.aboutRecipient()
}

// mayConcernAllMail reports whether the refusal of a message may concern all mail: it is
// about this machine, or about recipients that all mail has. A refusal of the sender does
// not, nor one of a message that a recipient has.
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

// hasFixedSender reports whether the options give all mail the same sender.
func (s *Sink) hasFixedSender() bool { return s.o.Sender != "" || s.o.NullSender }

// sameReply reports whether two errors have the same *ReplyError.
func sameReply(a, b error) bool {
	e, _ := errors.AsType[*ReplyError](a)
	f, _ := errors.AsType[*ReplyError](b)
	return *e == *f
}
