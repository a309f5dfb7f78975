package modeltest

import (
	"context"
	"io"
	"sync"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// sequencer makes runs repeatable: it puts what the two goroutines of a session do into
// one of two orders. Either each batch is committed and journalled before the next one is
// begun. Or, with overlap, a batch is committed only when the next two are staged, and
// journalled only when the next one is prepared, unless the sink holds locks until it is
// journalled.
type sequencer struct {
	overlap bool

	mu    sync.Mutex
	moved sync.Cond
	// Of want messages, staged are staged. Of begun batches, prepared are prepared, and
	// ended are committed or aborted; reported have reported landings, and those of
	// landed are journalled.
	want, staged                             int
	begun, ended, prepared, reported, landed int
	failed                                   bool // a batch failed: nobody waits any more
}

func newSequencer(overlap bool) *sequencer {
	l := &sequencer{overlap: overlap}
	l.moved.L = &l.mu
	return l
}

// change changes the counts, and wakes the goroutines that wait for them.
func (l *sequencer) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	l.moved.Broadcast()
}

// wait waits until ready returns true.
func (l *sequencer) wait(ready func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !ready() && !l.failed {
		l.moved.Wait()
	}
}

// sequencedSink is a sink whose batches wait for their turn and hold at most max messages.
type sequencedSink struct {
	deliver.Sink
	seq *sequencer
	max int
}

var _ deliver.Sink = (*sequencedSink)(nil)

func (s *sequencedSink) Profile() deliver.Profile {
	p := s.Sink.Profile()
	p.MaxMessages = s.max
	return p
}

func (s *sequencedSink) Begin(ctx context.Context) (deliver.Batch, error) {
	l := s.seq
	behind := 0
	if l.overlap {
		behind = 2
	}
	l.wait(func() bool { return l.ended >= l.begun-behind && l.landed >= l.reported-behind })
	b, err := s.Sink.Begin(ctx)
	if err != nil {
		l.change(func() { l.failed = true })
		return nil, err
	}
	sb := &sequencedBatch{Batch: b, seq: l, max: s.max}
	l.change(func() { sb.number = l.begun; l.begun++ })
	return sb, nil
}

// sequencedBatch is a batch of a sequencedSink.
type sequencedBatch struct {
	deliver.Batch
	seq       *sequencer
	number    int
	max       int // messages in a batch
	committed bool
	ended     bool
}

func (b *sequencedBatch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	ticket, err := b.Batch.Stage(ctx, mail, body)
	b.seq.change(func() {
		b.seq.staged++
		b.seq.failed = b.seq.failed || err != nil
	})
	return ticket, err
}

func (b *sequencedBatch) Prepare(ctx context.Context) ([]deliver.Promise, error) {
	if l := b.seq; l.overlap {
		// At most three batches exist: when the third is full, the session waits.
		l.wait(func() bool { return l.staged >= min(l.want, (b.number+3)*b.max) })
	}
	promises, err := b.Batch.Prepare(ctx)
	b.seq.change(func() { b.seq.prepared++ })
	return promises, err
}

func (b *sequencedBatch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	b.committed = true
	some := false
	err := b.Batch.Commit(ctx, func(r deliver.Receipt) error {
		some = some || r.Err == nil
		return landed(r)
	})
	if some {
		b.seq.change(func() { b.seq.reported++ })
	}
	return err
}

func (b *sequencedBatch) Abort() error {
	err := b.Batch.Abort()
	b.seq.change(func() {
		b.seq.failed = b.seq.failed || !b.committed && b.seq.staged < b.seq.want
		if !b.ended {
			b.ended = true
			b.seq.ended++
		}
	})
	return err
}

// sequencedJournal is a journal that records landings when it is their turn.
type sequencedJournal struct {
	*journal
	sink *sequencedSink
}

func (j sequencedJournal) Land(ctx context.Context, account string, at int64, ls []state.Landing) error {
	l := j.sink.seq
	if l.overlap && !j.sink.Profile().Locks {
		l.wait(func() bool { return l.prepared > l.landed+1 || (l.landed+1)*j.sink.max >= l.want })
	}
	defer l.change(func() { l.landed++ })
	return j.journal.Land(ctx, account, at, ls)
}
