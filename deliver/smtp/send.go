package smtp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"slices"
	"strings"
	"syscall"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/mailhaul/mailhaul/deliver/remote"
)

// maxRecipients is how many recipients go into one transaction: as many as
// every server must take (RFC 5321 §4.5.3.1.8).
const maxRecipients = 100

// result is the outcome of one transaction.
type result struct {
	delivered []string // the recipients for whom the server has accepted the message
	reply     string   // the server's reply to that
	refusals  []recipientRefusal
	// deferred is how many recipients, the last ones, the server did not accept in
	// this transaction because they were too many. They need another one.
	deferred int
}

// refuse adds the refusal of a recipient.
func (r *result) refuse(to string, why error) {
	r.refusals = append(r.refusals, recipientRefusal{to: to, why: why})
}

// refuseAll adds the refusal of the whole transaction.
func (r *result) refuseAll(why error) { r.refuse("", why) }

// brokenError means that a session cannot be used any more.
type brokenError struct {
	err error
	// retryable says that the end of the message was not sent, so that the server
	// cannot have accepted it.
	retryable bool
	// hasRefusal says that the server has refused the message, and that the result has
	// the refusals. It is set together with retryable if the server has refused some
	// recipients and not answered for the others.
	hasRefusal bool
}

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// send makes one transaction for the recipients in to. The message goes to those that the
// server accepts. The error is a *brokenError, which wraps a *readError if the spool could
// not be read; the result is valid even then.
func (ss *session) send(m *message, to []string, body io.Reader) (*result, error) {
	res := new(result)
	ss.mailAccepted = false
	if why := ss.foreseeRefusal(m); why != nil {
		res.refuseAll(why)
		return res, nil
	}
	why, err := ss.sendMail(m, to)
	if err != nil {
		return res, err
	}
	if why != nil {
		res.refuseAll(why)
		return res, ss.reset()
	}
	ss.mailAccepted = true
	accepted, err := ss.sendRecipients(to, res)
	if err != nil {
		return res, err
	}
	if len(accepted) == 0 {
		return res, ss.reset()
	}
	data, err := ss.client.Data()
	why, err = ss.splitError("DATA", err)
	if err != nil {
		return res, err
	}
	if why != nil {
		res.refuseAll(why)
		return res, ss.reset()
	}
	if err := ss.sendText(data, m, body, res); err != nil {
		return res, err
	}
	return res, ss.endData(data, res, accepted)
}

// foreseeRefusal returns why the server would refuse a message, by what it has announced;
// nil if nothing is known.
func (ss *session) foreseeRefusal(m *message) error {
	// RFC 1870 §6.1: the message would only be refused after it has been sent.
	if limit, ok := ss.client.MaxMessageSize(); ok && limit > 0 && m.size > int64(limit) {
		return fmt.Errorf("%w: it has %d octets, SIZE is %d", errTooLarge, m.size, limit)
	}
	if needsUTF8(m.sender) && !ss.offers("SMTPUTF8") {
		return errSenderUTF8
	}
	return nil
}

// sendMail sends MAIL, and returns the reply as splitError does.
func (ss *session) sendMail(m *message, to []string) (why, broken error) {
	wantsUTF8 := needsUTF8(m.sender) || slices.ContainsFunc(to, needsUTF8)
	opts := &gosmtp.MailOptions{Size: m.size, UTF8: wantsUTF8 && ss.offers("SMTPUTF8")}
	return ss.splitError("MAIL", ss.client.Mail(m.sender, opts))
}

// sendRecipients sends RCPT for the recipients in to, and returns those that the server
// accepts. It adds the refusals to res. The error is a *brokenError.
func (ss *session) sendRecipients(to []string, res *result) (accepted []string, err error) {
	utf8 := ss.offers("SMTPUTF8")
	refused := false // the server has refused a recipient
	for n, addr := range to {
		if needsUTF8(addr) && !utf8 {
			res.refuse(addr, errRecipientUTF8)
			continue
		}
		why, err := ss.splitError("RCPT", ss.client.Rcpt(addr, nil))
		if b, ok := errors.AsType[*brokenError](err); ok {
			if refused && len(accepted) == 0 {
				b.hasRefusal = true
				for _, unanswered := range to[n:] {
					res.refuse(unanswered, errUnanswered)
				}
			}
			return nil, b
		}
		ss.rcptWithoutLogin = ss.rcptWithoutLogin || !asksLogin(why)
		switch {
		case why == nil:
			accepted = append(accepted, addr)
		case len(accepted) > 0 && isTooManyRecipients(why):
			res.deferred = len(to) - n
			return accepted, nil
		default:
			refused = true
			res.refuse(addr, why)
		}
	}
	return accepted, nil
}

// sendText sends the message after DATA, without its end. The error is a *brokenError.
func (ss *session) sendText(data *gosmtp.DataCommand, m *message, body io.Reader, res *result) error {
	n, err := io.Copy(data, body)
	if err == nil && n != m.size {
		err = &readError{io.ErrUnexpectedEOF}
	}
	if why := ss.readEarlyRefusal(err); why != nil {
		res.refuseAll(why)
		return &brokenError{err: why, hasRefusal: true}
	}
	if err != nil {
		// DataCommand.Close would submit what was sent. Only hanging up ends DATA
		// without that (RFC 5321 §4.1.1.4).
		return &brokenError{err: err, retryable: true}
	}
	return nil
}

// readEarlyRefusal returns the refusal of a server that hung up before the whole message
// was sent; err is the error of sending it. It returns nil for any other error.
func (ss *session) readEarlyRefusal(err error) error {
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		return nil
	}
	remote.ResumeReading(ss.conn, time.Second)
	r := textproto.NewReader(bufio.NewReader(io.LimitReader(&wire{Conn: ss.conn}, 8*maxText)))
	code, text, err := r.ReadResponse(0)
	if err != nil {
		return nil
	}
	said := &gosmtp.SMTPError{Code: code, Message: text}
	e := &said.EnhancedCode
	if n, _ := fmt.Sscanf(text, "%d.%d.%d", &e[0], &e[1], &e[2]); n < len(e) {
		*e = gosmtp.EnhancedCode{}
	} else if _, rest, ok := strings.Cut(text, " "); ok {
		said.Message = rest
	}
	why, _ := ss.splitError("message", said)
	return why
}

// endData ends the message and reads the replies for the recipients in to, which the
// server has accepted. RFC 5321 §4.5.3.2.6 wants a client to wait twice as long for this
// reply as for others, since a client that gives up too early sends a duplicate
// (RFC 1047).
func (ss *session) endData(data *gosmtp.DataCommand, res *result, to []string) error {
	silence := ss.sink.o.Server.EffectiveTimeout()
	remote.SetTimeout(ss.conn, 2*silence)
	defer remote.SetTimeout(ss.conn, silence)
	if ss.sink.o.LMTP {
		return ss.endLMTPData(data, res, to)
	}
	resp, err := data.CloseWithResponse()
	why, err := ss.splitError("message", err)
	switch {
	case err != nil:
		return ss.unknownOutcome(err)
	case why != nil:
		res.refuseAll(why)
	default:
		res.delivered, res.reply = to, resp.StatusText
	}
	return nil
}

// endLMTPData is endData for LMTP, where the server sends a reply for each recipient that it
// has accepted (RFC 2033 §4.2).
func (ss *session) endLMTPData(data *gosmtp.DataCommand, res *result, to []string) error {
	resp, err := data.CloseWithLMTPResponse()
	answers, _ := errors.AsType[gosmtp.LMTPDataError](err)
	refusalsBefore := len(res.refusals)
	for _, addr := range to {
		if r, ok := resp[addr]; ok {
			res.delivered, res.reply = append(res.delivered, addr), r.StatusText
		} else if r, ok := answers[addr]; ok {
			why, broken := ss.splitError("message", r)
			if broken != nil {
				err = broken
				continue
			}
			res.refuse(addr, why)
		}
	}
	if len(res.delivered)+len(res.refusals)-refusalsBefore == len(to) {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		err = joined.Unwrap()[0] // the others are refusals, which are in res
	}
	return ss.unknownOutcome(err)
}

// unknownOutcome returns the error of a session that broke after the end of the message
// was sent: the server may have accepted the message.
func (ss *session) unknownOutcome(err error) error {
	if b, ok := errors.AsType[*brokenError](err); ok {
		err = b.err
	}
	return &brokenError{err: asReplyError("message", maskSecrets(ss.login, err))}
}

// splitError returns err, the error of a command, as why if it is a refusal, or else as
// broken. A reply of 421 also breaks the session.
func (ss *session) splitError(verb string, err error) (why, broken error) {
	if err == nil {
		return nil, nil
	}
	err = asReplyError(verb, maskSecrets(ss.login, err))
	if r, ok := errors.AsType[*ReplyError](err); ok && !r.endsSession() {
		return r, nil
	}
	return nil, &brokenError{err: err, retryable: true}
}

// reset ends a transaction that was refused. The refusal counts even if the server hangs
// up now.
func (ss *session) reset() error {
	if err := ss.client.Reset(); err != nil {
		return &brokenError{err: asReplyError("RSET", maskSecrets(ss.login, err)), hasRefusal: true}
	}
	return nil
}
