package fetch

import (
	"context"
	"strings"
	"sync"
)

// Scheduler polls many accounts at once, within bounds.
type Scheduler struct {
	// Parallel is the most accounts polled at once, PerHost the most
	// connections to one host; 0 is no bound.
	Parallel, PerHost int
}

// Once polls each account once and returns their summaries in the accounts'
// order. One account's failure is of no concern to the others. Accounts whose
// turn has not come when o.Drain is closed or ctx ends are left out: their
// Summary is the zero one but for Account and Err.
func (s *Scheduler) Once(ctx context.Context, accounts []*Account, o Options) []Summary {
	all := newSlots(s.Parallel, len(accounts))
	hosts := map[string]slots{}
	for _, a := range accounts {
		if host := a.host(); hosts[host] == nil {
			hosts[host] = newSlots(s.PerHost, len(accounts))
		}
	}
	summaries := make([]Summary, len(accounts))
	o.servers = new(sync.Map)
	var wg sync.WaitGroup
	for i, a := range accounts {
		wg.Go(func() {
			// The host's slot first: who waits for a busy host holds up
			// nobody else.
			host := hosts[a.host()]
			if err := host.take(ctx, o.Drain); err != nil {
				summaries[i] = Summary{Account: a.Name, Err: err, Class: Classify(err)}
				return
			}
			defer host.free()
			if err := all.take(ctx, o.Drain); err != nil {
				summaries[i] = Summary{Account: a.Name, Err: err, Class: Classify(err)}
				return
			}
			defer all.free()
			summaries[i] = a.Poll(ctx, o)
		})
	}
	wg.Wait()
	return summaries
}

func (a *Account) host() string { return strings.ToLower(a.Server.Host) }

// slots is a counting semaphore.
type slots chan struct{}

func newSlots(n, most int) slots {
	if n <= 0 {
		n = most
	}
	return make(slots, n)
}

// take waits for a slot. It returns an error if it is no longer wanted.
func (s slots) take(ctx context.Context, drain <-chan struct{}) error {
	select {
	case <-drain:
		return errStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	default:
	}
	select {
	case s <- struct{}{}:
		return nil
	case <-drain:
		return errStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s slots) free() { <-s }
