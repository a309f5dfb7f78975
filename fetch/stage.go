package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/envelope"
	"github.com/mailhaul/mailhaul/deliver/filter"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// stage streams one message into its parts of the batch. A message that is
// refused is no error.
func (d *download) stage(ctx context.Context, w Want, b *body) error {
	d.sums.reset()
	if row := w.Row; row != nil && !row.Content.IsZero() {
		d.sums.expectFormer(func(sum state.Sum) bool { return sum == row.Content })
	}
	mail, message, aims := d.compose(w, b)
	// A server that has lost a message for now may say so by an empty one, and its deletion
	// would be for good.
	if b.err == io.EOF && d.sums.octets == 0 && w.Size > int64(len("\r\n")) {
		return d.rejectUnstaged(ctx, &item{want: w}, b, fmt.Errorf("the server sent nothing of its %d octets", w.Size))
	}
	if w.Num == 1 && envelope.FolderData(d.header) {
		return d.skipFolderData(ctx, w, b)
	}
	aims, had, err := d.splitByDelivery(ctx, w, aims)
	if err != nil {
		return err
	}
	it := &item{want: w, heldBy: had}
	if len(aims) == 0 {
		return d.recordComplete(ctx, it, b)
	}
	switch {
	case d.Filter != nil && d.fixed == nil:
		err = d.stageFiltered(ctx, it, aims, mail, message)
	case len(aims) == 1:
		err = d.stageInSink(ctx, it, aims[0], mail, message)
	default:
		err = d.stageFromCopy(ctx, it, aims, mail, message, b)
	}
	switch {
	case errors.Is(b.err, errTooLarge):
		return d.rejectUnstaged(ctx, it, b, b.err)
	case faultOf(err) == deliver.FaultMessage:
		return d.rejectUnstaged(ctx, it, b, err)
	case err != nil && it.pendingSinks > 0:
		// If the batch is still committed, as it is when time runs out, none
		// of its sinks may be forgotten.
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

// addToBatch adds a message that has come in whole to the batch.
func (d *download) addToBatch(it *item) {
	d.recordSums(it)
	it.complete = true
	if it.isDifferentMessage() {
		for _, a := range it.heldBy {
			it.owedTo = append(it.owedTo, a.Target)
		}
		it.err = cmp.Or(it.err, errDifferentMessage)
	}
	d.batch.items = append(d.batch.items, it)
	d.batch.bytes += it.octets
}

// rejectUnstaged refuses a message that no sink has staged. One without a unique-id is
// read to its end, so that it is known when it comes again, also by its content.
func (d *download) rejectUnstaged(ctx context.Context, it *item, b *body, reason error) error {
	if it.want.Key == "" || !it.want.Header.IsZero() {
		if err := b.drain(); err != nil {
			return err
		}
		d.recordSums(it)
	}
	return d.quarantineOrRefuse(ctx, d.fixed, it.want, it.content, reason)
}

// skipFolderData leaves what is no mail on the server. Nothing is remembered of it, or a mail
// might get its unique-id and be taken for it: each poll looks again. Nor does what went
// wrong with it before wait for an end.
func (d *download) skipFolderData(ctx context.Context, w Want, b *body) error {
	if err := b.drain(); err != nil {
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

// stageInSink streams a message into one sink's part.
func (d *download) stageInSink(ctx context.Context, it *item, a aim, mail deliver.Mail, message io.Reader) error {
	mail.Recipients = a.recipients
	p, err := d.sinkBatch(ctx, a.Target)
	begun := err == nil
	if begun {
		_, err = p.Stage(ctx, mail, message)
	}
	oneOfMany := err != nil && d.hasSeveralSinks() && isSinkTrouble(err) && ctx.Err() == nil
	if oneOfMany && begun {
		d.downSinks[a.Name] = err
		p.abandon(err)
	}
	switch {
	case err == nil:
		p.items = append(p.items, it)
		it.pendingSinks++
	case faultOf(err) == deliver.FaultMessage, oneOfMany:
		// The trouble of one sink of several holds up no others.
		it.owedTo = append(it.owedTo, a.Target)
		it.err = cmp.Or(it.err, err)
	default:
		return err
	}
	return nil
}

// filterError is an error of the filter that is no fault of the message, as far
// as anybody knows.
type filterError struct{ error }

func (e *filterError) Unwrap() error { return e.error }

// stageFiltered hands a message to its sinks as the filter wants it. Neither a
// message that is to be dropped nor one for the quarantine is staged.
func (d *download) stageFiltered(ctx context.Context, it *item, aims []aim, mail deliver.Mail, message io.Reader) error {
	filtered, err := d.Filter.Run(ctx, mail, message)
	if faultOf(err) == deliver.FaultTemporary && ctx.Err() == nil {
		it.err = err // this message waits, and no other for it
		return nil
	} else if err != nil {
		return &filterError{err}
	}
	defer filtered.Close()
	if filtered.Warning != "" {
		it.unfiltered = filtered.Warning
		d.notice("message %q goes on unfiltered: %s", it.want.UID, filtered.Warning)
	}
	switch filtered.Verdict {
	case filter.Drop:
		it.dropped = true
		return nil
	case filter.Quarantine:
		return errQuarantine
	}
	return d.stageInSinks(ctx, it, aims, mail, func() (io.Reader, error) { return filtered.Open(), nil })
}

// stageInSinks hands a message that has come in whole to its sinks, one after the
// other. After an error it is owed to those that are left.
func (d *download) stageInSinks(ctx context.Context, it *item, aims []aim, mail deliver.Mail, open func() (io.Reader, error)) error {
	for i, a := range aims {
		message, err := open()
		if err == nil {
			err = d.stageInSink(ctx, it, a, mail, message)
		}
		if err != nil {
			for _, left := range aims[i:] {
				it.owedTo = append(it.owedTo, left.Target)
			}
			it.err = cmp.Or(it.err, err)
			return err
		}
	}
	return nil
}

// errQuarantine is a filter's verdict. Where it is told, there is no quarantine;
// and of a message that is refused, the reason is all that is told.
var errQuarantine = &deliver.Error{
	Fault: deliver.FaultMessage, Target: "filter",
	Op: "the message belongs in quarantine, and there is none: set refused: quarantine and quarantine: SINK",
}

// dropSink stands for a sink where the filter dropped a message.
const dropSink = "(dropped)"

// recordDropped books a message that its filter dropped: the journal counts it as
// delivered.
func (d *download) recordDropped(ctx context.Context, it *item) error {
	d.recordSums(it)
	if err := d.opts.State.Promise(ctx, d.Name, []state.Promise{it.newPromise(dropSink, deliver.Promise{})}); err != nil {
		return err
	}
	landing := state.Landing{UID: it.want.Key, Sink: dropSink, Where: "dropped by the filter", Dropped: true}
	if err := d.opts.State.Land(ctx, d.Name, d.opts.now().Unix(), []state.Landing{landing}); err != nil {
		return err
	}
	d.notice("the filter dropped message %q", it.want.UID)
	return d.recordOutcome(ctx, d.fixed, it)
}

// recordSums notes what is known of a message once it has come in whole.
func (d *download) recordSums(it *item) {
	it.octets, it.header, it.content = d.sums.octets, d.sums.header.sum(), d.sums.contentSum()
	d.checkSize(it.want, it.octets)
	if d.suspect {
		it.doubtedSince = d.opts.now().Unix()
	}
	if it.want.Key == "" {
		it.want.Key = d.plan.keys.next(cmp.Or(it.want.Header, it.content), d.rows) // see cut
	}
}

// stageFromCopy hands a message to several sinks, one after the other, from a copy
// of its own.
func (d *download) stageFromCopy(ctx context.Context, it *item, aims []aim, mail deliver.Mail, message io.Reader, b *body) error {
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
	return d.stageInSinks(ctx, it, aims, mail, func() (io.Reader, error) {
		if _, err := copied.Seek(0, io.SeekStart); err != nil {
			return nil, failed(err)
		}
		return copied, nil
	})
}

// splitByDelivery returns those of the sinks that do not have the message yet, and those
// that have it: some of several may have taken it at an earlier try.
func (d *download) splitByDelivery(ctx context.Context, w Want, aims []aim) (left, had []aim, err error) {
	if d.fixed != nil || w.Row == nil {
		return aims, nil, nil
	}
	landed, err := d.landings(ctx, w)
	if err != nil {
		return nil, nil, err
	}
	for _, a := range aims {
		if slices.ContainsFunc(landed, func(it state.Delivery) bool { return it.Sink == a.Name }) {
			had = append(had, a)
		} else {
			left = append(left, a)
		}
	}
	return left, had, nil
}

// landings returns where a message has landed, by the names that the sinks have now,
// and by no others from now on: what is to land next may go by those.
func (d *download) landings(ctx context.Context, w Want) (landed []state.Delivery, err error) {
	deliveries, err := d.opts.State.Deliveries(ctx, d.Name, w.Key)
	if err != nil {
		return nil, err
	}
	renamed := false
	for _, it := range deliveries {
		if it.Landed == 0 {
			continue
		}
		known := false
		for _, t := range d.targets() {
			if d.isDeliveryTo(t, it) {
				known, renamed = true, renamed || it.Sink != t.Name
				by := it
				by.Sink = t.Name
				landed = append(landed, by)
			}
		}
		if !known {
			landed = append(landed, it)
		}
	}
	if !renamed {
		return landed, nil
	}
	h := state.Housekeeping{Landed: map[string][]state.Delivery{w.Key: landed}}
	return landed, d.opts.State.Keep(ctx, d.Name, d.opts.now().Unix(), h)
}

// isDeliveryTo reports whether a delivery was to that sink. It may have had another name then:
// to take it for another sink would be to deliver twice. If the name is another's now,
// where it leads to decides; but one that has moved keeps what it had.
func (d *download) isDeliveryTo(t Target, it state.Delivery) bool {
	made := func(o Target) bool { return o.Sink.Made(it.Token) }
	if it.Sink == t.Name {
		return made(t) || !slices.ContainsFunc(d.targets(), made)
	}
	named := d.sink(d.opts, it.Sink)
	return made(t) && (named == nil || !named.Made(it.Token))
}

// errDifferentMessage is why a message is owed to sinks that have one of its unique-id.
var errDifferentMessage = errors.New("its unique-id was another message's, which some sinks have: they get this one at the next try")

// isDifferentMessage reports whether a message that some sinks seem to have is not the one
// that they took. If both have a header that tells, the rest does not count:
// servers change fields of their own.
func (it *item) isDifferentMessage() bool {
	row := it.want.Row
	switch {
	case len(it.heldBy) == 0:
		return false
	case !row.Header.IsZero() && !it.header.IsZero():
		return row.Header != it.header
	default:
		return !row.Content.IsZero() && row.Content != it.content
	}
}

// recordComplete books a message that every sink has which is still wanted.
func (d *download) recordComplete(ctx context.Context, it *item, b *body) error {
	b.limit = 0
	if err := b.drain(); err != nil {
		return err
	}
	d.recordSums(it)
	if it.isDifferentMessage() {
		d.addToBatch(it)
		return nil
	}
	w := it.want
	h := state.Housekeeping{Complete: []string{w.Key}}
	if err := d.opts.State.Keep(ctx, d.Name, d.opts.now().Unix(), h); err != nil {
		return err
	}
	delete(d.undelivered, w.Num)
	d.summary.Fetched++
	d.summary.Bytes += w.Row.Size
	if d.due(d.opts.now().Unix()) {
		d.toDelete = append(d.toDelete, Listed{w.Num, w.Key})
	}
	return nil
}
