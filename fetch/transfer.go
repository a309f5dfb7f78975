package fetch

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/envelope"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// fetch downloads messages into sinks and commits them, batch by batch: while one batch
// is committed the next comes in, and may wait for it. At most three exist, and one more
// whose landings are being journalled. toQuarantine puts the messages into the
// quarantine, whatever their size, and nowhere else.
func (s *session) fetch(ctx context.Context, wants []Want, toQuarantine bool) error {
	if len(wants) == 0 || s.opts.draining() {
		return nil
	}
	// What was received completely is committed even if the poll's time runs out.
	commitCtx, stop := outliveBudget(ctx)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	batches := make(chan *batch, 1)
	d := &download{session: s, toQuarantine: toQuarantine, batches: batches, sums: newSums()}
	c := &committer{
		account: s.Name, severalSinks: d.hasSeveralSinks(), journal: s.opts.State, now: s.opts.now, report: s.opts.report,
		down: map[string]error{}, proven: map[string]bool{}, failing: map[string]bool{}, suspected: map[string]sinkFailure{},
	}
	done := make(chan error, 1)
	go func() { done <- d.commitBatches(commitCtx, c, batches, cancel) }()
	err := d.run(ctx, wants)
	close(batches)
	failed := <-done
	if failed != nil && !errors.Is(err, errOutOfStep) && Classify(failed) >= Classify(err) { // the worse counts
		err = failed
	}
	maps.Copy(s.downSinks, c.down)
	for _, key := range c.openKeys {
		s.openKeys[key] = true // later sessions of the poll leave it alone
		s.landedKeys = append(s.landedKeys, key)
	}
	for _, it := range c.finished {
		if recordErr := d.recordOutcome(ctx, it); recordErr != nil && err == nil {
			err = recordErr
		}
	}
	return err
}

// download is the half of a fetch that owns the connection. It stages messages in
// batches and hands these to the committer, the other half.
type download struct {
	*session
	toQuarantine bool // as in session.fetch
	batches      chan<- *batch
	sinkFailed   atomic.Bool // no further batch can be committed

	batch  *batch // being staged
	sums   *sums  // of the message being staged
	header []byte // the beginning of the message being staged

	// traceFields are the header fields put before a message that came by traceHop,
	// kept for the next message.
	traceHop    envelope.Hop
	traceFields []byte
}

// commitBatches is the committer's goroutine. Once a batch has failed, it drops those
// that follow. If a sink is to blame, the download stops at the next message, and the
// session goes on; after any other failure, giveUp hangs up.
func (d *download) commitBatches(ctx context.Context, c *committer, batches <-chan *batch, giveUp context.CancelCauseFunc) error {
	var failed error
	for b := range batches {
		if failed != nil {
			b.abort()
		} else if failed = c.commit(ctx, b); isSinkTrouble(failed) {
			d.sinkFailed.Store(true)
		} else if failed != nil {
			giveUp(failed)
		}
	}
	return c.finish(failed)
}

// recordOutcome records what became of a message: it landed, was dropped by the filter,
// or is refused because of it.err.
func (d *download) recordOutcome(ctx context.Context, it *item) error {
	w := it.want
	ctx = context.WithoutCancel(ctx)
	if it.blameUnproven {
		return d.recordRefusal(ctx, w, it.content, it.err, w.tries() > 0, longestBackoff)
	}
	if it.err != nil {
		return d.quarantineOrRefuse(ctx, w, it.content, it.err)
	}
	if it.unfiltered != "" {
		d.summary.unfiltered++
		d.summary.whyUnfiltered = cmp.Or(d.summary.whyUnfiltered, it.unfiltered)
	}
	if it.dropped {
		d.summary.Dropped++
	} else {
		d.summary.Fetched++
		d.summary.Octets += it.octets
	}
	if d.toQuarantine {
		d.reportQuarantined(w)
	}
	d.landedKeys = append(d.landedKeys, w.Key)
	delete(d.undelivered, w.Num)
	if d.due(d.opts.now().Unix()) {
		d.toDelete = append(d.toDelete, Listed{w.Num, w.Key})
	}
	return nil
}

// run retrieves the wanted messages and stages them.
func (d *download) run(ctx context.Context, wants []Want) error {
	d.batch = &batch{started: d.opts.now()}
	defer func() { d.batch.abort() }()
	if err := d.beginBatches(ctx); err != nil {
		return err
	}
	wants, err := d.refuseUndeliverable(ctx, wants)
	if err != nil {
		return err
	}
	for m, err := range d.client.Retrieve(ctx, d.entries(wants)) {
		if d.sinkFailed.Load() {
			if err = d.asOutOfStep(err); errors.Is(err, errOutOfStep) {
				return d.connectError(err) // so that what has landed is doubted
			}
			return nil // the session deletes what has landed
		}
		if len(wants) == 0 { // err came after the last message
			d.handOver()
			return d.lostBetweenMessages(ctx, d.asOutOfStep(err))
		}
		w := wants[0]
		wants = wants[1:]
		d.unverified = d.pipelined
		switch {
		case err == nil:
			if err := d.receive(ctx, w, m, len(wants)); err != nil {
				return err
			}
		case isReply(err):
			d.doubtful = d.pipelined
			d.notGiven = append(d.notGiven, serverRefusal{w, err})
		default:
			return d.connectionLost(ctx, w, d.asOutOfStep(err))
		}
	}
	d.handOver()
	return nil
}

// receive reads one message to its end and stages it. A suspect message gets a batch of
// its own. remaining is how many messages are still to come.
func (d *download) receive(ctx context.Context, w Want, m io.Reader, remaining int) error {
	d.noteRetrieved(w)
	alone := w.isSuspect()
	if alone {
		d.handOver()
	}
	maxSize := d.MaxSize
	if d.toQuarantine {
		maxSize = 0
	}
	b := newBody(m, d.sums, maxSize, d.pipelined)
	b.meter = d.meter
	if err := d.stage(ctx, w, b); err != nil {
		if ctx.Err() != nil || b.isTorn() {
			return d.connectionLost(ctx, w, cmp.Or(b.err, err))
		}
		if _, ok := errors.AsType[*filterError](err); ok && isSinkTrouble(err) {
			d.handOver() // what has passed the filter before
			return errors.Join(err, d.retryLast(ctx, w, err))
		}
		return err
	}
	if err := b.readToEnd(); err != nil { // what the sinks did not read
		return d.connectionLost(ctx, w, err)
	}
	if alone || d.batch.isFull(d.opts.now(), remaining) {
		d.handOver()
	}
	return nil
}

// commonSinks returns the sinks that every message goes to.
func (d *download) commonSinks() []Target {
	switch {
	case d.toQuarantine:
		return []Target{*d.Quarantine}
	case d.Route == nil:
		return d.Deliver
	default:
		return nil
	}
}

// hasSeveralSinks reports whether there may be more than one sink.
func (d *download) hasSeveralSinks() bool { return len(d.commonSinks()) != 1 }

// beginBatches begins the batches of the sinks that every message goes to, so that a
// sink or a filter that cannot be used is found before anything is downloaded. It fails
// only if none of the sinks can be used.
func (d *download) beginBatches(ctx context.Context) error {
	if d.Filter != nil && !d.toQuarantine {
		if err := d.Filter.Begin(); err != nil {
			return err
		}
	}
	var failed error
	working := 0
	for _, t := range d.commonSinks() {
		_, err := d.sinkBatch(ctx, t)
		switch {
		case err == nil:
			working++
		case !isSinkTrouble(err):
			return err
		default:
			failed = cmp.Or(failed, err)
		}
	}
	if working == 0 {
		return failed
	}
	return nil
}

// refuseUndeliverable refuses the messages that only sinks which are down still lack,
// so that they are not downloaded in vain, and returns the others. Where a route
// chooses the sinks by the header, it refuses none.
func (d *download) refuseUndeliverable(ctx context.Context, wants []Want) (deliverable []Want, err error) {
	if len(d.downSinks) == 0 || d.toQuarantine || d.Route != nil {
		return wants, nil
	}
	for _, w := range wants {
		dests, _, err := d.splitByDelivery(ctx, w, d.destinations(nil))
		if err != nil {
			return nil, err
		}
		up := func(a destination) bool { return d.downSinks[a.Name] == nil }
		if len(dests) == 0 || slices.ContainsFunc(dests, up) {
			deliverable = append(deliverable, w)
		} else if err := d.refuse(ctx, w, state.Sum{}, d.downSinks[dests[0].Name]); err != nil {
			return nil, err
		}
	}
	return deliverable, nil
}

// sinkBatch returns the sink's part of the current batch, and begins it if need be.
func (d *download) sinkBatch(ctx context.Context, t Target) (*sinkBatch, error) {
	if err := d.downSinks[t.Name]; err != nil {
		return nil, err // not every message is to wait for a server that does not answer
	}
	for _, p := range d.batch.sinks {
		if p.Target == t {
			return p, nil
		}
	}
	var b deliver.Batch
	err := d.opts.sinkBackoff.do(ctx, t.Sink, d.opts.now, func() (err error) {
		b, err = t.Sink.Begin(ctx)
		return err
	})
	if err != nil {
		if d.hasSeveralSinks() {
			d.downSinks[t.Name] = err
		}
		return nil, err
	}
	p := &sinkBatch{Target: t, Batch: b}
	d.batch.sinks = append(d.batch.sinks, p)
	return p, nil
}

// handOver gives the current batch to the committer and starts another.
func (d *download) handOver() {
	if len(d.batch.items) > 0 {
		d.batches <- d.batch
	} else {
		d.batch.abort()
	}
	d.batch = &batch{started: d.opts.now()}
}
