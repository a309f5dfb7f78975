package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/envelope"
	"github.com/mailhaul/mailhaul/deliver/filter"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// stage streams one message into the batches of its sinks. A message that is refused is
// no error.
func (d *download) stage(ctx context.Context, w Want, b *body) error {
	d.sums.reset()
	if row := w.Row; row != nil && !row.Content.IsZero() {
		d.sums.expectFormer(func(sum state.Sum) bool { return sum == row.Content })
	}
	mail, message, dests := d.compose(w, b)
	// A server that has lost a message for now may send an empty one. Once that was
	// delivered, the DELE would be for good.
	if b.err == io.EOF && d.sums.octets == 0 && w.Size > int64(len("\r\n")) {
		return d.rejectUnstaged(ctx, &item{want: w}, b, fmt.Errorf("the server sent nothing of its %d octets", w.Size))
	}
	if w.Num == 1 && envelope.FolderData(d.header) {
		return d.skipFolderData(ctx, w, b)
	}
	dests, heldBy, err := d.splitByDelivery(ctx, w, dests)
	if err != nil {
		return err
	}
	it := &item{want: w, heldBy: heldBy}
	if len(dests) == 0 {
		return d.recordComplete(ctx, it, b)
	}
	switch {
	case d.Filter != nil && !d.toQuarantine:
		err = d.stageFiltered(ctx, it, dests, mail, message)
	case len(dests) == 1:
		err = d.stageInSink(ctx, it, dests[0], mail, message)
	default:
		err = d.stageFromCopy(ctx, it, dests, mail, message, b)
	}
	return d.concludeStaging(ctx, it, b, err)
}

// concludeStaging adds a message to the batch, or refuses it, after the sinks, or the
// filter, have read b. err is how that ended.
func (d *download) concludeStaging(ctx context.Context, it *item, b *body, err error) error {
	switch {
	case errors.Is(b.err, errTooLarge):
		return d.rejectUnstaged(ctx, it, b, b.err)
	case faultOf(err) == deliver.FaultMessage:
		return d.rejectUnstaged(ctx, it, b, err)
	case err != nil && it.pendingSinks > 0:
		// The batch may still be committed, as when time runs out: then no sink of the
		// message may be forgotten.
		d.addToBatch(it)
		return err
	case err != nil:
		return err
	case it.err != nil && it.pendingSinks == 0:
		return d.rejectUnstaged(ctx, it, b, it.err)
	case b.err != io.EOF && it.err == nil:
		return errors.New("the sink took a message without reading it to its end")
	case it.dropped:
		return d.recordDropped(ctx, it)
	}
	d.addToBatch(it)
	return nil
}

// addToBatch adds a message that was received completely to the batch.
func (d *download) addToBatch(it *item) {
	d.recordSums(it)
	it.complete = true
	if it.isDifferentMessage() {
		it.missingFrom = append(it.missingFrom, it.heldBy...)
		it.err = cmp.Or(it.err, errDifferentMessage)
	}
	d.batch.items = append(d.batch.items, it)
	d.batch.bytes += it.octets
}

// rejectUnstaged refuses a message that no sink has staged. A message without a
// unique-id is read to its end first: its content identifies it next time.
func (d *download) rejectUnstaged(ctx context.Context, it *item, b *body, reason error) error {
	if it.want.Key == "" || !it.want.Header.IsZero() {
		if err := b.readToEnd(); err != nil {
			return err
		}
		d.recordSums(it)
	}
	return d.quarantineOrRefuse(ctx, it.want, it.content, reason)
}

// skipFolderData leaves message 1 on the server if it is no mail but the folder data of
// an IMAP server. Nothing is remembered of it, and earlier failures are forgotten: a
// mail that got its unique-id would be taken for it.
func (d *download) skipFolderData(ctx context.Context, w Want, b *body) error {
	if err := b.readToEnd(); err != nil {
		return err
	}
	if w.Row != nil {
		h := state.Housekeeping{Forget: []string{w.Key}}
		if err := d.opts.State.Keep(ctx, d.Name, d.opts.now().Unix(), h); err != nil {
			return err
		}
	}
	d.checkSize(w, d.sums.octets)
	d.compared++
	d.alreadyHad++
	if !d.skippedFolderData {
		d.skippedFolderData = true
		d.keyless++
		d.notice("message 1 is no mail, but data that an IMAP server keeps in the folder: it stays where it is")
	}
	return nil
}

// stageInSink streams a message into one sink's batch. A refusal of the message, or the
// trouble of one sink of several, is no error: the sink has yet to get it.
func (d *download) stageInSink(ctx context.Context, it *item, dest destination, mail deliver.Mail, message io.Reader) error {
	mail.Recipients = dest.recipients
	p, err := d.sinkBatch(ctx, dest.Target)
	begun := err == nil
	if begun {
		_, err = p.Stage(ctx, mail, message)
	}
	if err == nil {
		p.items = append(p.items, it)
		it.pendingSinks++
		return nil
	}
	othersContinue := d.hasSeveralSinks() && isSinkTrouble(err) && ctx.Err() == nil
	if othersContinue && begun {
		d.downSinks[dest.Name] = err
		p.abandon(err)
	}
	if !othersContinue && faultOf(err) != deliver.FaultMessage {
		return err
	}
	it.missingFrom = append(it.missingFrom, dest.Target)
	it.err = cmp.Or(it.err, err)
	return nil
}

// filterError is a failure of the filter that does not seem to be the message's fault.
type filterError struct{ error }

func (e *filterError) Unwrap() error { return e.error }

// stageFiltered runs the filter on a message and stages the result. A message to be
// dropped, or for the quarantine, is not staged.
func (d *download) stageFiltered(ctx context.Context, it *item, dests []destination, mail deliver.Mail, message io.Reader) error {
	filtered, err := d.Filter.Run(ctx, mail, message)
	if faultOf(err) == deliver.FaultTemporary && ctx.Err() == nil {
		it.err = err // only this message waits
		return nil
	} else if err != nil {
		return &filterError{err}
	}
	defer filtered.Close()
	if filtered.Warning != "" {
		it.unfiltered = filtered.Warning
		d.notice("%s goes on unfiltered: %s", MessageName(it.want.UID), filtered.Warning)
	}
	switch filtered.Verdict {
	case filter.Drop:
		it.dropped = true
		return nil
	case filter.Quarantine:
		return errQuarantine
	}
	return d.stageInSinks(ctx, it, dests, mail, func() (io.Reader, error) { return filtered.Open(), nil })
}

// stageInSinks stages a complete message in several sinks, one after the other. open
// returns a reader from its beginning. After an error the remaining sinks have yet to
// get the message.
func (d *download) stageInSinks(ctx context.Context, it *item, dests []destination, mail deliver.Mail, open func() (io.Reader, error)) error {
	for i, dest := range dests {
		message, err := open()
		if err == nil {
			err = d.stageInSink(ctx, it, dest, mail, message)
		}
		if err != nil {
			for _, left := range dests[i:] {
				it.missingFrom = append(it.missingFrom, left.Target)
			}
			it.err = cmp.Or(it.err, err)
			return err
		}
	}
	return nil
}

// errQuarantine is the filter's verdict that a message belongs in quarantine. Its text
// is only shown if there is none.
var errQuarantine = &deliver.Error{
	Fault: deliver.FaultMessage, Target: "filter",
	Op: "the message belongs in quarantine, and there is none: set refused: quarantine and quarantine: SINK",
}

// dropSink stands in the journal for the sink of messages that the filter dropped.
const dropSink = "(dropped)"

// recordDropped journals a message that the filter dropped as delivered.
func (d *download) recordDropped(ctx context.Context, it *item) error {
	d.recordSums(it)
	if err := d.opts.State.Promise(ctx, d.Name, []state.Promise{it.newPromise(dropSink, deliver.Promise{})}); err != nil {
		return err
	}
	landing := state.Landing{UID: it.want.Key, Sink: dropSink, Where: "dropped by the filter", Dropped: true}
	if err := d.opts.State.Land(ctx, d.Name, d.opts.now().Unix(), []state.Landing{landing}); err != nil {
		return err
	}
	d.notice("the filter dropped %s", MessageName(it.want.UID))
	return d.recordOutcome(ctx, it)
}

// recordSums notes in the item what is known of its message now that it is complete,
// and gives it a key if it has none.
func (d *download) recordSums(it *item) {
	it.octets, it.header, it.content = d.sums.octets, d.sums.header.sum(), d.sums.contentSum()
	d.checkSize(it.want, it.octets)
	if d.doubtful {
		it.doubtedSince = d.opts.now().Unix()
	}
	if it.want.Key == "" {
		// Want.Header is set if it is unreliable; planner.isUnreliable looks for such
		// keys.
		it.want.Key = d.plan.keys.next(cmp.Or(it.want.Header, it.content), d.rows)
	}
}

// stageFromCopy stages a message in several sinks from a temporary copy.
func (d *download) stageFromCopy(ctx context.Context, it *item, dests []destination, mail deliver.Mail, message io.Reader, b *body) error {
	failed := func(err error) error {
		const op = "keep a copy of the message"
		folder := cmp.Or(d.opts.Scratch, os.TempDir())
		if e, ok := deliver.TooLarge(folder, op, err); ok {
			return e
		}
		return &deliver.Error{Fault: deliver.FaultOf(err), Target: folder, Op: op, Err: err}
	}
	copied, err := os.CreateTemp(d.opts.Scratch, "message-*")
	if err != nil {
		return failed(err)
	}
	defer copied.Close()
	if err := os.Remove(copied.Name()); err != nil { // a crash leaves nothing behind
		return failed(err)
	}
	_, err = io.Copy(copied, message)
	if b.err != nil && b.err != io.EOF {
		return b.err
	} else if err != nil {
		return failed(err)
	}
	return d.stageInSinks(ctx, it, dests, mail, func() (io.Reader, error) {
		if _, err := copied.Seek(0, io.SeekStart); err != nil {
			return nil, failed(err)
		}
		return copied, nil
	})
}
