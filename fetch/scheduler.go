package fetch

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
)

// Setup is what Once and Run poll, and how.
type Setup struct {
	Accounts []*Account
	Options  Options
	// Parallel is the most accounts polled at once, PerHost the most
	// connections to one host; 0 is no bound.
	Parallel, PerHost int
	// Fresh reports whether Run is to poll an account whatever it waits for, because
	// its options have changed or a person may have mended it: at once if the
	// setup takes another's place, else soon after the start. nil is none. In the
	// place of another it need not report those whose last poll by Run called for a
	// person. What the server wants is heeded.
	Fresh func(account string) bool
	// Done, if not nil, is called once no poll of Run uses the setup any more.
	Done func()
}

// Once polls each account once and returns their summaries in the accounts'
// order. One account's failure is of no concern to the others, unless it is that
// of a server which answers nobody: with thousands of accounts there, each of them
// would wait in vain. So it is with a sink that answers nobody, see Run. Accounts
// whose turn has not come when that is found of their server, when
// s.Options.Drain is closed or when ctx ends are left out: their Summary is the
// zero one but for Account, Err and Class.
func Once(ctx context.Context, s Setup) []Summary {
	o := s.Options
	o.servers, o.silent = new(sync.Map), newSilences()
	all := newSlots(s.Parallel, len(s.Accounts))
	hosts, ways := map[string]slots{}, map[string]*atomic.Int32{}
	for _, a := range s.Accounts {
		if host := a.host(); hosts[host] == nil {
			hosts[host] = newSlots(s.PerHost, len(s.Accounts))
		}
		if way := a.Server.way(); ways[way] == nil {
			ways[way] = new(atomic.Int32) // polls in a row that it did not answer
		}
	}
	summaries := make([]Summary, len(s.Accounts))
	var wg sync.WaitGroup
	for i, a := range s.Accounts {
		leaveOut := func(err error) { summaries[i] = Summary{Account: a.Name, Err: err, Class: Classify(err)} }
		wg.Go(func() {
			// The host's slot first: who waits for a busy host holds up
			// nobody else.
			host, inVain := hosts[a.host()], ways[a.Server.way()]
			if err := host.take(ctx, o.Drain); err != nil {
				leaveOut(err)
				return
			}
			defer host.free()
			// It has kept all waiting in vain whom it could, and then as many again.
			if int(inVain.Load()) >= lostPolls*cap(host) {
				leaveOut(errSilent)
				return
			}
			if err := all.take(ctx, o.Drain); err != nil {
				leaveOut(err)
				return
			}
			defer all.free()
			summaries[i] = a.Poll(ctx, o)
			if s := &summaries[i]; s.unanswered() {
				inVain.Add(1)
			} else if s.Sessions > 0 {
				inVain.Store(0)
			}
		})
	}
	wg.Wait()
	return summaries
}

func (a *Account) host() string { return strings.ToLower(a.Server.Host) }

// unanswered reports whether a poll has waited in vain for its server.
func (s *Summary) unanswered() bool {
	return timedOut(s.Err) && s.unreachable()
}

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
	// Where several are ready, select takes any.
	if closed(drain) || ctx.Err() != nil {
		return errStopped
	}
	select {
	case s <- struct{}{}:
		return nil
	case <-drain:
	case <-ctx.Done():
	}
	return errStopped
}

func (s slots) free() { <-s }
