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
	// Parallel is the most accounts polled at once, PerHost the most connections to one
	// host; 0 is no bound.
	Parallel, PerHost int
	// Fresh reports whether Run is to poll an account although it is waiting: its
	// options have changed, or a person may have solved its trouble. It is polled at
	// once if this Setup replaces another, else soon after the start. In a replacement,
	// Fresh need not report the accounts whose last poll by Run called for a person.
	// The pauses that servers want are heeded. nil reports none.
	Fresh func(account string) bool
	// Done, if not nil, is called once no poll of Run uses the Setup any more.
	Done func()
}

// Once polls each account once and returns their summaries in the accounts' order. The
// failure of one account does not affect the others, with two exceptions: once a server
// has left many accounts without an answer, the remaining ones there are left out; and
// a sink that does not answer is treated as by Run. Accounts whose turn has not come
// when s.Options.Drain is closed or ctx ends are left out, too. The Summary of an
// account that is left out is zero but for Account, Err and Class.
func Once(ctx context.Context, s Setup) []Summary {
	s.Options.servers, s.Options.sinkBackoff = new(sync.Map), newSinkBackoff()
	summaries := make([]Summary, len(s.Accounts))
	Each(ctx, s, func(i int, o Options) error {
		summaries[i] = s.Accounts[i].Poll(ctx, o)
		return summaries[i].Err
	}, func(i int, err error) {
		summaries[i] = Summary{Account: s.Accounts[i].Name, Err: err, Class: Classify(err)}
	})
	return summaries
}

// Each calls visit for each account, by its index in s.Accounts and in that order, as
// many at once as Once polls. visit polls, checks or looks at the account with the
// options o, and returns how that ended. For an account that Once would leave out,
// leaveOut is called with the reason instead. Both may be called from several
// goroutines.
func Each(ctx context.Context, s Setup, visit func(i int, o Options) error, leaveOut func(i int, err error)) {
	r := newRound(s)
	var wg sync.WaitGroup
	for i, a := range s.Accounts {
		queue := r.queues[a.host()]
		if !queue.acquire(i) {
			continue
		}
		err := r.acquireSlot(ctx, i) // here, so that accounts start in their order
		wg.Go(func() {
			for ok := true; ok; {
				if err == nil {
					r.visit(i, visit)
				} else {
					leaveOut(i, err)
				}
				if i, ok = queue.passOn(); ok {
					err = r.acquireSlot(ctx, i)
				}
			}
		})
	}
	wg.Wait()
}

// round is one call of Each.
type round struct {
	Setup
	slots  chan struct{}         // holds a value for each visit under way
	queues map[string]*hostQueue // by host
	// unanswered counts the visits in a row that had no answer, by Server.way.
	unanswered map[string]*atomic.Int32
}

func newRound(s Setup) *round {
	r := &round{
		Setup: s, slots: make(chan struct{}, boundOr(s.Parallel, len(s.Accounts))),
		queues: map[string]*hostQueue{}, unanswered: map[string]*atomic.Int32{},
	}
	for _, a := range s.Accounts {
		if host := a.host(); r.queues[host] == nil {
			n := boundOr(s.PerHost, len(s.Accounts))
			r.queues[host] = &hostQueue{slots: n, free: n}
		}
		if way := a.Server.way(); r.unanswered[way] == nil {
			r.unanswered[way] = new(atomic.Int32)
		}
	}
	return r
}

// acquireSlot waits for one of the slots of all hosts. The caller has one of the account's
// host already, so that a busy host holds up no account of another. An error is why the
// account is left out.
func (r *round) acquireSlot(ctx context.Context, i int) error {
	drain := r.Options.Drain
	if closed(drain) || ctx.Err() != nil {
		return errStopped
	}
	// All visits that may wait for the server at once have done so in vain, twice.
	a := r.Accounts[i]
	if int(r.unanswered[a.Server.way()].Load()) >= downAfter*r.queues[a.host()].slots {
		return errSilent
	}
	select {
	case r.slots <- struct{}{}:
		return nil
	case <-drain:
	case <-ctx.Done():
	}
	return errStopped
}

// visit calls visit for an account that has its slots, notes whether the server answered,
// and frees the slot that acquireSlot took.
func (r *round) visit(i int, visit func(i int, o Options) error) {
	defer func() { <-r.slots }()
	o, sessions := r.Options, 0
	o.Observer = func(e Event) {
		if _, ok := e.(Connected); ok {
			sessions++
		}
		r.Options.report(e)
	}
	err := visit(i, o)
	unanswered := r.unanswered[r.Accounts[i].Server.way()]
	switch {
	case timedOut(err) && isHostUnreachable(err, sessions):
		unanswered.Add(1)
	case sessions > 0:
		unanswered.Store(0)
	}
}

// hostQueue are the accounts that wait for one of a host's slots.
type hostQueue struct {
	slots int

	mu      sync.Mutex
	free    int
	waiting []int
}

// acquire takes a slot for account i. If none is free it returns false, and the account
// waits until passOn returns it.
func (q *hostQueue) acquire(i int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.free == 0 {
		q.waiting = append(q.waiting, i)
		return false
	}
	q.free--
	return true
}

// passOn passes a slot to the account that has waited longest, or frees it if none
// waits.
func (q *hostQueue) passOn() (i int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.free++
		return 0, false
	}
	i, q.waiting = q.waiting[0], q.waiting[1:]
	return i, true
}

func (a *Account) host() string { return strings.ToLower(a.Server.Host) }

// boundOr returns bound, or most if there is no bound.
func boundOr(bound, most int) int {
	if bound <= 0 {
		return most
	}
	return bound
}
