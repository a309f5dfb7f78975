package fetch_test

import (
	"context"
	"errors"
	"sync"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// The states that several tests share. Each fails to record something, as in a process
// that is killed before it could, or that finds the disk full.

var errNotRecorded = errors.New("it was not recorded")

// unrecorded is a state that cannot record what became of a deletion.
type unrecorded struct {
	*state.Store
	killed bool // the end of the poll is not recorded either
}

func (s *unrecorded) Undelete(context.Context, string) error { return errNotRecorded }

func (s *unrecorded) SavePoll(ctx context.Context, account string, p state.Poll) error {
	if s.killed {
		return errNotRecorded
	}
	return s.Store.SavePoll(ctx, account, p)
}

// pollKilledAtQuit polls with a state that records the deletions, but neither what became
// of them nor the end of the poll.
func (r *rig) pollKilledAtQuit() {
	r.t.Helper()
	r.opts.State = &unrecorded{r.store, true}
	r.poll()
	r.opts.State = r.store
}

// killedAfterLandings is the state of a process that is killed once so many batches of
// landings are recorded.
type killedAfterLandings struct {
	*state.Store
	batches int
}

func (s *killedAfterLandings) Land(ctx context.Context, account string, at int64, ls []state.Landing) error {
	if s.batches == 0 {
		return errNotRecorded
	}
	s.batches--
	return s.Store.Land(ctx, account, at, ls)
}

func (s *killedAfterLandings) SavePoll(context.Context, string, state.Poll) error {
	return errNotRecorded
}

// killedAfterWrites is the state of a process that is killed once so many writes are
// recorded. A negative number never comes to its end.
type killedAfterWrites struct {
	fetch.State
	left int
	mu   sync.Mutex
}

func (s *killedAfterWrites) write(f func() error) error {
	s.mu.Lock()
	killed := s.left == 0
	if !killed {
		s.left--
	}
	s.mu.Unlock()
	if killed {
		return errNotRecorded
	}
	return f()
}

func (s *killedAfterWrites) Promise(ctx context.Context, account string, ps []state.Promise) error {
	return s.write(func() error { return s.State.Promise(ctx, account, ps) })
}

func (s *killedAfterWrites) Land(ctx context.Context, account string, at int64, ls []state.Landing) error {
	return s.write(func() error { return s.State.Land(ctx, account, at, ls) })
}

func (s *killedAfterWrites) Keep(ctx context.Context, account string, at int64, h state.Housekeeping) error {
	return s.write(func() error { return s.State.Keep(ctx, account, at, h) })
}

func (s *killedAfterWrites) Refuse(ctx context.Context, account string, rs []state.Refusal) error {
	return s.write(func() error { return s.State.Refuse(ctx, account, rs) })
}

func (s *killedAfterWrites) SavePoll(ctx context.Context, account string, p state.Poll) error {
	return s.write(func() error { return s.State.SavePoll(ctx, account, p) })
}

// memoryState is a fetch.State that remembers schedules, maildrops and leases, and nothing
// of messages.
type memoryState struct {
	mu        sync.Mutex
	schedules map[string]state.Schedule
	maildrops map[string]string
	held      map[string]bool
}

func newMemory() *memoryState {
	return &memoryState{schedules: map[string]state.Schedule{}, maildrops: map[string]string{}, held: map[string]bool{}}
}

// options returns options whose state is m.
func (m *memoryState) options() fetch.Options {
	return fetch.Options{State: m, Observer: m.observe}
}

// observe releases the lease of a poll that has ended.
func (m *memoryState) observe(e fetch.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := e.(fetch.Finished); ok {
		if _, other := errors.AsType[*state.HeldError](e.Err); !other {
			delete(m.held, e.Account)
		}
	}
}

func (m *memoryState) Lease(_ context.Context, account string) (*state.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held[account] {
		return nil, &state.HeldError{Account: account}
	}
	m.held[account] = true
	return new(state.Lease), nil
}

func (m *memoryState) Promises(context.Context, string) ([]state.Promise, error) { return nil, nil }
func (m *memoryState) Rows(context.Context, string) ([]state.Row, error)         { return nil, nil }

func (m *memoryState) Standing(_ context.Context, account string) (state.Standing, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return state.Standing{Schedule: m.schedules[account], Maildrop: m.maildrops[account]}, nil
}

func (m *memoryState) RowStates(context.Context, string) ([]state.RowState, error) { return nil, nil }

func (m *memoryState) Landed(context.Context, string, string) (map[string]bool, error) {
	return nil, nil
}

func (m *memoryState) Deliveries(context.Context, string, string) ([]state.Delivery, error) {
	return nil, nil
}

func (m *memoryState) Keep(context.Context, string, int64, state.Housekeeping) error { return nil }
func (m *memoryState) Delete(context.Context, string, int64, []string) error         { return nil }
func (m *memoryState) Confirm(context.Context, string) error                         { return nil }
func (m *memoryState) Undelete(context.Context, string) error                        { return nil }
func (m *memoryState) Promise(context.Context, string, []state.Promise) error        { return nil }
func (m *memoryState) Land(context.Context, string, int64, []state.Landing) error    { return nil }
func (m *memoryState) Retract(context.Context, string, []state.Promise) error        { return nil }
func (m *memoryState) Suspect(context.Context, string, int64, string, []state.Promise) error {
	return nil
}
func (m *memoryState) Refuse(context.Context, string, []state.Refusal) error { return nil }

func (m *memoryState) SavePoll(_ context.Context, account string, p state.Poll) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := *p.Schedule
	if p.Error == "" {
		s.LastSuccess = p.Ended
	}
	m.schedules[account] = s
	if p.Maildrop != "" {
		m.maildrops[account] = p.Maildrop
	}
	return nil
}
