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

// result is what a server made of one transaction.
type result struct {
	taken    []string // the recipients for whom it has the message
	reply    string   // what it said to that
	refusals []refusedFor
	// left is how many recipients, the last ones, the server did not want in
	// this transaction, and may want in another.
	left int
}

// refuse adds the refusal of the whole transaction.
func (r *result) refuse(why error) { r.refusals = append(r.refusals, refusedFor{why: why}) }

// brokenError means that a session cannot be used any more.
type brokenError struct {
	err error
	// again says that the message's end was not sent, so that the server
	// cannot have taken it; refused that it said so, and the result tells.
	// Both are set if some recipients were refused and the others not answered.
	again, refused bool
}

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// send makes one transaction, for those of the recipients whom the server
// accepts. An error is a *brokenError; even then the result is true.
func (ss *session) send(m *message, to []string, body io.Reader) (*result, error) {
	res := new(result)
	ss.begun = false
	if limit, ok := ss.client.MaxMessageSize(); ok && limit > 0 && m.size > int64(limit) {
		// RFC 1870 §6.1: it would only be refused after it has been sent.
		res.refuse(fmt.Errorf("%w: it has %d octets, SIZE is %d", errTooLarge, m.size, limit))
		return res, nil
	}
	utf8 := ss.offers("SMTPUTF8")
	if needsUTF8(m.sender) && !utf8 {
		res.refuse(errSenderUTF8)
		return res, nil
	}
	opts := &gosmtp.MailOptions{Size: m.size, UTF8: utf8 && (needsUTF8(m.sender) || slices.ContainsFunc(to, needsUTF8))}
	if why, err := ss.refusal("MAIL", ss.client.Mail(m.sender, opts)); err != nil {
		return res, err
	} else if why != nil {
		res.refuse(why)
		return res, ss.reset()
	}
	ss.begun = true
	var accepted []string
	refused := false // one of them, by the server
	for n, addr := range to {
		if needsUTF8(addr) && !utf8 {
			res.refusals = append(res.refusals, refusedFor{to: addr, why: errRecipientUTF8})
			continue
		}
		why, err := ss.refusal("RCPT", ss.client.Rcpt(addr, nil))
		if b, ok := errors.AsType[*brokenError](err); ok {
			if b.refused = refused && len(accepted) == 0; b.refused {
				for _, unasked := range to[n:] {
					res.refusals = append(res.refusals, refusedFor{to: unasked, why: errUnanswered})
				}
			}
			return res, b
		}
		ss.welcome = ss.welcome || !asksLogin(why)
		if why == nil {
			accepted = append(accepted, addr)
			continue
		}
		if len(accepted) > 0 && tooMany(why) {
			res.left = len(to) - n
			break
		}
		refused = true
		res.refusals = append(res.refusals, refusedFor{to: addr, why: why})
	}
	if len(accepted) == 0 {
		return res, ss.reset()
	}
	data, err := ss.client.Data()
	if why, err := ss.refusal("DATA", err); err != nil {
		return res, err
	} else if why != nil {
		res.refuse(why)
		return res, ss.reset()
	}
	n, err := io.Copy(data, body)
	if err == nil && n != m.size {
		err = &readError{io.ErrUnexpectedEOF}
	}
	if why := ss.interrupted(err); why != nil {
		res.refuse(why)
		return res, &brokenError{err: why, refused: true}
	}
	if err != nil {
		// Close would submit what is there; to hang up is the only way out of
		// DATA that does not (RFC 5321 §4.1.1.4).
		return res, &brokenError{err: err, again: true}
	}
	return res, ss.finish(data, res, accepted)
}

// interrupted returns the refusal of a server that hung up while a message was
// being sent, since it had seen enough of it. nil is any other trouble.
func (ss *session) interrupted(err error) error {
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		return nil
	}
	remote.Hear(ss.conn, time.Second)
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
	why, _ := ss.refusal("message", said)
	return why
}

// finish ends the message and reads what became of it for those whom the
// server has accepted. RFC 5321 §4.5.3.2.6 has a client wait twice as long for
// this reply as for others, and RFC 1047 tells why: who gives up too early
// sends the message again.
func (ss *session) finish(data *gosmtp.DataCommand, res *result, to []string) error {
	silence := ss.sink.o.Server.Silence()
	remote.SetSilence(ss.conn, 2*silence)
	defer remote.SetSilence(ss.conn, silence)
	if !ss.sink.o.LMTP {
		resp, err := data.CloseWithResponse()
		why, err := ss.refusal("message", err)
		switch {
		case err != nil:
			return ss.ended(err)
		case why != nil:
			res.refuse(why)
		default:
			res.taken, res.reply = to, resp.StatusText
		}
		return nil
	}
	// RFC 2033 §4.2: a reply for each recipient that RCPT accepted.
	resp, err := data.CloseWithLMTPResponse()
	answers, _ := errors.AsType[gosmtp.LMTPDataError](err)
	before := len(res.refusals)
	for _, to := range to {
		if r, ok := resp[to]; ok {
			res.taken, res.reply = append(res.taken, to), r.StatusText
		} else if r, ok := answers[to]; ok {
			why, broken := ss.refusal("message", r)
			if broken != nil {
				err = broken
				continue
			}
			res.refusals = append(res.refusals, refusedFor{to: to, why: why})
		}
	}
	if len(res.taken)+len(res.refusals)-before == len(to) {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		err = joined.Unwrap()[0] // without the refusals, which are told on their own
	}
	return ss.ended(err)
}

// ended marks what went wrong after the end of the message was sent.
func (ss *session) ended(err error) error {
	if b, ok := errors.AsType[*brokenError](err); ok {
		err = b.err
	}
	return &brokenError{err: replied("message", masked(ss.login, err))}
}

// refusal tells a refusal from an error that breaks the session, which a
// reply of 421 does too.
func (ss *session) refusal(verb string, err error) (why, broken error) {
	if err == nil {
		return nil, nil
	}
	err = replied(verb, masked(ss.login, err))
	if r, ok := errors.AsType[*ReplyError](err); ok && !r.closing() {
		return r, nil
	}
	return nil, &brokenError{err: err, again: true}
}

// reset ends a transaction that was refused. That counts, even if the server
// hangs up on whom it refuses.
func (ss *session) reset() error {
	if err := ss.client.Reset(); err != nil {
		return &brokenError{err: replied("RSET", masked(ss.login, err)), refused: true}
	}
	return nil
}
