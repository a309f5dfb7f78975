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
	for !a.isDone() {
		ses, leave, err := b.sink.acquireSession(ctx, false)
		if err == nil {
			err = a.sendAll(ses)
			leave()
		}
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

// isDone reports whether nothing more is to be sent.
func (a *appender) isDone() bool {
	return a.next == len(a.messages) || a.stopErr != nil || a.landedErr != nil
}

// sendAll sends messages until all are answered, or until the session cannot send any
// more. After an error, the messages in flight may have landed or not.
func (a *appender) sendAll(ses *session) error {
	if err := ses.closeFolder(); err != nil {
		return err
	}
	lost := a.checkUnchanged(ses)
	for lost == nil && !a.isDone() && !ses.wire.isBroken() {
		lost = a.sendNext(ses)
	}
	for len(a.inFlight) > 0 {
		if err := a.awaitAnswer(ses); lost == nil {
			lost = err
		}
	}
	return lost
}

// sendNext sends the next message, or the next ones in one APPEND. If too many are in
// flight, it waits for an answer instead. It does not send a message that the server is
// known to refuse.
func (a *appender) sendNext(ses *session) error {
	if len(a.inFlight) == window {
		return a.awaitAnswer(ses)
	}
	if count := a.multiAppendCount(ses); count > 1 {
		return a.multiAppend(ses, count)
	}
	n := a.next
	a.next++
	size := a.messages[n].size
	switch {
	case size > ses.limit:
		a.report(n, "", a.sink.refusal("append", &imap.Error{
			Type: imap.StatusResponseTypeNo, Code: imap.ResponseCodeTooBig,
			Text: fmt.Sprintf("APPENDLIMIT %d", ses.limit), // RFC 7889 §3
		}))
		return nil
	case a.smallestOverQuota != nil && size >= a.messages[a.smallestOverQuota.n].size:
		a.undecided = append(a.undecided, refusedMessage{n, a.smallestOverQuota.err})
		return nil
	}
	return a.send(ses, n, 1)
}

// send sends count messages from the n-th on in one APPEND, which is then in flight. It
// does not wait for the answer.
func (a *appender) send(ses *session, n, count int) error {
	text, size := a.literalText(n, count)
	if size > smallLiteral && ses.caps.Has(imap.CapLiteralPlus) {
		ses.wire.literal.Store(&literal{announced: size, sent: a.messages[n].size})
	}
	cmd := ses.client.Append(a.sink.folder, size, &imap.AppendOptions{Flags: a.sink.flags, Time: a.messages[n].date})
	readErr, sendErr := a.copyLiteral(cmd, text, size)
	refusal, refused := errors.AsType[*imap.Error](sendErr)
	if !refused && (sendErr != nil || readErr != nil) {
		// AppendCommand.Close ends the line: first make sure that this cannot
		// complete a message.
		_ = ses.client.Close()
	}
	closeErr := cmd.Close()
	if sendErr != nil && !refused { // the server may have sent a refusal and hung up
		_, answer := cmd.Wait()
		refusal, refused = errors.AsType[*imap.Error](answer)
	}
	if readErr != nil {
		return a.sink.spool.Error("read a batch", readErr)
	}
	if err := cmp.Or(sendErr, closeErr); err != nil && !refused {
		return ses.fail("append", err)
	}
	// After a refusal, imapclient closes the connection.
	a.inFlight = append(a.inFlight, &flight{n: n, count: count, cmd: cmd, refusal: refusal})
	return nil
}

// literalText returns the literal of an APPEND of count messages from the n-th on, and its
// size: the messages and what stands between them.
func (a *appender) literalText(n, count int) (text io.Reader, size int64) {
	var parts []io.Reader
	for i, m := range a.messages[n : n+count] {
		if i > 0 {
			head := a.sink.messageHead(m)
			size += int64(len(head))
			parts = append(parts, strings.NewReader(head))
		}
		size += m.size
		parts = append(parts, io.NewSectionReader(a.File, m.offset, m.size))
	}
	return io.MultiReader(parts...), size
}

// copyLiteral sends size octets of text. readErr is an error of the spool, and sendErr is
// the server's refusal or an error of the connection.
func (a *appender) copyLiteral(cmd *imapclient.AppendCommand, text io.Reader, size int64) (readErr, sendErr error) {
	for left := size; left > 0; {
		chunk := a.buf[:min(left, int64(len(a.buf)))]
		if _, err := io.ReadFull(text, chunk); err != nil {
			return err, nil
		}
		if _, err := cmd.Write(chunk); err != nil {
			return nil, err
		}
		left -= int64(len(chunk))
	}
	return nil, nil
}

// awaitAnswer waits for the answer to the oldest APPEND in flight, and reports or records
// it. It returns an error if there will be no answer.
func (a *appender) awaitAnswer(ses *session) error {
	f := a.inFlight[0]
	a.inFlight = a.inFlight[1:]
	data, err := f.cmd.Wait()
	if err == nil {
		return a.reportLanded(ses, f, data)
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
	a.recordRefusal(f.n, refusal, ses.refusal("append", refusal))
	return nil
}

// reportLanded reports the messages of an APPEND that the server has accepted.
func (a *appender) reportLanded(ses *session, f *flight, data *imap.AppendData) error {
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

// recordRefusal reports the refusal of the n-th message if the message is the reason.
// Otherwise it leaves the refusal to finish, or stops the Commit. e is the error of the
// refusal.
func (a *appender) recordRefusal(n int, refusal *imap.Error, e *deliver.Error) {
	if e.Fault == deliver.FaultMessage {
		a.report(n, "", e)
		return
	}
	refused := refusedMessage{n, e}
	overQuota := refusal.Code == imap.ResponseCodeOverQuota && !isThrottled(refusal)
	// There may be room for a smaller message.
	if overQuota && (a.smallestOverQuota == nil || a.messages[n].size < a.messages[a.smallestOverQuota.n].size) {
		a.smallestOverQuota = &refused
	}
	switch {
	case overQuota,
		refusal.Code == imap.ResponseCodeLimit, // Dovecot's for a message over quota_max_mail_size
		e.Fault == deliver.FaultTemporary && !concernsAllMessages(refusal):
		a.undecided = append(a.undecided, refused)
	case a.stopErr == nil:
		a.stopErr = e
	}
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

// finish reports the undecided messages and returns the error of the Commit. If the server
// accepted a later message, the reason for a refusal is the refused message itself. If the
// server accepted no message at all, nothing is wrong with the messages: the refusal is the
// error of the Commit, and they are not reported.
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
