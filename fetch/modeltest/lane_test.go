package modeltest

import (
	"context"
	"io"
	"sync"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// lane puts what the goroutines of a session do into one of two orders, so that
// a run can be repeated: each batch is committed, and journalled, before the next
// is begun; or, overlapped, it is not committed before the next two are staged, nor
// journalled before the next is prepared, unless that is to be done under locks.
type lane struct {
	overlap bool

	mu    sync.Mutex
	moved sync.Cond
	// want messages will be staged, staged were; begun batches were begun, ended
	// were committed or aborted, prepared were prepared, and reported have
	// reported landings, of which landed are journalled.
	want, staged                             int
	begun, ended, prepared, reported, landed int
	failed                                   bool // nobody waits any more
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
		behind = 2
	}
	l.wait(func() bool { return l.ended >= l.begun-behind && l.landed >= l.reported-behind })
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
		// At most three batches exist: when the third is full, the session waits.
		l.wait(func() bool { return l.staged >= min(l.want, (b.number+3)*b.max) })
	}
	promises, err := b.Batch.Prepare(ctx)
	b.lane.change(func() { b.lane.prepared++ })
	return promises, err
}

func (b *laneBatch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	b.committed = true
	some := false
	err := b.Batch.Commit(ctx, func(r deliver.Receipt) error {
		some = some || r.Err == nil
		return landed(r)
	})
	if some {
		b.lane.change(func() { b.lane.reported++ })
	}
	return err
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

// laneJournal is a journal that keeps to the lane of a sink.
type laneJournal struct {
	*journal
	sink *inLane
}

func (j laneJournal) Land(ctx context.Context, account string, at int64, ls []state.Landing) error {
	l := j.sink.lane
	if l.overlap && !j.sink.Profile().Locks {
		l.wait(func() bool { return l.prepared > l.landed+1 || (l.landed+1)*j.sink.max >= l.want })
	}
	defer l.change(func() { l.landed++ })
	return j.journal.Land(ctx, account, at, ls)
}
