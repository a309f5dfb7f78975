package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/envelope"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// fetch downloads messages into sinks and commits them, batch by batch: while one batch
// is committed the next comes in, and may wait for it. At most three exist. fixed are
// the sinks; nil leaves the choice to the account. A message larger than maxSize is
// refused; 0 is no limit.
func (s *session) fetch(ctx context.Context, fixed []Target, wants []Want, maxSize int64) error {
	if len(wants) == 0 || s.opts.draining() {
		return nil
	}
	// What has come in whole is committed even if the poll's time runs out.
	commitCtx, stop := outliveBudget(ctx)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	batches := make(chan *batch, 1)
	d := &download{session: s, fixed: fixed, maxSize: maxSize, batches: batches, sums: newSums()}
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
		s.unanswered[key] = true // later sessions of the poll leave it alone
		s.landedKeys = append(s.landedKeys, key)
	}
	for _, it := range c.finished {
		if recordErr := s.recordOutcome(ctx, fixed, it); recordErr != nil && err == nil {
			err = recordErr
		}
	}
	return err
}

// recordOutcome records what became of a message whose sinks have all reported.
func (s *session) recordOutcome(ctx context.Context, fixed []Target, it *item) error {
	w := it.want
	ctx = context.WithoutCancel(ctx)
	if it.blameUnproven {
		return s.recordRefusal(ctx, w, it.content, it.err, w.tries() > 0, longestBackoff)
	}
	if it.err != nil {
		return s.quarantineOrRefuse(ctx, fixed, w, it.content, it.err)
	}
	if it.unfiltered != "" {
		s.summary.unfiltered++
		s.summary.whyUnfiltered = cmp.Or(s.summary.whyUnfiltered, it.unfiltered)
	}
	if it.dropped {
		s.summary.Dropped++
	} else {
		s.summary.Fetched++
		s.summary.Bytes += it.octets
	}
	if fixed != nil {
		s.reportQuarantined(w)
	}
	s.landedKeys = append(s.landedKeys, w.Key)
	delete(s.undelivered, w.Num)
	if s.due(s.opts.now().Unix()) {
		s.toDelete = append(s.toDelete, Listed{w.Num, w.Key})
	}
	return nil
}

// download is the half of a fetch that owns the connection. It stages messages in
// batches and hands these to the committer, the other half.
type download struct {
	*session
	fixed      []Target // as in session.fetch
	maxSize    int64
	batches    chan<- *batch
	sinkFailed atomic.Bool // no further batch can be committed

	batch  *batch // being staged
	sums   *sums  // of the message being staged
	header []byte // the beginning of the message being staged

	// traceFields are the header fields put before a message that came by traceHop,
	// kept for the next message.
	traceHop    envelope.Hop
	traceFields []byte
}

// commitBatches is the committer's goroutine. Once a batch has failed, it drops those
// that follow. If a sink is to blame, the download ends in good order; after any other
// failure, giveUp hangs up.
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
			d.suspect = d.pipelined
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
	alone := w.mayBreakSink()
	if alone {
		d.handOver()
	}
	b := newBody(m, d.sums, d.maxSize, d.pipelined)
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
	if err := b.drain(); err != nil { // what the sinks did not read
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
	case d.fixed != nil:
		return d.fixed
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
	if d.Filter != nil && d.fixed == nil {
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
// so that they are not downloaded in vain, and returns the others. It cannot tell where
// a route chooses the sinks by the header.
func (d *download) refuseUndeliverable(ctx context.Context, wants []Want) (deliverable []Want, err error) {
	if len(d.downSinks) == 0 || d.fixed != nil || d.Route != nil {
		return wants, nil
	}
	for _, w := range wants {
		aims, _, err := d.splitByDelivery(ctx, w, d.aims(nil))
		if err != nil {
			return nil, err
		}
		up := func(a aim) bool { return d.downSinks[a.Name] == nil }
		if len(aims) == 0 || slices.ContainsFunc(aims, up) {
			deliverable = append(deliverable, w)
		} else if err := d.refuse(ctx, w, state.Sum{}, d.downSinks[aims[0].Name]); err != nil {
			return nil, err
		}
	}
	return deliverable, nil
}

// isSinkTrouble reports whether err is one sink's own trouble, which is no reason for
// other sinks to stop.
func isSinkTrouble(err error) bool {
	f := faultOf(err)
	return f == deliver.FaultTemporary || f == deliver.FaultOperator
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
	err := d.opts.silent.ask(ctx, t.Sink, d.opts.now, func() (err error) {
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

// connectionLost handles a connection that died, or a poll that was called off, while w
// was retrieved. What has been staged is committed, w included if a sink had it by
// then.
func (d *download) connectionLost(ctx context.Context, w Want, err error) error {
	n := len(d.batch.items)
	staged := n > 0 && d.batch.items[n-1].want.Num == w.Num
	d.handOver()
	if staged {
		return d.lostBetweenMessages(ctx, err) // recordOutcome sees to w
	}
	return d.lostDuringMessage(ctx, w, err)
}

// lostDuringMessage handles a connection that died, or a poll that was called off or
// ran out of time, while w was retrieved.
func (s *session) lostDuringMessage(ctx context.Context, w Want, err error) error {
	_, silent := errors.AsType[silentOutOfStep](err)
	switch {
	case silent && ctx.Err() == nil:
		return errors.Join(s.connectError(err), s.recordTorn(ctx, w, err))
	case errors.Is(err, errOutOfStep):
		return s.connectError(err) // not the message's fault
	case ctx.Err() == nil:
		err = s.connectError(err)
		return errors.Join(&cutError{err}, s.recordTorn(ctx, w, err))
	}
	err = context.Cause(ctx)
	if isOverBudget(err) {
		// A message that trickles in must not hold up all others for ever.
		return errors.Join(err, s.recordTorn(context.WithoutCancel(ctx), w, err))
	}
	return err
}

// lostDuringHeader handles a connection that died while the header of e was retrieved.
// That header may have been asked for because it casts doubt on all rows, and it may
// have to wait now: all rows are doubted meanwhile.
func (s *session) lostDuringHeader(ctx context.Context, e pop3proto.Entry, err error) error {
	w := Want{Entry: e, Key: e.UID}
	shared := func(o pop3proto.Entry) bool { return o.UID == e.UID && o.Num != e.Num }
	if slices.ContainsFunc(s.listing.Entries, shared) {
		w.Key = "" // a unique-id of several messages identifies none
		return s.lostDuringMessage(ctx, w, err)
	}
	r, known := findRow(s.rows, e.UID)
	if !known {
		return s.lostDuringMessage(ctx, w, err)
	}
	w.Row = &s.rows[r]
	return errors.Join(s.lostDuringMessage(ctx, w, err), s.doubtAllRows(context.WithoutCancel(ctx)))
}

// lostBetweenMessages handles a connection that died, or a poll that was called off,
// while no message was retrieved.
func (s *session) lostBetweenMessages(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.connectError(err)
}

// quarantineOrRefuse handles a message that a sink did not take. If no retry can help,
// it goes to the quarantine, unless there is none or it was the sink.
func (s *session) quarantineOrRefuse(ctx context.Context, fixed []Target, w Want, content state.Sum, err error) error {
	final := errors.Is(err, errTooLarge) || faultOf(err) == deliver.FaultMessage
	if final && s.Quarantine != nil && fixed == nil {
		s.queueForQuarantine(w, err)
		return nil
	}
	return s.refuse(ctx, w, content, err)
}

// queueForQuarantine notes that a message is for the quarantine, and why.
func (s *session) queueForQuarantine(w Want, why error) {
	if s.rejectedFor == nil {
		s.rejectedFor = map[int]error{}
	}
	s.forQuarantine = append(s.forQuarantine, w)
	s.rejectedFor[w.Num] = why
}

// reportQuarantined reports a message that landed in the quarantine. If the filter sent
// it there, that is no refusal.
func (s *session) reportQuarantined(w Want) {
	s.summary.Quarantined++
	why := s.rejectedFor[w.Num]
	delete(s.rejectedFor, w.Num)
	if errors.Is(why, errQuarantine) {
		s.notice("the filter sent message %q to quarantine", w.UID)
	} else {
		s.opts.report(Refused{Account: s.Name, UID: w.UID, Reason: why.Error(), Quarantine: s.Quarantine.Name})
	}
}

// serverRefusal is a message for which the server answered RETR with -ERR.
type serverRefusal struct {
	Want
	err error
}

// maxTroublePolls is how many polls in a row may fail before a server that claims
// trouble of its own is no longer believed.
const maxTroublePolls = 6

// refuseUnread records the messages that the server refused to give. An -ERR to RETR is
// about that message if the server gives others. If it gives none and claims trouble of
// its own (RFC 3206 §4), the messages need not wait. If it gives none of several and
// claims nothing, they wait no longer than after a poll that failed.
func (s *session) refuseUnread(ctx context.Context) error {
	refused := s.notGiven
	s.notGiven = nil
	maxPause := longestPause
	if !s.gaveMessage && len(refused) > 1 {
		maxPause = longestBackoff
	}
	for _, u := range refused {
		if !s.gaveMessage && s.failures < maxTroublePolls && u.tries() == 0 && isServerTrouble(u.err) {
			s.serverTrouble = cmp.Or(s.serverTrouble, s.connectError(u.err))
			continue
		}
		if err := s.recordRefusal(ctx, u.Want, state.Sum{}, u.err, u.tries() > 0, maxPause); err != nil {
			return err
		}
	}
	return nil
}

// isServerTrouble reports whether the response code of a refusal claims passing trouble
// of the server itself.
func isServerTrouble(err error) bool {
	r, ok := errors.AsType[*pop3proto.ReplyError](err)
	return ok && (r.Code == pop3proto.CodeSysTemp || r.Code == pop3proto.CodeInUse || r.Code == pop3proto.CodeLoginDelay)
}

// refuse records that a message stays on the server because of err. content is zero if
// it is not known.
//
// If its sink is down as a whole, the message waits no longer than an account whose
// polls fail: refuseUndeliverable finds out without a download whether the sink is up,
// unless a route has to see the header.
func (s *session) refuse(ctx context.Context, w Want, content state.Sum, err error) error {
	maxPause := longestPause
	for _, down := range s.downSinks {
		if s.Route == nil && errors.Is(err, down) {
			maxPause = longestBackoff
		}
	}
	return s.recordRefusal(ctx, w, content, err, w.tries() > 0, maxPause)
}

// recordRefusal reports a failed attempt at a message, and has it tried again after a
// pause of at most maxPause. A message without a key cannot be remembered, and is tried
// again at the next poll. reported says whether an earlier poll has reported this
// already.
func (s *session) recordRefusal(ctx context.Context, w Want, content state.Sum, err error, reported bool, maxPause time.Duration) error {
	delete(s.rejectedFor, w.Num)
	var next time.Time
	if w.Key != "" {
		next = s.opts.now().Add(min(retryPause(w.tries()+1), maxPause))
	}
	s.summary.Refused++
	s.opts.report(Refused{Account: s.Name, UID: w.UID, Reason: err.Error(), NextTry: next, Again: reported})
	if w.Key == "" {
		s.keyless++
		return nil
	}
	return s.opts.State.Refuse(ctx, s.Name, []state.Refusal{{
		UID: w.Key, Size: w.Size, NextTry: next.Unix(), Reason: err.Error(), Header: w.Header, Content: content,
	}})
}

// recordTorn records that a poll or its connection ended over a message. Lines drop for
// any reason: the first time, the message is only tried after all others; from the
// second time on, it pauses like one that was refused. A message without a key is left
// alone for the rest of the poll.
func (s *session) recordTorn(ctx context.Context, w Want, err error) error {
	if s.readOnly {
		return nil
	}
	err = fmt.Errorf("it did not come in whole: %w", err)
	if w.Key == "" {
		s.interrupted[w.Entry] = true
		return s.refuse(ctx, w, state.Sum{}, err)
	}
	if n := w.tries(); n > 0 {
		return s.recordRefusal(ctx, w, state.Sum{}, err, n > 1, longestPause) // the first time was not reported
	}
	return s.retryLast(ctx, w, err)
}

// retryLast has a message tried after all others, without a pause, unless it has failed
// before.
func (s *session) retryLast(ctx context.Context, w Want, err error) error {
	if w.Key == "" || w.tries() > 0 {
		return nil
	}
	return s.opts.State.Refuse(ctx, s.Name, []state.Refusal{{
		UID: w.Key, Size: w.Size, NextTry: s.opts.now().Unix(), Reason: err.Error(), Header: w.Header,
	}})
}
