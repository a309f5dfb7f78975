package modeltest

import (
	"context"
	"io"
	"sync"

	"github.com/mailhaul/mailhaul/deliver"
)

// lane puts what the two goroutines of a session do into one of two orders, so
// that a run can be repeated: each batch is committed before the next is
// begun, or, overlapped, not before the next is staged.
type lane struct {
	overlap bool

	mu    sync.Mutex
	moved sync.Cond
	// want messages will be staged, staged were; begun batches were begun, and
	// ended were committed or aborted.
	want, staged, begun, ended int
	failed                     bool // nobody waits any more
}

func newLane(overlap bool) *lane {
	l := &lane{overlap: overlap}
	l.moved.L = &l.mu
	return l
}

// change changes the counts and wakes who waits for them.
func (l *lane) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	l.moved.Broadcast()
}

// wait waits until ready returns true.
func (l *lane) wait(ready func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !ready() && !l.failed {
		l.moved.Wait()
	}
}

// inLane is a sink whose batches keep to a lane and have a bound of their own.
type inLane struct {
	deliver.Sink
	lane *lane
	max  int
}

var _ deliver.Sink = (*inLane)(nil)

func (s *inLane) Profile() deliver.Profile {
	p := s.Sink.Profile()
	p.MaxMessages = s.max
	return p
}

func (s *inLane) Begin(ctx context.Context) (deliver.Batch, error) {
	l := s.lane
	behind := 0
	if l.overlap {
		behind = 1
	}
	l.wait(func() bool { return l.ended >= l.begun-behind })
	b, err := s.Sink.Begin(ctx)
	if err != nil {
		l.change(func() { l.failed = true })
		return nil, err
	}
	lb := &laneBatch{Batch: b, lane: l, max: s.max}
	l.change(func() { lb.number = l.begun; l.begun++ })
	return lb, nil
}

type laneBatch struct {
	deliver.Batch
	lane      *lane
	number    int
	max       int // messages
	committed bool
	ended     bool
}

func (b *laneBatch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	ticket, err := b.Batch.Stage(ctx, mail, body)
	b.lane.change(func() {
		b.lane.staged++
		b.lane.failed = b.lane.failed || err != nil
	})
	return ticket, err
}

func (b *laneBatch) Prepare(ctx context.Context) ([]deliver.Promise, error) {
	if l := b.lane; l.overlap {
		// At most two batches exist: when the next is full, it waits for this one.
		l.wait(func() bool { return l.staged >= min(l.want, (b.number+2)*b.max) })
	}
	return b.Batch.Prepare(ctx)
}

func (b *laneBatch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	b.committed = true
	return b.Batch.Commit(ctx, landed)
}

func (b *laneBatch) Abort() error {
	err := b.Batch.Abort()
	b.lane.change(func() {
		b.lane.failed = b.lane.failed || !b.committed && b.lane.staged < b.lane.want
		if !b.ended {
			b.ended = true
			b.lane.ended++
		}
	})
	return err
}
