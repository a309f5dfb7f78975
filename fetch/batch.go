package fetch

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// The bounds of a batch, unless the sink has lower ones: a batch costs one round
// of fsyncs, and a crash costs the batches that are not promised yet.
const (
	batchMessages = 64
	batchBytes    = 32 << 20
	batchAge      = 2 * time.Second

	// The last batches are smaller, down to this: nothing is deleted before
	// the last one is committed, and there is no download to wait for then.
	batchLast = 24
)

// batch is a group of messages that are committed together. Each sink that
// any of them is for has a part of it.
type batch struct {
	sinks   []*sinkBatch
	items   []*item
	bytes   int64
	started time.Time
}

// sinkBatch is a sink's batch.
type sinkBatch struct {
	Target
	deliver.Batch
	items []*item // by ticket
}

// item is one message of a batch.
type item struct {
	want            Want
	octets          int64
	header, content state.Sum
	// pendingSinks counts the sinks that have it staged and did not report yet.
	pendingSinks int
	// owedTo are the sinks that would not even stage it, or took another message
	// for it; had are those that seem to have it.
	owedTo []Target
	heldBy []aim
	// err is why the first of the sinks that did not take it did not. judged is
	// set once a sink's failure was put down to it, unproven if that is no more
	// than likely, spared if a sink did not get to it, booked once its batch is.
	err                                          error
	blamed, blameUnproven, notReached, batchDone bool
	// complete is set once it has come in to its end and all that it is for is
	// known.
	complete bool
	// doubtedSince is since when it may be another message than the one of its
	// unique-id, in Unix seconds; 0 if it is not.
	doubtedSince int64
	// dropped is set if the filter wants it nowhere, unfiltered is why it goes on
	// as it came if the filter failed.
	dropped    bool
	unfiltered string
}

// abandon leaves the part's messages owed to its sink.
func (p *sinkBatch) abandon(err error) {
	p.Abort()
	for _, it := range p.items {
		it.pendingSinks--
		it.owedTo = append(it.owedTo, p.Target)
		it.err = cmp.Or(it.err, err)
	}
	p.items = nil
}

// newPromise returns a promise of the item by a sink.
func (it *item) newPromise(sink string, made deliver.Promise) state.Promise {
	return state.Promise{
		UID: it.want.Key, Sink: sink, Token: made.Token, Where: made.Where,
		Size: it.octets, Header: it.header, Content: it.content, Missing: it.doubtedSince,
	}
}

// isFull reports whether the batch should be committed before more is staged.
// left is how many messages are still to come.
func (b *batch) isFull(now time.Time, left int) bool {
	if len(b.items) >= min(batchMessages, max(batchLast, left)) || b.bytes >= batchBytes || now.Sub(b.started) >= batchAge {
		return true
	}
	return slices.ContainsFunc(b.sinks, func(p *sinkBatch) bool {
		most := p.Sink.Profile().MaxMessages
		return most > 0 && len(p.items) >= most
	})
}

// abort drops what was not committed.
func (b *batch) abort() {
	for _, p := range b.sinks {
		p.Abort()
	}
}

// committer makes staged batches visible, one after the other. It owns a
// batch from the moment it is handed over.
//
// The order is what keeps mail safe, at whatever instruction the power goes:
//
//  1. the sink makes the messages durable, invisible   Batch.Prepare
//  2. the promises are journalled, durably             State.Promise
//  3. the sink makes them visible and durable          Batch.Commit
//  4. 'landed' is journalled                           State.Land
//  5. the session deletes them from the server         DELE, QUIT
//
// 1 of the next batch goes on beside 4 of this one if the sinks need not hear of it.
//
// Without 1 before 2, a promise could stand for a torn message. Without 2
// before 3, a message that landed would be fetched again. Without 3 and 4
// before 5, it could be gone from everywhere.
//
// A message for several sinks is promised for all of them at once, before any
// of them makes it visible: the journal counts it as landed when no promise of
// it is left, and a sink that it never heard of would be forgotten.
//
// One sink's trouble is not the others': where there are several, messages are
// owed to the one that failed until the next poll. Nor is one message's trouble
// that of the others: see judge.
type committer struct {
	account      string
	severalSinks bool // sinks
	journal      State
	now          func() time.Time
	report       func(Event)

	// finished are the messages whose every sink has reported, open the keys of
	// those with a promise that is open, and down the sinks that failed. The
	// session reads them once the committer is done.
	finished []*item
	openKeys []string
	down     map[string]error
	// How sinks fare, by their names, for judge: failed have taken nothing since they
	// failed over a message, and it is pending while nobody knows whose fault that
	// was. proven have taken a message since they last failed by a message's fault.
	proven, failing map[string]bool
	suspected       map[string]sinkFailure
	// journalled tells how the last batch's land ended.
	journalled chan error
}

// commit commits one batch. After an error the promises that are still open
// are settled by the next poll.
func (c *committer) commit(ctx context.Context, b *batch) error {
	defer b.abort()
	parts, err := c.prepare(ctx, b)
	if err != nil {
		return err
	}
	var promises, owed, suspect []state.Promise
	for _, r := range parts {
		promises = append(promises, r.promises...)
	}
	for _, it := range b.items {
		for _, t := range it.owedTo {
			if p := it.newPromise(t.Name, deliver.Promise{}); it.want.mayBreakSink() {
				suspect = append(suspect, p)
			} else {
				owed = append(owed, p)
			}
		}
	}
	if err := c.awaitJournal(); err != nil {
		return err
	}
	if err := c.journal.Promise(ctx, c.account, slices.Concat(promises, owed, suspect)); err != nil {
		return err
	}

	// From here on mail may be visible: the journal hears of it even if the
	// poll is being given up.
	if len(owed) > 0 {
		if err := c.journal.Retract(context.WithoutCancel(ctx), c.account, owed); err != nil {
			return err
		}
	}
	if len(suspect) > 0 { // and remain so: nobody tried them
		if err := c.journal.Suspect(context.WithoutCancel(ctx), c.account, 0, "", suspect); err != nil {
			return err
		}
	}
	var failed error
	for _, r := range slices.Backward(parts) {
		err := r.Commit(ctx, r.add)
		if e, ok := errors.AsType[*deliver.Error](err); ok && e.Blameless {
			r.withdrawUnreported(e)
		} else {
			if ok && e.Untaken {
				r.suspectUnreported(e)
			}
			err = c.assignBlame(ctx, b, r, err)
		}
		if err != nil && c.othersCanContinue(ctx, err) {
			c.down[r.Name], err = err, nil
		}
		if !r.canDefer() {
			err = errors.Join(err, r.flush())
		}
		failed = errors.Join(failed, err)
	}
	c.journalled = make(chan error, 1)
	go func() { c.journalled <- c.journalLandings(b, parts) }()
	return failed
}

// prepare has the parts of a batch prepared, but for those of sinks that are down,
// which are owed their messages.
func (c *committer) prepare(ctx context.Context, b *batch) (parts []*sinkCommit, err error) {
	for _, p := range inLockOrder(b.sinks) {
		if len(p.items) == 0 {
			continue // it refused whatever it was shown
		}
		if slices.ContainsFunc(p.items, func(it *item) bool { return !it.complete }) {
			// Else it would count as landed, whatever other sinks it is for.
			return nil, errors.New("a sink has a message staged that did not come in whole")
		}
		if err := c.down[p.Name]; err != nil {
			p.abandon(err)
			continue
		}
		promised, err := p.Prepare(ctx)
		if err != nil && c.othersCanContinue(ctx, err) {
			c.down[p.Name] = err // it may have waited long for a lock
			p.abandon(err)
			continue
		} else if err != nil {
			return nil, err
		}
		if len(promised) != len(p.items) {
			return nil, errors.New("the sink made promises for other messages than it was given")
		}
		r := &sinkCommit{
			committer: c, sinkBatch: p, ctx: context.WithoutCancel(ctx),
			promises: make([]state.Promise, 0, len(promised)), received: make([]deliver.Receipt, 0, len(promised)),
		}
		for i, made := range promised {
			r.promises = append(r.promises, p.items[i].newPromise(p.Name, made))
		}
		parts = append(parts, r)
	}
	return parts, nil
}

// journalLandings journals what may have waited, and books the messages of a batch.
func (c *committer) journalLandings(b *batch, parts []*sinkCommit) error {
	var failed error
	for _, r := range slices.Backward(parts) {
		failed = errors.Join(failed, r.flush())
	}
	next := c.now()
	if c.severalSinks && b.items[0].want.mayBreakSink() { // else it was not tried by itself yet
		next = next.Add(suspectPause)
	}
	for _, r := range parts { // once all is noted that has landed elsewhere
		if len(r.untaken) > 0 && failed == nil {
			failed = r.journal.Suspect(r.ctx, r.account, next.Unix(), r.untakenReason, r.untaken)
		}
	}
	for _, it := range b.items {
		if it.pendingSinks > 0 {
			c.openKeys = append(c.openKeys, it.want.Key)
		}
		if it.pendingSinks == 0 && (c.severalSinks || !it.notReached) || it.blamed {
			c.finished = append(c.finished, it)
		}
		it.batchDone = true
	}
	return failed
}

// finish is to be called when there is no batch any more, with why the last one
// failed. What is pending was the sink's trouble, for all that anybody knows.
func (c *committer) finish(failed error) error {
	if err := c.awaitJournal(); err != nil {
		return err // which is worse than any sink's
	}
	for sink, p := range c.suspected {
		switch {
		case c.severalSinks && c.down[sink] == nil:
			c.down[sink] = p.why
		case !c.severalSinks && failed == nil:
			failed = p.why
		}
	}
	return failed
}

// awaitJournal waits until the last batch is journalled.
func (c *committer) awaitJournal() (err error) {
	if c.journalled != nil {
		err = <-c.journalled
		c.journalled = nil
	}
	return err
}

// sinkFailure is an item over which a sink failed, and how.
type sinkFailure struct {
	*item
	why error
}

// assignBlame finds out whose fault it is that a sink failed to commit its part of a batch,
// and returns err if it is the sink's. It can be a message's only if the batch has no
// other. It is if the message was suspect, or refused before, and the sink has taken
// others; or if the sink takes the next one: until then it is pending. A sink that
// fails over two in a row is itself at fault.
func (c *committer) assignBlame(ctx context.Context, b *batch, r *sinkCommit, err error) error {
	p, pending := c.suspected[r.Name]
	if err == nil && r.tookAny() {
		c.proven[r.Name], c.failing[r.Name] = true, false
		if pending {
			c.blameMessage(p)
			delete(c.suspected, r.Name)
		}
		return nil
	}
	if err == nil || len(b.items) != 1 || !isSinkTrouble(err) || ctx.Err() != nil {
		return err
	}
	it := b.items[0]
	switch {
	case c.proven[r.Name] && (it.want.mayBreakSink() || it.want.tries() > 0):
		c.proven[r.Name] = false
		c.blameMessage(sinkFailure{it, err})
	case c.failing[r.Name]:
		delete(c.suspected, r.Name)
		return err
	case it.want.tries() > 0: // nothing may come that tells
		c.failing[r.Name], it.blameUnproven = true, true
		c.blameMessage(sinkFailure{it, err})
	default:
		c.failing[r.Name] = true
		c.suspected[r.Name] = sinkFailure{it, err}
	}
	return nil
}

// blameMessage has an item refused. Its promise stays open, since nobody knows whether the
// sink has it. If the batch was booked without it, that is made good.
func (c *committer) blameMessage(v sinkFailure) {
	if v.batchDone && !v.blamed {
		c.finished = append(c.finished, v.item)
	}
	v.err, v.blamed = v.why, true
}

// othersCanContinue reports whether an error is the trouble of one sink of several.
func (c *committer) othersCanContinue(ctx context.Context, err error) bool {
	return c.severalSinks && isSinkTrouble(err) && ctx.Err() == nil
}

// inLockOrder returns the parts in the order in which they are prepared: what
// locks comes last, so that no lock is held while a server is waited for, and
// by target, so that no two batches wait for each other's locks.
func inLockOrder(parts []*sinkBatch) []*sinkBatch {
	return slices.SortedStableFunc(slices.Values(parts), func(a, b *sinkBatch) int {
		p, q := a.Sink.Profile(), b.Sink.Profile()
		switch {
		case p.Locks != q.Locks && q.Locks:
			return -1
		case p.Locks != q.Locks:
			return 1
		case p.Locks:
			return cmp.Compare(p.Target, q.Target)
		default:
			return 0
		}
	})
}

// sinkCommit collects what a part's Commit reports, and journals it all at once,
// with the last message: the sink still holds its locks then, and may be about to
// forget what it did. If it may wait, it does until the next batch is durable.
type sinkCommit struct {
	*committer
	*sinkBatch
	promises     []state.Promise // by ticket
	ctx          context.Context
	received     []deliver.Receipt
	flushedCount int
	flushFailed  bool
	// untaken are the promises of which the sink said that it kept none, and why.
	untaken       []state.Promise
	untakenReason string
}

func (r *sinkCommit) add(rc deliver.Receipt) error {
	r.received = append(r.received, rc)
	if len(r.received) < len(r.items) || r.canDefer() {
		return nil
	}
	return r.flush()
}

// withdrawUnreported has the promises of what was not reported withdrawn.
func (r *sinkCommit) withdrawUnreported(err error) {
	for _, t := range r.unreportedTickets() {
		r.items[t].notReached = true
		r.received = append(r.received, deliver.Receipt{Ticket: t, Err: err})
	}
}

// suspectUnreported has it be suspect, as it would be if that was to be settled first.
func (r *sinkCommit) suspectUnreported(err error) {
	for _, t := range r.unreportedTickets() {
		r.untaken = append(r.untaken, r.promises[t])
	}
	r.untakenReason = err.Error()
}

// unreportedTickets are the tickets of which the sink has said nothing.
func (r *sinkCommit) unreportedTickets() (ts []deliver.Ticket) {
	reported := map[deliver.Ticket]bool{}
	for _, rc := range r.received {
		reported[rc.Ticket] = true
	}
	for i := range r.items {
		if t := deliver.Ticket(i); !reported[t] {
			ts = append(ts, t)
		}
	}
	return ts
}

// tookAny reports whether the sink took any of its messages.
func (r *sinkCommit) tookAny() bool {
	return slices.ContainsFunc(r.received, func(rc deliver.Receipt) bool { return rc.Err == nil })
}

// canDefer reports whether the sink could tell at any time what became of its
// promises. It could not of those that it has not kept.
func (r *sinkCommit) canDefer() bool {
	p := r.Sink.Profile()
	broken := func(rc deliver.Receipt) bool { return rc.Err != nil }
	return p.Guarantee == deliver.ExactlyOnce && !p.Locks && !slices.ContainsFunc(r.received, broken)
}

func (r *sinkCommit) flush() error {
	pending := r.received[r.flushedCount:]
	if len(pending) == 0 || r.flushFailed {
		return nil
	}
	r.flushFailed = true // until all is written
	var landings []state.Landing
	var broken, suspect []state.Promise
	for _, rc := range pending {
		if it := r.items[rc.Ticket]; rc.Err != nil && it.notReached && it.want.mayBreakSink() {
			suspect = append(suspect, r.promises[rc.Ticket]) // and remains so
			continue
		}
		if rc.Err != nil {
			broken = append(broken, r.promises[rc.Ticket])
			continue
		}
		promise := r.promises[rc.Ticket]
		landing := state.Landing{UID: promise.UID, Sink: promise.Sink}
		if rc.Where != promise.Where {
			landing.Where = rc.Where
		}
		landings = append(landings, landing)
	}
	if len(landings) > 0 {
		if err := r.journal.Land(r.ctx, r.account, r.now().Unix(), landings); err != nil {
			return err
		}
	}
	if len(broken) > 0 {
		if err := r.journal.Retract(r.ctx, r.account, broken); err != nil {
			return err
		}
	}
	if len(suspect) > 0 {
		if err := r.journal.Suspect(r.ctx, r.account, 0, "", suspect); err != nil {
			return err
		}
	}
	r.flushedCount, r.flushFailed = len(r.received), false
	for _, rc := range pending {
		it := r.items[rc.Ticket]
		it.pendingSinks--
		if rc.Err != nil {
			it.err = cmp.Or(it.err, rc.Err)
			continue
		}
		r.report(Landed{Account: r.account, UID: it.want.UID, Sink: r.Name, Where: rc.Where, Octets: it.octets})
	}
	return nil
}
