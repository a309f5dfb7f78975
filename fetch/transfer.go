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
	d := &download{session: s, fixed: fixed, limit: limit, full: full, sums: newSums()}
	c := &committer{
		account: s.Name, several: d.several(), journal: s.opts.State, now: s.opts.now, report: s.opts.report,
		down: map[string]error{}, proven: map[string]bool{}, failed: map[string]bool{}, pending: map[string]verdict{},
	}
	done := make(chan error, 1)
	go func() {
		var failed error
		for b := range full {
			if failed != nil {
				b.abort()
			} else if failed = c.commit(commitCtx, b); isolated(failed) {
				d.stuck.Store(true)
			} else if failed != nil {
				cancel(failed)
			}
		}
		done <- c.end(failed)
	}()
	err := d.run(ctx, wants)
	close(full)
	failed := <-done
	if failed != nil && !errors.Is(err, errOutOfStep) && Classify(failed) >= Classify(err) { // the worse counts
		err = failed
	}
	maps.Copy(s.downSinks, c.down)
	for _, key := range c.open {
		s.unanswered[key] = true // for the sessions to come
		s.landedKeys = append(s.landedKeys, key)
	}
	for _, it := range c.finished {
		if tallyErr := s.tally(ctx, fixed, it); tallyErr != nil && err == nil {
			err = tallyErr
		}
	}
	return err
}

// tally books what became of a message whose sinks have all reported.
func (s *session) tally(ctx context.Context, fixed []Target, it *item) error {
	switch longer := context.WithoutCancel(ctx); {
	case it.unproven:
		return s.leave(longer, it.want, it.content, it.err, it.want.tries() > 0, longestBackoff)
	case it.err != nil:
		return s.reject(longer, fixed, it.want, it.content, it.err)
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
		s.banished(it.want)
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
	fixed []Target
	limit int64
	full  chan<- *batch
	stuck atomic.Bool // the only sink takes no more

	batch *batch // being staged
	sums  *sums
	head  []byte // of the message that is being staged

	hop    envelope.Hop // of which traced tells
	traced []byte
}

func (d *download) run(ctx context.Context, wants []Want) error {
	d.batch = &batch{begun: d.opts.now()}
	defer func() { d.batch.abort() }()
	if err := d.beginAll(ctx); err != nil {
		return err
	}
	wants, err := d.spare(ctx, wants)
	if err != nil {
		return err
	}
	for m, err := range d.client.Retrieve(ctx, d.entries(wants)) {
		if d.stuck.Load() {
			if err = d.asOutOfStep(err); errors.Is(err, errOutOfStep) {
				return d.connectError(err) // or nobody would doubt what landed
			}
			return nil // the session deletes what landed
		}
		if len(wants) == 0 {
			d.hand() // all of it came in whole
			return d.cutBetween(ctx, d.asOutOfStep(err))
		}
		w := wants[0]
		wants = wants[1:]
		d.unverified = d.pipelined
		if err != nil && !isReply(err) {
			return d.cut(ctx, w, d.asOutOfStep(err))
		}
		if err != nil {
			d.suspect = d.pipelined
			d.notGiven = append(d.notGiven, unread{w, err})
			continue
		}
		d.noteRetrieved(w)
		alone := w.mayBreakSink()
		if alone {
			d.hand()
		}
		b := newBody(m, d.sums, d.limit, d.pipelined)
		b.meter = d.meter
		if err := d.stage(ctx, w, b); err != nil {
			if ctx.Err() != nil || b.torn() {
				return d.cut(ctx, w, cmp.Or(b.err, err))
			}
			if _, stalled := errors.AsType[*stalledError](err); stalled && isolated(err) {
				d.hand() // what has passed the filter; this one is not to be in the way next time
				return errors.Join(err, d.postpone(ctx, w, err))
			}
			return err
		}
		// What the sinks did not care to read.
		if err := b.drain(); err != nil {
			return d.cut(ctx, w, err)
		}
		if alone || d.batch.full(d.opts.now(), len(wants)) {
			d.hand()
		}
	}
	d.hand()
	return nil
}

// certain returns the sinks that every message goes to.
func (d *download) certain() []Target {
	switch {
	case d.fixed != nil:
		return d.fixed
	case d.Route == nil:
		return d.Deliver
	default:
		return nil
	}
}

// several reports whether a sink is one of several, or chosen by the message.
func (d *download) several() bool { return len(d.certain()) != 1 }

// beginAll begins the parts of the sinks that every message goes to, so that a
// sink that cannot be used, or a filter, is found before anything is downloaded.
// If there are other sinks that can, they do not wait for it.
func (d *download) beginAll(ctx context.Context) error {
	if d.Filter != nil && d.fixed == nil {
		if err := d.Filter.Begin(); err != nil {
			return err
		}
	}
	var broken error
	working := 0
	for _, t := range d.certain() {
		_, err := d.part(ctx, t)
		switch {
		case err == nil:
			working++
		case !isolated(err):
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

// spare leaves out, and refuses, what only sinks that are down are owed: it would
// be downloaded for nothing. Where a message goes by its header, that is not known
// before.
func (d *download) spare(ctx context.Context, wants []Want) (left []Want, err error) {
	if len(d.downSinks) == 0 || d.fixed != nil || d.Route != nil {
		return wants, nil
	}
	for _, w := range wants {
		aims, _, err := d.missing(ctx, w, d.aims(nil))
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

// isolated reports whether an error is one sink's own trouble, which is no
// reason for others to stop.
func isolated(err error) bool {
	f := faultOf(err)
	return f == deliver.FaultTemporary || f == deliver.FaultOperator
}

// part returns the part of a sink in the batch, which it begins if need be.
func (d *download) part(ctx context.Context, t Target) (*part, error) {
	// Not every message is to wait for a server that does not answer.
	if err := d.downSinks[t.Name]; err != nil {
		return nil, err
	}
	for _, p := range d.batch.parts {
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
		if d.several() {
			d.downSinks[t.Name] = err
		}
		return nil, err
	}
	p := &part{Target: t, Batch: b}
	d.batch.parts = append(d.batch.parts, p)
	return p, nil
}

// hand gives the batch to the committer and begins another.
func (d *download) hand() {
	if len(d.batch.items) > 0 {
		d.full <- d.batch
	} else {
		d.batch.abort()
	}
	d.batch = &batch{begun: d.opts.now()}
}

// cut handles a connection that died while w was on its way. What has come in
// whole is committed.
func (d *download) cut(ctx context.Context, w Want, err error) error {
	n := len(d.batch.items)
	whole := n > 0 && d.batch.items[n-1].want.Num == w.Num
	d.hand()
	if whole {
		return d.cutBetween(ctx, err) // what becomes of it, the batch tells
	}
	return d.cutWithin(ctx, w, err)
}

// cutWithin handles a connection that died, or a budget that ran out, while w was on
// its way.
func (s *session) cutWithin(ctx context.Context, w Want, err error) error {
	if _, silent := errors.AsType[silentOutOfStep](err); silent && ctx.Err() == nil {
		return errors.Join(s.connectError(err), s.cameTorn(ctx, w, err))
	}
	if errors.Is(err, errOutOfStep) {
		return s.connectError(err) // it is no fault of the message
	}
	if ctx.Err() == nil {
		err = s.connectError(err)
		return errors.Join(&cutError{err}, s.cameTorn(ctx, w, err))
	}
	err = context.Cause(ctx)
	if isOverBudget(err) {
		// A message that trickles in would hold up all others for ever.
		return errors.Join(err, s.cameTorn(context.WithoutCancel(ctx), w, err))
	}
	return err
}

// cutHeader handles a connection that died while the header of e was on its way.
// That may have cast doubt on all rows, and may not be asked for again soon: they
// are looked at meanwhile.
func (s *session) cutHeader(ctx context.Context, e pop3proto.Entry, err error) error {
	w := Want{Entry: e, Key: e.UID}
	shared := func(o pop3proto.Entry) bool { return o.UID == e.UID && o.Num != e.Num }
	if slices.ContainsFunc(s.listing.Entries, shared) {
		w.Key = "" // it is no name
		return s.cutWithin(ctx, w, err)
	}
	r, known := findRow(s.rows, e.UID)
	if !known {
		return s.cutWithin(ctx, w, err)
	}
	w.Row = &s.rows[r]
	return errors.Join(s.cutWithin(ctx, w, err), s.doubtAllRows(context.WithoutCancel(ctx)))
}

// cutBetween handles a connection that died, or a poll that was called off,
// while no message was on its way.
func (s *session) cutBetween(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.connectError(err)
}

// reject handles a message that a sink did not take. If it never will, the
// quarantine gets it next, if there is one and it was not the sink.
func (s *session) reject(ctx context.Context, fixed []Target, w Want, content state.Sum, err error) error {
	final := errors.Is(err, errTooLarge) || faultOf(err) == deliver.FaultMessage
	if final && s.Quarantine != nil && fixed == nil {
		s.banish(w, err)
		return nil
	}
	return s.refuse(ctx, w, content, err)
}

// banish notes that a message is for the quarantine, and why.
func (s *session) banish(w Want, why error) {
	if s.rejectedFor == nil {
		s.rejectedFor = map[int]error{}
	}
	s.forQuarantine = append(s.forQuarantine, w)
	s.rejectedFor[w.Num] = why
}

// banished tells of a message that the quarantine has. What a filter sends there
// is no news.
func (s *session) banished(w Want) {
	s.summary.Quarantined++
	why := s.rejectedFor[w.Num]
	delete(s.rejectedFor, w.Num)
	if errors.Is(why, errQuarantine) {
		s.notice("the filter sent message %q to quarantine", w.UID)
	} else {
		s.opts.report(Refused{Account: s.Name, UID: w.UID, Reason: why.Error(), Quarantine: s.Quarantine.Name})
	}
}

// unread is a message that the server would not give.
type unread struct {
	Want
	err error
}

// patience is after how many polls that fail in a row a server in trouble is no
// longer believed that the trouble is its own.
const patience = 6

// blame finds who is to blame for what the server would not give. An -ERR to
// RETR is about that message, if the server gives others. If it gives none and
// says by a response code that it has trouble of its own (RFC 3206 §4), nothing
// is held against the messages for now. If it does not say so, but there are
// several, they do not wait longer than for a server that does not answer at all.
func (s *session) blame(ctx context.Context) error {
	refused := s.notGiven
	s.notGiven = nil
	most := longestPause
	if !s.gaveMessage && len(refused) > 1 {
		most = longestBackoff
	}
	for _, u := range refused {
		if !s.gaveMessage && s.failures < patience && u.tries() == 0 && ownTrouble(u.err) {
			s.serverTrouble = cmp.Or(s.serverTrouble, s.connectError(u.err))
			continue
		}
		if err := s.leave(ctx, u.Want, state.Sum{}, u.err, u.tries() > 0, most); err != nil {
			return err
		}
	}
	return nil
}

// ownTrouble reports whether a server that refuses something says that it has
// trouble of its own, which will pass.
func ownTrouble(err error) bool {
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
	return s.leave(ctx, w, content, err, w.tries() > 0, most)
}

// leave is refuse; again says whether this was told before, and most is the
// longest pause.
func (s *session) leave(ctx context.Context, w Want, content state.Sum, err error, again bool, most time.Duration) error {
	delete(s.rejectedFor, w.Num)
	var next time.Time
	if w.Key != "" {
		next = s.opts.now().Add(min(pause(w.tries()+1), most))
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

// cameTorn records that a poll or its connection ended over a message. Lines
// drop for any reason, so the first time it is only put behind all others; if
// it happens again, the message is left alone like one that was refused. So is one
// that nothing tells, for the rest of the poll.
func (s *session) cameTorn(ctx context.Context, w Want, err error) error {
	if s.readOnly {
		return nil
	}
	err = fmt.Errorf("it did not come in whole: %w", err)
	if w.Key == "" {
		s.interrupted[w.Entry] = true
		return s.refuse(ctx, w, state.Sum{}, err)
	}
	if n := w.tries(); n > 0 {
		return s.leave(ctx, w, state.Sum{}, err, n > 1, longestPause) // of the first time nobody was told
	}
	return s.postpone(ctx, w, err)
}

// postpone puts a message behind all others, and no more.
func (s *session) postpone(ctx context.Context, w Want, err error) error {
	if w.Key == "" || w.tries() > 0 {
		return nil
	}
	return s.opts.State.Refuse(ctx, s.Name, []state.Refusal{{
		UID: w.Key, Size: w.Size, NextTry: s.opts.now().Unix(), Reason: err.Error(), Header: w.Header,
	}})
}
