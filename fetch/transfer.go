package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/envelope"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// fetch downloads messages into sinks and commits them, batch by batch. While one
// is committed the next comes in, and may wait for it: at most three exist.
// fixed are the sinks; nil leaves the choice to the account. limit is the size
// above which a message is refused; 0 is none.
func (s *session) fetch(ctx context.Context, fixed []Target, wants []Want, limit int64) error {
	if len(wants) == 0 || s.opts.draining() {
		return nil
	}
	// What has come in whole is committed even if time runs out.
	commitCtx, stop := outliveBudget(ctx)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	full := make(chan *batch, 1)
	d := &download{session: s, fixed: fixed, maxSize: limit, batches: full, sums: newSums()}
	c := &committer{
		account: s.Name, severalSinks: d.hasSeveralSinks(), journal: s.opts.State, now: s.opts.now, report: s.opts.report,
		down: map[string]error{}, proven: map[string]bool{}, failing: map[string]bool{}, suspected: map[string]sinkFailure{},
	}
	done := make(chan error, 1)
	go func() {
		var failed error
		for b := range full {
			if failed != nil {
				b.abort()
			} else if failed = c.commit(commitCtx, b); isSinkTrouble(failed) {
				d.sinkFailed.Store(true)
			} else if failed != nil {
				cancel(failed)
			}
		}
		done <- c.finish(failed)
	}()
	err := d.run(ctx, wants)
	close(full)
	failed := <-done
	if failed != nil && !errors.Is(err, errOutOfStep) && Classify(failed) >= Classify(err) { // the worse counts
		err = failed
	}
	maps.Copy(s.downSinks, c.down)
	for _, key := range c.openKeys {
		s.unanswered[key] = true // for the sessions to come
		s.landedKeys = append(s.landedKeys, key)
	}
	for _, it := range c.finished {
		if tallyErr := s.recordOutcome(ctx, fixed, it); tallyErr != nil && err == nil {
			err = tallyErr
		}
	}
	return err
}

// recordOutcome books what became of a message whose sinks have all reported.
func (s *session) recordOutcome(ctx context.Context, fixed []Target, it *item) error {
	switch longer := context.WithoutCancel(ctx); {
	case it.blameUnproven:
		return s.recordRefusal(longer, it.want, it.content, it.err, it.want.tries() > 0, longestBackoff)
	case it.err != nil:
		return s.quarantineOrRefuse(longer, fixed, it.want, it.content, it.err)
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
		s.reportQuarantined(it.want)
	}
	s.landedKeys = append(s.landedKeys, it.want.Key)
	delete(s.undelivered, it.want.Num)
	if s.due(s.opts.now().Unix()) {
		s.toDelete = append(s.toDelete, Listed{it.want.Num, it.want.Key})
	}
	return nil
}

// download is the half of a fetch that owns the connection.
type download struct {
	*session
	fixed      []Target
	maxSize    int64
	batches    chan<- *batch
	sinkFailed atomic.Bool // the only sink takes no more

	batch  *batch // being staged
	sums   *sums
	header []byte // of the message that is being staged

	traceHop    envelope.Hop // of which traced tells
	traceFields []byte
}

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
				return d.connectError(err) // or nobody would doubt what landed
			}
			return nil // the session deletes what landed
		}
		if len(wants) == 0 {
			d.handOver() // all of it came in whole
			return d.lostBetweenMessages(ctx, d.asOutOfStep(err))
		}
		w := wants[0]
		wants = wants[1:]
		d.unverified = d.pipelined
		if err != nil && !isReply(err) {
			return d.connectionLost(ctx, w, d.asOutOfStep(err))
		}
		if err != nil {
			d.suspect = d.pipelined
			d.notGiven = append(d.notGiven, serverRefusal{w, err})
			continue
		}
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
			if _, stalled := errors.AsType[*filterError](err); stalled && isSinkTrouble(err) {
				d.handOver() // what has passed the filter; this one is not to be in the way next time
				return errors.Join(err, d.retryLast(ctx, w, err))
			}
			return err
		}
		// What the sinks did not care to read.
		if err := b.drain(); err != nil {
			return d.connectionLost(ctx, w, err)
		}
		if alone || d.batch.isFull(d.opts.now(), len(wants)) {
			d.handOver()
		}
	}
	d.handOver()
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

// hasSeveralSinks reports whether a sink is one of several, or chosen by the message.
func (d *download) hasSeveralSinks() bool { return len(d.commonSinks()) != 1 }

// beginBatches begins the parts of the sinks that every message goes to, so that a
// sink that cannot be used, or a filter, is found before anything is downloaded.
// If there are other sinks that can, they do not wait for it.
func (d *download) beginBatches(ctx context.Context) error {
	if d.Filter != nil && d.fixed == nil {
		if err := d.Filter.Begin(); err != nil {
			return err
		}
	}
	var broken error
	working := 0
	for _, t := range d.commonSinks() {
		_, err := d.sinkBatch(ctx, t)
		switch {
		case err == nil:
			working++
		case !isSinkTrouble(err):
			return err
		default:
			broken = cmp.Or(broken, err)
		}
	}
	if working == 0 {
		return broken
	}
	return nil
}

// refuseUndeliverable leaves out, and refuses, what only sinks that are down are owed: it would
// be downloaded for nothing. Where a message goes by its header, that is not known
// before.
func (d *download) refuseUndeliverable(ctx context.Context, wants []Want) (left []Want, err error) {
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
			left = append(left, w)
		} else if err := d.refuse(ctx, w, state.Sum{}, d.downSinks[aims[0].Name]); err != nil {
			return nil, err
		}
	}
	return left, nil
}

// isSinkTrouble reports whether an error is one sink's own trouble, which is no
// reason for others to stop.
func isSinkTrouble(err error) bool {
	f := faultOf(err)
	return f == deliver.FaultTemporary || f == deliver.FaultOperator
}

// sinkBatch returns the part of a sink in the batch, which it begins if need be.
func (d *download) sinkBatch(ctx context.Context, t Target) (*sinkBatch, error) {
	// Not every message is to wait for a server that does not answer.
	if err := d.downSinks[t.Name]; err != nil {
		return nil, err
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

// handOver gives the batch to the committer and begins another.
func (d *download) handOver() {
	if len(d.batch.items) > 0 {
		d.batches <- d.batch
	} else {
		d.batch.abort()
	}
	d.batch = &batch{started: d.opts.now()}
}

// connectionLost handles a connection that died while w was on its way. What has come in
// whole is committed.
func (d *download) connectionLost(ctx context.Context, w Want, err error) error {
	n := len(d.batch.items)
	whole := n > 0 && d.batch.items[n-1].want.Num == w.Num
	d.handOver()
	if whole {
		return d.lostBetweenMessages(ctx, err) // what becomes of it, the batch tells
	}
	return d.lostDuringMessage(ctx, w, err)
}

// lostDuringMessage handles a connection that died, or a budget that ran out, while w was on
// its way.
func (s *session) lostDuringMessage(ctx context.Context, w Want, err error) error {
	if _, silent := errors.AsType[silentOutOfStep](err); silent && ctx.Err() == nil {
		return errors.Join(s.connectError(err), s.recordTorn(ctx, w, err))
	}
	if errors.Is(err, errOutOfStep) {
		return s.connectError(err) // it is no fault of the message
	}
	if ctx.Err() == nil {
		err = s.connectError(err)
		return errors.Join(&cutError{err}, s.recordTorn(ctx, w, err))
	}
	err = context.Cause(ctx)
	if isOverBudget(err) {
		// A message that trickles in would hold up all others for ever.
		return errors.Join(err, s.recordTorn(context.WithoutCancel(ctx), w, err))
	}
	return err
}

// lostDuringHeader handles a connection that died while the header of e was on its way.
// That may have cast doubt on all rows, and may not be asked for again soon: they
// are looked at meanwhile.
func (s *session) lostDuringHeader(ctx context.Context, e pop3proto.Entry, err error) error {
	w := Want{Entry: e, Key: e.UID}
	shared := func(o pop3proto.Entry) bool { return o.UID == e.UID && o.Num != e.Num }
	if slices.ContainsFunc(s.listing.Entries, shared) {
		w.Key = "" // it is no name
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
// while no message was on its way.
func (s *session) lostBetweenMessages(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.connectError(err)
}

// quarantineOrRefuse handles a message that a sink did not take. If it never will, the
// quarantine gets it next, if there is one and it was not the sink.
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

// reportQuarantined tells of a message that the quarantine has. What a filter sends there
// is no news.
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

// serverRefusal is a message that the server would not give.
type serverRefusal struct {
	Want
	err error
}

// maxTroublePolls is after how many polls that fail in a row a server in trouble is no
// longer believed that the trouble is its own.
const maxTroublePolls = 6

// refuseUnread finds who is to blame for what the server would not give. An -ERR to
// RETR is about that message, if the server gives others. If it gives none and
// says by a response code that it has trouble of its own (RFC 3206 §4), nothing
// is held against the messages for now. If it does not say so, but there are
// several, they do not wait longer than for a server that does not answer at all.
func (s *session) refuseUnread(ctx context.Context) error {
	refused := s.notGiven
	s.notGiven = nil
	most := longestPause
	if !s.gaveMessage && len(refused) > 1 {
		most = longestBackoff
	}
	for _, u := range refused {
		if !s.gaveMessage && s.failures < maxTroublePolls && u.tries() == 0 && isServerTrouble(u.err) {
			s.serverTrouble = cmp.Or(s.serverTrouble, s.connectError(u.err))
			continue
		}
		if err := s.recordRefusal(ctx, u.Want, state.Sum{}, u.err, u.tries() > 0, most); err != nil {
			return err
		}
	}
	return nil
}

// isServerTrouble reports whether a server that refuses something says that it has
// trouble of its own, which will pass.
func isServerTrouble(err error) bool {
	r, ok := errors.AsType[*pop3proto.ReplyError](err)
	return ok && (r.Code == pop3proto.CodeSysTemp || r.Code == pop3proto.CodeInUse || r.Code == pop3proto.CodeLoginDelay)
}

// refuse records that a message stays on the server for now. One that has
// nothing to remember it by is tried again at the next poll. content may be
// zero if it is not known.
//
// Where its sink as a whole cannot be used, the message does not wait longer than
// for a server that cannot. To look costs nothing then, see spare, unless only its
// header tells the sink.
func (s *session) refuse(ctx context.Context, w Want, content state.Sum, err error) error {
	most := longestPause
	for _, down := range s.downSinks {
		if s.Route == nil && errors.Is(err, down) {
			most = longestBackoff
		}
	}
	return s.recordRefusal(ctx, w, content, err, w.tries() > 0, most)
}

// recordRefusal is refuse; again says whether this was told before, and most is the
// longest pause.
func (s *session) recordRefusal(ctx context.Context, w Want, content state.Sum, err error, again bool, most time.Duration) error {
	delete(s.rejectedFor, w.Num)
	var next time.Time
	if w.Key != "" {
		next = s.opts.now().Add(min(retryPause(w.tries()+1), most))
	}
	s.summary.Refused++
	s.opts.report(Refused{Account: s.Name, UID: w.UID, Reason: err.Error(), NextTry: next, Again: again})
	if w.Key == "" {
		s.keyless++
		return nil
	}
	return s.opts.State.Refuse(ctx, s.Name, []state.Refusal{{
		UID: w.Key, Size: w.Size, NextTry: next.Unix(), Reason: err.Error(), Header: w.Header, Content: content,
	}})
}

// recordTorn records that a poll or its connection ended over a message. Lines
// drop for any reason, so the first time it is only put behind all others; if
// it happens again, the message is left alone like one that was refused. So is one
// that nothing tells, for the rest of the poll.
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
		return s.recordRefusal(ctx, w, state.Sum{}, err, n > 1, longestPause) // of the first time nobody was told
	}
	return s.retryLast(ctx, w, err)
}

// retryLast puts a message behind all others, and no more.
func (s *session) retryLast(ctx context.Context, w Want, err error) error {
	if w.Key == "" || w.tries() > 0 {
		return nil
	}
	return s.opts.State.Refuse(ctx, s.Name, []state.Refusal{{
		UID: w.Key, Size: w.Size, NextTry: s.opts.now().Unix(), Reason: err.Error(), Header: w.Header,
	}})
}
