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

// The bounds of a batch, unless a sink has lower ones. Each batch costs one round of
// fsyncs; a crash costs the download of what is not promised yet.
const (
	batchMessages = 64
	batchBytes    = 32 << 20
	batchAge      = 2 * time.Second

	// Towards the end of a download, batches shrink to this many messages: DELE waits
	// for the last commit, which no download overlaps.
	batchLast = 24
)

// batch is a group of messages that are committed together. Each sink that any of them
// is for has a sinkBatch in it.
type batch struct {
	sinks   []*sinkBatch
	items   []*item
	bytes   int64
	started time.Time
}

// sinkBatch is the part of a batch that goes to one sink.
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
	// complete is set once the message has come in to its end and all sinks that it is
	// for are known.
	complete bool
	// doubtedSince is when it became doubtful whether this is the message of its
	// unique-id, in Unix seconds; 0 if it is not doubtful.
	doubtedSince int64

	// pendingSinks counts the sinks that staged the message and have not reported its
	// delivery yet.
	pendingSinks int
	// owedTo are the sinks that still have to get the message: they failed to stage it,
	// or they have another message by its unique-id.
	owedTo []Target
	// heldBy are the sinks that took a message by this unique-id at an earlier try.
	heldBy []aim
	// err is the first error of a sink that did not take the message.
	err error

	// The committer sets these; see committer.assignBlame.
	blamed        bool // a sink's failure is put down to this message
	blameUnproven bool // likely, but no other message has shown that the sink works
	notReached    bool // a sink's Commit ended before it tried this message
	batchDone     bool // its batch has been journalled

	// dropped is set if the filter wants the message delivered nowhere.
	dropped bool
	// unfiltered is why the filter failed on a message that is delivered nevertheless;
	// empty if it did not fail.
	unfiltered string
}

// abandon aborts the sink's batch: its messages are owed to the sink, because of err.
func (p *sinkBatch) abandon(err error) {
	p.Abort()
	for _, it := range p.items {
		it.pendingSinks--
		it.owedTo = append(it.owedTo, p.Target)
		it.err = cmp.Or(it.err, err)
	}
	p.items = nil
}

// newPromise returns the journal's record of a promise that a sink made for the item.
func (it *item) newPromise(sink string, made deliver.Promise) state.Promise {
	return state.Promise{
		UID: it.want.Key, Sink: sink, Token: made.Token, Where: made.Where,
		Size: it.octets, Header: it.header, Content: it.content, Missing: it.doubtedSince,
	}
}

// isFull reports whether the batch should be committed before more is staged. remaining
// is how many messages are still to come.
func (b *batch) isFull(now time.Time, remaining int) bool {
	if len(b.items) >= min(batchMessages, max(batchLast, remaining)) || b.bytes >= batchBytes || now.Sub(b.started) >= batchAge {
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

// committer makes staged batches visible, one after the other. It owns a batch from the
// moment it is handed over.
//
// The order keeps mail safe at whatever instruction the power goes:
//
//  1. the sink makes the messages durable, invisible   Batch.Prepare
//  2. the promises are journalled, durably             State.Promise
//  3. the sink makes them visible and durable          Batch.Commit
//  4. 'landed' is journalled                           State.Land
//  5. the session deletes them from the server         DELE, QUIT
//
// Step 4 of one batch overlaps with step 1 of the next for sinks where that is safe;
// see sinkCommit.canDefer.
//
// If 1 did not come before 2, a promise could stand for a torn message. If 2 did not
// come before 3, a message that landed could be fetched again. If 3 and 4 did not come
// before 5, it could be gone from everywhere.
//
// A message for several sinks is promised for all of them before any of them makes it
// visible. The journal counts a message as landed when no promise of it is open: a sink
// without a promise would never get it.
//
// With several sinks, the failure of one does not stop the others: messages are owed to
// it until the next poll.
type committer struct {
	account      string
	severalSinks bool
	journal      State
	now          func() time.Time
	report       func(Event)

	// The session reads these once the committer is done.
	finished []*item          // messages whose every sink has reported
	openKeys []string         // keys of messages with an open promise
	down     map[string]error // sinks that failed, by name

	// What assignBlame knows of the sinks, by name. proven sinks have taken a message
	// since one was last blamed for their failure. failing sinks have taken none since
	// they failed over a message. suspected holds that failure until it is known
	// whether sink or message is at fault.
	proven, failing map[string]bool
	suspected       map[string]sinkFailure

	// journalled receives the result of journalLandings for the last batch; nil if none
	// is under way.
	journalled chan error
}

// commit commits one batch. After an error, promises may be open, which the next poll
// settles.
func (c *committer) commit(ctx context.Context, b *batch) error {
	defer b.abort()
	commits, err := c.prepare(ctx, b)
	if err != nil {
		return err
	}
	if err := c.awaitJournal(); err != nil {
		return err
	}
	if err := c.journalPromises(ctx, b, commits); err != nil {
		return err
	}
	var failed error
	for _, sc := range slices.Backward(commits) {
		failed = errors.Join(failed, c.commitSink(ctx, b, sc))
	}
	c.journalled = make(chan error, 1)
	go func() { c.journalled <- c.journalLandings(b, commits) }()
	return failed
}

// prepare makes the messages of a batch durable in their sinks. Sinks that are down are
// left out, and their messages are owed to them.
func (c *committer) prepare(ctx context.Context, b *batch) (commits []*sinkCommit, err error) {
	for _, p := range inLockOrder(b.sinks) {
		if len(p.items) == 0 {
			continue // it refused every message
		}
		if slices.ContainsFunc(p.items, func(it *item) bool { return !it.complete }) {
			// It would count as landed, although other sinks may lack it.
			return nil, errors.New("a sink has a message staged that did not come in whole")
		}
		if err := c.down[p.Name]; err != nil {
			p.abandon(err)
			continue
		}
		made, err := p.Prepare(ctx)
		switch {
		case err != nil && c.othersCanContinue(ctx, err):
			c.down[p.Name] = err // later batches need not wait for it: it may have waited long for a lock
			p.abandon(err)
			continue
		case err != nil:
			return nil, err
		case len(made) != len(p.items):
			return nil, errors.New("the sink made promises for other messages than it was given")
		}
		sc := &sinkCommit{
			sinkBatch: p, c: c, ctx: context.WithoutCancel(ctx),
			promises: make([]state.Promise, len(made)), received: make([]deliver.Receipt, 0, len(made)),
		}
		for i, m := range made {
			sc.promises[i] = p.items[i].newPromise(p.Name, m)
		}
		commits = append(commits, sc)
	}
	return commits, nil
}

// journalPromises journals what is to land, and what is owed to sinks that did not
// stage it. The latter is withdrawn at once, which leaves it owed; what was suspect
// before stays suspect, since no sink has tried it.
func (c *committer) journalPromises(ctx context.Context, b *batch, commits []*sinkCommit) error {
	var promises, owed, suspect []state.Promise
	for _, sc := range commits {
		promises = append(promises, sc.promises...)
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
	if err := c.journal.Promise(ctx, c.account, slices.Concat(promises, owed, suspect)); err != nil {
		return err
	}
	// From here on the journal is kept up to date even if the poll is given up.
	return c.withdraw(context.WithoutCancel(ctx), owed, suspect)
}

// withdraw takes back promises. Messages in owed get back to being owed to their sinks,
// those in suspect stay suspect: no sink has tried them.
func (c *committer) withdraw(ctx context.Context, owed, suspect []state.Promise) error {
	if len(owed) > 0 {
		if err := c.journal.Retract(ctx, c.account, owed); err != nil {
			return err
		}
	}
	if len(suspect) > 0 {
		return c.journal.Suspect(ctx, c.account, 0, "", suspect)
	}
	return nil
}

// commitSink makes the messages of one sink visible. Its error is one that ends the
// download: neither a message's fault nor the trouble of one sink of several.
func (c *committer) commitSink(ctx context.Context, b *batch, sc *sinkCommit) error {
	err := sc.Commit(ctx, sc.add)
	if e, ok := errors.AsType[*deliver.Error](err); ok && e.Blameless {
		sc.withdrawUnreported(e)
	} else {
		if ok && e.Untaken {
			sc.suspectUnreported(e)
		}
		err = c.assignBlame(ctx, b, sc, err)
	}
	if err != nil && c.othersCanContinue(ctx, err) {
		c.down[sc.Name], err = err, nil
	}
	if sc.canDefer() {
		return err
	}
	return errors.Join(err, sc.flush())
}

// journalLandings journals the landings that were deferred, and decides which messages
// of the batch are finished.
func (c *committer) journalLandings(b *batch, commits []*sinkCommit) error {
	var failed error
	for _, sc := range slices.Backward(commits) {
		failed = errors.Join(failed, sc.flush())
	}
	next := c.now()
	if c.severalSinks && b.items[0].want.mayBreakSink() { // it has now been tried in a batch of its own
		next = next.Add(suspectPause)
	}
	for _, sc := range commits { // only when all landings elsewhere are journalled
		if len(sc.untaken) > 0 && failed == nil {
			failed = c.journal.Suspect(sc.ctx, c.account, next.Unix(), sc.untakenReason, sc.untaken)
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

// finish is called after the last batch with the error that ended it, and returns the
// error of the whole. A failure that no later message has explained counts as the
// sink's.
func (c *committer) finish(failed error) error {
	if err := c.awaitJournal(); err != nil {
		return err // worse than any error of a sink
	}
	for sink, f := range c.suspected {
		switch {
		case c.severalSinks && c.down[sink] == nil:
			c.down[sink] = f.err
		case !c.severalSinks && failed == nil:
			failed = f.err
		}
	}
	return failed
}

// awaitJournal waits until the landings of the last batch are journalled.
func (c *committer) awaitJournal() (err error) {
	if c.journalled != nil {
		err = <-c.journalled
		c.journalled = nil
	}
	return err
}

// sinkFailure is the failure of a sink's Commit over one message.
type sinkFailure struct {
	item *item
	err  error
}

// assignBlame decides who is at fault if a sink's Commit failed with err, and returns
// err if it is the sink. A message can be at fault only if the batch has no other. It
// is, if the sink has proven to work and the message was suspect or refused before.
// Otherwise the next message decides: if the sink takes it, the first one was at fault;
// if the sink fails again, the sink is.
func (c *committer) assignBlame(ctx context.Context, b *batch, sc *sinkCommit, err error) error {
	sink := sc.Name
	if err == nil && sc.tookAny() {
		c.proven[sink], c.failing[sink] = true, false
		if f, ok := c.suspected[sink]; ok {
			c.blameMessage(f)
			delete(c.suspected, sink)
		}
		return nil
	}
	if err == nil || len(b.items) != 1 || !isSinkTrouble(err) || ctx.Err() != nil {
		return err
	}
	it := b.items[0]
	switch {
	case c.proven[sink] && (it.want.mayBreakSink() || it.want.tries() > 0):
		c.proven[sink] = false
		c.blameMessage(sinkFailure{it, err})
	case c.failing[sink]:
		delete(c.suspected, sink)
		return err
	case it.want.tries() > 0: // there may be no other message to decide it
		c.failing[sink], it.blameUnproven = true, true
		c.blameMessage(sinkFailure{it, err})
	default:
		c.failing[sink] = true
		c.suspected[sink] = sinkFailure{it, err}
	}
	return nil
}

// blameMessage has a message refused for a sink's failure. Its promise stays open: the
// sink may have the message nevertheless.
func (c *committer) blameMessage(f sinkFailure) {
	it := f.item
	if it.batchDone && !it.blamed { // journalLandings has left it out
		c.finished = append(c.finished, it)
	}
	it.err, it.blamed = f.err, true
}

// othersCanContinue reports whether err is the trouble of one sink of several.
func (c *committer) othersCanContinue(ctx context.Context, err error) bool {
	return c.severalSinks && isSinkTrouble(err) && ctx.Err() == nil
}

// inLockOrder returns the sinks in the order in which they are prepared. Those that
// lock come last, so that no lock is held while a server is waited for, and in the
// order of their targets, so that two batches cannot deadlock.
func inLockOrder(sinks []*sinkBatch) []*sinkBatch {
	return slices.SortedStableFunc(slices.Values(sinks), func(a, b *sinkBatch) int {
		p, q := a.Sink.Profile(), b.Sink.Profile()
		switch {
		case p.Locks && q.Locks:
			return cmp.Compare(p.Target, q.Target)
		case p.Locks:
			return 1
		case q.Locks:
			return -1
		}
		return 0
	})
}

// sinkCommit is a sinkBatch from Prepare on. It collects the receipts of Commit and
// journals them all at once, with the last one, while the sink still holds its locks
// and its own notes. If canDefer, that waits until the next batch is prepared.
type sinkCommit struct {
	*sinkBatch
	c            *committer
	ctx          context.Context   // not cancelled with the poll
	promises     []state.Promise   // by ticket
	received     []deliver.Receipt // so far
	flushedCount int               // how many of received are journalled
	flushFailed  bool
	// untaken are the promises of a failed Commit that the sink is known not to have
	// kept, and untakenReason is why.
	untaken       []state.Promise
	untakenReason string
}

// add is the callback of Batch.Commit.
func (sc *sinkCommit) add(rc deliver.Receipt) error {
	sc.received = append(sc.received, rc)
	if len(sc.received) < len(sc.items) || sc.canDefer() {
		return nil
	}
	return sc.flush()
}

// withdrawUnreported withdraws the promises of messages that the sink did not get to,
// for a reason that is no message's fault.
func (sc *sinkCommit) withdrawUnreported(err error) {
	for _, t := range sc.unreportedTickets() {
		sc.items[t].notReached = true
		sc.received = append(sc.received, deliver.Receipt{Ticket: t, Err: err})
	}
}

// suspectUnreported makes suspects of the messages that a failed Commit did not report,
// as settling their promises in the next poll would.
func (sc *sinkCommit) suspectUnreported(err error) {
	for _, t := range sc.unreportedTickets() {
		sc.untaken = append(sc.untaken, sc.promises[t])
	}
	sc.untakenReason = err.Error()
}

// unreportedTickets returns the tickets for which Commit gave no receipt.
func (sc *sinkCommit) unreportedTickets() (tickets []deliver.Ticket) {
	reported := map[deliver.Ticket]bool{}
	for _, rc := range sc.received {
		reported[rc.Ticket] = true
	}
	for i := range sc.items {
		if t := deliver.Ticket(i); !reported[t] {
			tickets = append(tickets, t)
		}
	}
	return tickets
}

// tookAny reports whether the sink took any of its messages.
func (sc *sinkCommit) tookAny() bool {
	return slices.ContainsFunc(sc.received, func(rc deliver.Receipt) bool { return rc.Err == nil })
}

// canDefer reports whether the receipts may be journalled later: the sink can settle
// its promises at any time, holds no lock, and has refused no message.
func (sc *sinkCommit) canDefer() bool {
	p := sc.Sink.Profile()
	refused := func(rc deliver.Receipt) bool { return rc.Err != nil }
	return p.Guarantee == deliver.ExactlyOnce && !p.Locks && !slices.ContainsFunc(sc.received, refused)
}

// flush journals and reports the receipts that are not journalled yet. After an error
// it does nothing more: the promises stay open.
func (sc *sinkCommit) flush() error {
	fresh := sc.received[sc.flushedCount:]
	if len(fresh) == 0 || sc.flushFailed {
		return nil
	}
	if err := sc.journalReceipts(fresh); err != nil {
		sc.flushFailed = true
		return err
	}
	sc.flushedCount = len(sc.received)
	for _, rc := range fresh {
		it := sc.items[rc.Ticket]
		it.pendingSinks--
		if rc.Err != nil {
			it.err = cmp.Or(it.err, rc.Err)
			continue
		}
		sc.c.report(Landed{Account: sc.c.account, UID: it.want.UID, Sink: sc.Name, Where: rc.Where, Octets: it.octets})
	}
	return nil
}

func (sc *sinkCommit) journalReceipts(receipts []deliver.Receipt) error {
	var landings []state.Landing
	var refused, suspect []state.Promise
	for _, rc := range receipts {
		it, promise := sc.items[rc.Ticket], sc.promises[rc.Ticket]
		switch {
		case rc.Err != nil && it.notReached && it.want.mayBreakSink():
			suspect = append(suspect, promise)
		case rc.Err != nil:
			refused = append(refused, promise)
		default:
			landing := state.Landing{UID: promise.UID, Sink: promise.Sink}
			if rc.Where != promise.Where {
				landing.Where = rc.Where
			}
			landings = append(landings, landing)
		}
	}
	if len(landings) > 0 {
		if err := sc.c.journal.Land(sc.ctx, sc.c.account, sc.c.now().Unix(), landings); err != nil {
			return err
		}
	}
	return sc.c.withdraw(sc.ctx, refused, suspect)
}
