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
// With several sinks, the failure of one does not stop the others. The one that failed
// gets its messages in a later poll.
type committer struct {
	account      string
	severalSinks bool
	journal      State
	now          func() time.Time
	report       func(Event)

	// The session reads these once the committer is done.
	finished []*item          // messages that are done with for now
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
// left out: they get their messages in a later poll.
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

// othersCanContinue reports whether err is the trouble of one sink of several.
func (c *committer) othersCanContinue(ctx context.Context, err error) bool {
	return c.severalSinks && isSinkTrouble(err) && ctx.Err() == nil
}

// journalPromises journals what is to land, and what sinks have yet to get because they
// did not stage it. The latter is withdrawn at once, so that the next poll tries it again;
// what was suspect before stays suspect, since no sink has tried it.
func (c *committer) journalPromises(ctx context.Context, b *batch, commits []*sinkCommit) error {
	var promises, unstaged, suspect []state.Promise
	for _, sc := range commits {
		promises = append(promises, sc.promises...)
	}
	for _, it := range b.items {
		for _, t := range it.missingFrom {
			if p := it.newPromise(t.Name, deliver.Promise{}); it.want.isSuspect() {
				suspect = append(suspect, p)
			} else {
				unstaged = append(unstaged, p)
			}
		}
	}
	if err := c.journal.Promise(ctx, c.account, slices.Concat(promises, unstaged, suspect)); err != nil {
		return err
	}
	// From here on the journal is kept up to date even if the poll is given up.
	return c.withdraw(context.WithoutCancel(ctx), unstaged, suspect)
}

// withdraw takes back promises, so that the messages are tried again. Those in suspect
// stay suspect: no sink has tried them.
func (c *committer) withdraw(ctx context.Context, ps, suspect []state.Promise) error {
	if len(ps) > 0 {
		if err := c.journal.Retract(ctx, c.account, ps); err != nil {
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
	if c.severalSinks && b.items[0].want.isSuspect() { // it has now been tried in a batch of its own
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

// awaitJournal waits until the landings of the last batch are journalled.
func (c *committer) awaitJournal() (err error) {
	if c.journalled != nil {
		err = <-c.journalled
		c.journalled = nil
	}
	return err
}

// finish is called after the last batch with the error that commit returned, and returns
// that of all batches. A failure that no later message has explained counts as the
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
	case c.proven[sink] && (it.want.isSuspect() || it.want.tries() > 0):
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
