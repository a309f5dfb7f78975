package smtp

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/remote"
)

// Commit implements deliver.Batch. If the server refuses a message, or the connection
// breaks while it is sent, Commit goes on with the next one. It stops if it cannot connect,
// or if the connection breaks for two messages in a row. Some refusals may concern all mail:
// the server asks for a login at RCPT, has no room, or refuses all recipients in the same
// words. The reporter holds these back until the end of the batch. If they do concern all
// mail, they are Commit's own error, and Untaken: the server has answered for all messages
// that were sent.
func (b *batch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	if err := b.BeginCommit(); err != nil {
		return err
	}
	// Settle needs only the ledger, and not this file.
	defer b.Discard()
	c := &commit{batch: b, ctx: ctx, reporter: reporter{sink: b.sink, landed: landed}}
	defer c.releaseSession()
	for n := range b.messages {
		if err := c.commitMessage(n); err != nil {
			return err
		}
	}
	return c.reporter.finish(len(b.messages), c.rcptWithoutLogin)
}

// commitMessage delivers the n-th message and reports what became of it, or holds the
// report back. It returns an error if Commit cannot go on.
func (c *commit) commitMessage(n int) error {
	sink, m := c.batch.sink, &c.batch.messages[n]
	receipt := deliver.Receipt{Ticket: deliver.Ticket(n)}
	reply, refusals, err := c.deliver(m)
	_, broken := errors.AsType[*brokenError](err)
	brokenBefore := c.broken
	c.broken = broken
	switch {
	case len(m.pending) == 0:
		receipt.Where = sink.where(reply)
		c.reporter.anyDelivered = true
		if reportErr := c.reporter.report(receipt); reportErr != nil {
			return reportErr
		}
		return err // of the ledger: the disk is in trouble
	case broken && !brokenBefore && c.ctx.Err() == nil:
		receipt.Err = sink.o.Server.Fail("send a message", err)
		return c.reporter.report(receipt)
	case err != nil:
		return sink.commitError(c.ctx, err)
	}
	e := sink.refusedError(m, refusals)
	if r, _ := errors.AsType[*ReplyError](e); asksLogin(e) && r.Verb == "MAIL" {
		return markUntaken(e) // it is not the message's fault
	}
	receipt.Err = e
	if c.reporter.hold(m, receipt) {
		return nil
	}
	return c.reporter.report(receipt)
}

// markBlameless sets Blameless of a *deliver.Error.
func markBlameless(err error) error {
	if e, ok := errors.AsType[*deliver.Error](err); ok {
		e.Blameless = true
	}
	return err
}

// markUntaken sets Untaken of an error.
func markUntaken(e *deliver.Error) error {
	e.Untaken = true
	return e
}

// where returns the Receipt.Where of a message that was accepted with reply.
func (s *Sink) where(reply string) string {
	return fmt.Sprintf("%s: %q", s.o.Server.Addr, clip(reply))
}

// commitError returns the error of a Commit that cannot go on because of err.
func (s *Sink) commitError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = cause
	}
	if e, ok := errors.AsType[*readError](err); ok {
		return s.o.Spool.Error("read the spool", e.err)
	}
	return s.o.Server.Fail("send a message", err)
}

// commit is a Commit under way.
type commit struct {
	batch            *batch
	ctx              context.Context
	reporter         reporter
	session          *session // nil if there is none
	stop             func()   // of remote.BindContext for the session
	rcptWithoutLogin bool     // that of a session so far
	broken           bool     // the session broke while the last message was sent
	lostDuringMail   bool     // a session broke after the server had accepted MAIL
}

// deliver sends a message to all recipients that do not have it, in as many transactions
// as are needed.
func (c *commit) deliver(m *message) (reply string, refusals []recipientRefusal, err error) {
	if len(m.pending) == 0 {
		return "all have it already", nil, c.recordDelivered(m, nil)
	}
	for to := m.pending; len(to) > 0; {
		n := min(len(to), maxRecipients)
		res, err := c.transact(m, to[:n])
		to = to[n-res.deferred:]
		if len(res.delivered) > 0 {
			reply = res.reply
			if lerr := c.recordDelivered(m, res.delivered); lerr != nil {
				return reply, refusals, lerr
			}
		}
		refusals = append(refusals, res.refusals...)
		if err != nil {
			return reply, refusals, err
		}
	}
	return reply, refusals, nil
}

// recordDelivered records in the ledger that these recipients have the message.
func (c *commit) recordDelivered(m *message, to []string) error {
	m.pending = subtract(m.pending, to)
	if err := c.batch.ledger.recordDelivered(m, to); err != nil {
		return c.batch.sink.o.Spool.Error("keep the ledger", err)
	}
	return nil
}

// transact makes one transaction. If a session that was used before is broken, it connects
// again: servers end sessions after some time or a number of messages, with a 421 or
// without a word.
func (c *commit) transact(m *message, to []string) (*result, error) {
	for {
		if err := c.ensureSession(); err != nil {
			return new(result), err
		}
		b := c.batch
		ss := c.session
		body := &spoolReader{io.NewSectionReader(b.File, m.offset, m.size)}
		res, err := ss.send(m, to, body)
		used := ss.mayBeStale
		ss.mayBeStale = true
		c.rcptWithoutLogin = c.rcptWithoutLogin || ss.rcptWithoutLogin
		if err == nil {
			return res, nil
		}
		c.stop()
		ss.hangUp()
		c.session, c.lostDuringMail = nil, c.lostDuringMail || ss.mailAccepted
		if e, ok := errors.AsType[*readError](err); ok {
			return res, e
		}
		e, broken := errors.AsType[*brokenError](err)
		switch {
		case broken && e.retryable && used && c.ctx.Err() == nil:
		case broken && e.hasRefusal:
			return res, nil
		default:
			return res, err
		}
	}
}

// ensureSession makes sure that there is a session.
func (c *commit) ensureSession() error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if c.session != nil {
		return nil
	}
	ss, err := c.batch.sink.acquireSession(c.ctx)
	switch {
	case err != nil && c.lostDuringMail:
		return err // a message may have crashed the server
	case err != nil:
		return markBlameless(err)
	}
	c.session, c.stop = ss, remote.BindContext(c.ctx, ss.conn)
	return nil
}

// releaseSession gives the session to the pool, for the next batch.
func (c *commit) releaseSession() {
	if c.session != nil {
		c.stop()
		c.batch.sink.releaseSession(c.session)
	}
}

// readError is an error of reading the spool. It distinguishes that from an error of the
// connection when a message is copied from one to the other.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// spoolReader makes the errors of r a *readError.
type spoolReader struct{ r io.Reader }

func (r *spoolReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		err = &readError{err}
	}
	return n, err
}
