package fetch

import (
	"context"
	"errors"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// The bounds of a batch, unless the sink has lower ones: a crash costs at
// most one batch of downloads, and a batch costs one round of fsyncs.
const (
	batchMessages = 64
	batchBytes    = 32 << 20
	batchAge      = 2 * time.Second
)

// batch is a deliver.Batch and what its messages mean to the journal.
type batch struct {
	deliver.Batch
	items []item // by ticket
	bytes int64
	begun time.Time
}

// item is one staged message.
type item struct {
	want            Want
	octets          int64
	header, content state.Sum
}

func (b *batch) full(p deliver.Profile, now time.Time) bool {
	messages, bytes := batchMessages, int64(batchBytes)
	if p.MaxMessages > 0 {
		messages = min(messages, p.MaxMessages)
	}
	if p.MaxBytes > 0 {
		bytes = min(bytes, p.MaxBytes)
	}
	return len(b.items) >= messages || b.bytes >= bytes || now.Sub(b.begun) >= batchAge
}

// committer makes staged batches visible, one after the other. It owns a
// batch from the moment it is handed over.
//
// The order is what keeps mail safe, at whatever instruction the power goes:
//
//  1. the sink makes the messages durable, invisible   Batch.Prepare
//  2. the promises are journalled, durably             Journal.Promise
//  3. the sink makes them visible and durable          Batch.Commit
//  4. 'landed' is journalled                           Journal.Land
//  5. the session deletes them from the server         DELE, QUIT
//
// Without 1 before 2, a promise could stand for a torn message. Without 2
// before 3, a message that landed would be fetched again. Without 3 and 4
// before 5, it could be gone from everywhere.
type committer struct {
	account string
	target  Target
	journal Journal
	now     func() time.Time
	report  func(Event)

	// outcomes are read by the session once the committer is done.
	outcomes []outcome
}

// outcome is what became of a message: err is nil if it landed.
type outcome struct {
	item
	err error
}

// commit commits one batch. After an error the promises that are still open
// are settled by the next poll.
func (c *committer) commit(ctx context.Context, b *batch) error {
	defer b.Abort()
	promised, err := b.Prepare(ctx)
	if err != nil {
		return err
	}
	if len(promised) != len(b.items) {
		return errors.New("the sink made promises for other messages than it was given")
	}
	promises := make([]state.Promise, len(promised))
	for i, p := range promised {
		it := &b.items[p.Ticket]
		promises[i] = state.Promise{
			UID: it.want.Key, Sink: c.target.Name, Token: p.Token,
			Size: it.octets, Header: it.header, Content: it.content,
		}
	}
	if err := c.journal.Promise(ctx, c.account, promises); err != nil {
		return err
	}

	// From here on mail may be visible: the journal hears of it even if the
	// poll is being given up.
	j := &receipts{committer: c, batch: b, promises: promises, ctx: context.WithoutCancel(ctx)}
	err = b.Commit(ctx, j.take)
	return errors.Join(err, j.flush())
}

// receipts collects what Batch.Commit reports, and journals it all at once
// with the last message: the sink still holds its locks then.
type receipts struct {
	*committer
	*batch
	promises []state.Promise
	ctx      context.Context
	taken    []deliver.Receipt
	flushed  int
	failed   bool
}

func (r *receipts) take(rc deliver.Receipt) error {
	r.taken = append(r.taken, rc)
	if len(r.taken) < len(r.items) {
		return nil
	}
	return r.flush()
}

func (r *receipts) flush() error {
	pending := r.taken[r.flushed:]
	if len(pending) == 0 || r.failed {
		return nil
	}
	r.failed = true // until all is written
	var landings []state.Landing
	var broken []state.Promise
	for _, rc := range pending {
		if rc.Err != nil {
			broken = append(broken, r.promises[rc.Ticket])
			continue
		}
		landings = append(landings, state.Landing{
			UID: r.items[rc.Ticket].want.Key, Sink: r.target.Name, Where: rc.Where,
		})
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
	r.flushed, r.failed = len(r.taken), false
	for _, rc := range pending {
		it := r.items[rc.Ticket]
		r.outcomes = append(r.outcomes, outcome{it, rc.Err})
		if rc.Err == nil {
			r.report(Landed{
				Account: r.account, UID: it.want.UID, Sink: r.target.Name, Where: rc.Where, Octets: it.octets,
			})
		}
	}
	return nil
}
