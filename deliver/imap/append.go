package imap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/mailhaul/mailhaul/deliver"
)

const (
	// window is how many APPENDs may be sent before the first is answered.
	window = 100
	// smallLiteral is the size of the largest literal that need not wait for the
	// server under LITERAL- (RFC 7888 §5), and that imapclient sends without waiting.
	smallLiteral = 4096
)

// Commit implements deliver.Batch. If the server has LITERAL+, messages are sent without
// waiting for the answers. If it also has MULTIAPPEND (RFC 3502), many messages go in one
// APPEND: some servers need several times as long for each APPEND as for a message in
// one, and the longer the more messages the folder has. If the server refuses such an
// APPEND, each message is sent alone. It should have stored none of them, but not all
// servers undo what they have begun: if UIDNEXT has changed, the promises are left to
// Settle.
//
// A refusal that concerns every message, such as that of a full mailbox, is Commit's own
// error. It is Untaken: the server has answered for all messages that were sent. It is not
// Blameless, since there may be room for smaller messages.
func (b *batch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	if err := b.BeginCommit(); err != nil {
		return err
	}
	if len(b.messages) == 0 {
		_ = b.Discard()
		return nil
	}
	defer b.File.Close()
	a := appender{batch: b, landed: landed, buf: make([]byte, 32<<10), lastLanded: -1}
	for a.next < len(b.messages) && a.stopErr == nil && a.landedErr == nil {
		ses, leave, err := b.sink.acquireSession(ctx, false)
		if err != nil {
			return errors.Join(err, a.finish())
		}
		err = a.sendAll(ses)
		leave()
		if err != nil {
			return errors.Join(err, a.finish())
		}
	}
	err := a.finish()
	if a.landedErr != nil {
		return err
	}
	if a.stopErr != nil {
		a.stopErr.Untaken = true
	}
	// If it cannot be removed, Sweep removes it.
	_ = b.sink.spool.Remove(b.Name)
	return err
}

// appender is a Commit under way.
type appender struct {
	*batch
	landed func(deliver.Receipt) error
	buf    []byte

	next              int              // the message to be sent next
	aloneUntil        int              // messages before this one are sent alone
	nextBefore        imap.UID         // UIDNEXT before a refused multi-APPEND; 0 if there is none to check
	inFlight          []*flight        // sent and not answered yet
	undecided         []refusedMessage // refused; finish decides whether the message is the reason
	lastLanded        int              // the last message that landed; -1 before that
	smallestOverQuota *refusedMessage  // the smallest message for which there was no room
	stopErr           *deliver.Error   // why nothing more is sent
	landedErr         error            // of landed: nothing more is sent or reported
}

// flight is an APPEND that was sent, with count messages from the n-th on.
type flight struct {
	n, count int
	cmd      *imapclient.AppendCommand
	// refusal is the server's refusal if it came before the literal was sent.
	refusal *imap.Error
}

// refusedMessage is a message that was refused without a reason or for lack of room.
type refusedMessage struct {
	n   int
	err *deliver.Error
}

// sendAll sends messages until all are answered, or until the session cannot send any
// more. After an error, the messages in flight may have landed or not.
func (a *appender) sendAll(ses *session) error {
	if err := ses.closeFolder(); err != nil {
		return err
	}
	lost := a.checkUnchanged(ses)
	for a.next < len(a.messages) && a.stopErr == nil && a.landedErr == nil && lost == nil && !ses.wire.isBroken() {
		if len(a.inFlight) == window {
			lost = a.awaitAnswer(ses)
			continue
		}
		m := a.messages[a.next]
		if count := a.multiAppendCount(ses); count > 1 {
			lost = a.multiAppend(ses, count)
			continue
		} else if m.size > ses.limit {
			a.report(a.next, "", a.sink.refusal("append", &imap.Error{
				Type: imap.StatusResponseTypeNo, Code: imap.ResponseCodeTooBig,
				Text: fmt.Sprintf("APPENDLIMIT %d", ses.limit), // RFC 7889 §3
			}))
		} else if a.smallestOverQuota != nil && m.size >= a.messages[a.smallestOverQuota.n].size {
			a.undecided = append(a.undecided, refusedMessage{a.next, a.smallestOverQuota.err})
		} else if f, err := a.send(ses, 1); err != nil {
			lost = err
		} else {
			a.inFlight = append(a.inFlight, f)
		}
		a.next++
	}
	for len(a.inFlight) > 0 {
		if err := a.awaitAnswer(ses); lost == nil {
			lost = err
		}
	}
	return lost
}

// send sends the next count messages in one APPEND. It does not wait for the answer.
func (a *appender) send(ses *session, count int) (*flight, error) {
	batch := a.messages[a.next : a.next+count]
	first := batch[0]
	size := first.size
	text := []io.Reader{io.NewSectionReader(a.File, first.offset, first.size)}
	for _, m := range batch[1:] {
		head := a.sink.messageHead(m)
		size += int64(len(head)) + m.size
		text = append(text, strings.NewReader(head), io.NewSectionReader(a.File, m.offset, m.size))
	}
	if size > smallLiteral && ses.caps.Has(imap.CapLiteralPlus) {
		ses.wire.literal.Store(&literal{announced: size, sent: first.size})
	}
	f := &flight{n: a.next, count: count}
	f.cmd = ses.client.Append(a.sink.folder, size, &imap.AppendOptions{Flags: a.sink.flags, Time: first.date})
	var read, err error
	body := io.MultiReader(text...)
	for left := size; left > 0 && err == nil && read == nil; {
		chunk := a.buf[:min(left, int64(len(a.buf)))]
		if _, read = io.ReadFull(body, chunk); read == nil {
			_, err = f.cmd.Write(chunk)
			left -= int64(len(chunk))
		}
	}
	var early bool
	if f.refusal, early = errors.AsType[*imap.Error](err); !early && (err != nil || read != nil) {
		// AppendCommand.Close ends the line: first make sure that this cannot
		// complete a message.
		_ = ses.client.Close()
	}
	closed := f.cmd.Close()
	if err != nil && !early { // the server may have sent a refusal and hung up
		_, answer := f.cmd.Wait()
		f.refusal, early = errors.AsType[*imap.Error](answer)
	}
	switch {
	case read != nil:
		return nil, a.sink.spool.Error("read a batch", read)
	case early:
		// imapclient closes the connection after this.
		return f, nil
	case err != nil:
		return nil, ses.fail("append", err)
	case closed != nil:
		return nil, ses.fail("append", closed)
	}
	return f, nil
}

// awaitAnswer waits for the answer to the oldest APPEND in flight, and reports or records
// it. It returns an error if there will be no answer.
func (a *appender) awaitAnswer(ses *session) error {
	f := a.inFlight[0]
	a.inFlight = a.inFlight[1:]
	data, err := f.cmd.Wait()
	if err == nil {
		places, ok := ses.places(data, f.count)
		if !ok {
			return ses.sink.fail("append", errUIDCount)
		}
		a.lastLanded = f.n + f.count - 1
		for i, where := range places {
			a.report(f.n+i, where, nil)
		}
		return nil
	}
	refusal, ok := errors.AsType[*imap.Error](err)
	if !ok {
		return ses.fail("append", err)
	}
	// If a refusal comes before the literal, imapclient returns it for all commands in
	// flight, although the server has not answered the others.
	if slices.ContainsFunc(a.inFlight, func(later *flight) bool { return later.refusal == refusal }) {
		return ses.sink.fail("append", errHungUp)
	}
	if f.count > 1 {
		// Send each alone, to see which are refused. If a single message is the reason,
		// later ones can be sent together again.
		a.next, a.aloneUntil, a.nextBefore = f.n, f.n+f.count, ses.next
		ses.noMultiAppend = refusal.Type == imap.StatusResponseTypeBad || concernsAllMessages(refusal)
		return nil
	}
	e := ses.refusal("append", refusal)
	switch {
	case e.Fault == deliver.FaultMessage:
		a.report(f.n, "", e)
	case refusal.Code == imap.ResponseCodeOverQuota && !isThrottled(refusal):
		// There may be room for a smaller message.
		if a.smallestOverQuota == nil || a.messages[f.n].size < a.messages[a.smallestOverQuota.n].size {
			a.smallestOverQuota = &refusedMessage{f.n, e}
		}
		fallthrough
	case refusal.Code == imap.ResponseCodeLimit, // Dovecot's for a message over quota_max_mail_size
		e.Fault == deliver.FaultTemporary && !concernsAllMessages(refusal):
		a.undecided = append(a.undecided, refusedMessage{f.n, e})
	case a.stopErr == nil:
		a.stopErr = e
	}
	return nil
}

// places returns the URLs (RFC 5092) of the messages of an APPEND, and updates the state of
// the folder. If the server does not tell the UIDs, the URLs are that of the folder, and
// the state is read before each batch from now on. ok is false if the server returns
// another number of UIDs than count.
func (ses *session) places(data *imap.AppendData, count int) (places []string, ok bool) {
	places = slices.Repeat([]string{ses.sink.target}, count)
	uids := []imap.UID{data.UID}
	if count > 1 {
		uids = ses.wire.takeUIDs(data.UID, count)
	}
	if data.UID == 0 || uids == nil {
		ses.hidesUIDs = true
		return places, data.UID == 0
	}
	for i, uid := range uids {
		if data.UIDValidity != ses.validity || uid >= ses.next {
			ses.validity, ses.next = data.UIDValidity, uid+1
		}
		places[i] = fmt.Sprintf("%s;UIDVALIDITY=%d/;UID=%d", ses.sink.target, data.UIDValidity, uid)
	}
	return places, true
}

// finish reports what was not decided message by message. If the server took
// one that came later, what it refused without a reason is itself the reason.
// If it took none at all, nothing is wrong with the messages: the error, which
// is also that of what stopped the rest, leaves them unreported.
func (a *appender) finish() error {
	for _, d := range a.undecided {
		switch {
		case a.lastLanded > d.n && d.err.Fault == deliver.FaultTemporary:
			d.err.Fault = deliver.FaultMessage
			d.err.Hint = "the server took later messages: there is something about this one"
		case a.lastLanded < 0 && (len(a.messages) > 1 || d.err.Fault == deliver.FaultOperator):
			a.stopErr = cmp.Or(a.stopErr, d.err)
			continue
		}
		a.report(d.n, "", d.err)
	}
	if a.landedErr == nil && a.stopErr != nil {
		return a.stopErr
	}
	return a.landedErr
}

// report calls landed, unless an earlier call has returned an error.
func (a *appender) report(n int, where string, err *deliver.Error) {
	if a.landedErr != nil {
		return
	}
	r := deliver.Receipt{Ticket: deliver.Ticket(n), Where: where}
	if err != nil {
		r.Err = err
	}
	a.landedErr = a.landed(r)
}
