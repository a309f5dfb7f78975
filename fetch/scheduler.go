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
	s.Options.servers, s.Options.silent = new(sync.Map), newSilences()
	summaries := make([]Summary, len(s.Accounts))
	Each(ctx, s, func(i int, o Options) error {
		summaries[i] = s.Accounts[i].Poll(ctx, o)
		return summaries[i].Err
	}, func(i int, err error) {
		summaries[i] = Summary{Account: s.Accounts[i].Name, Err: err, Class: Classify(err)}
	})
	return summaries
}

// Each calls visit for each account, by its place in s.Accounts and in that order, as
// many at once as Once polls. visit is to poll, check or look at it with the options o,
// and returns how that ended. For an account that Once would leave out, leaveOut is
// called instead and told why. Either may be called from several goroutines.
func Each(ctx context.Context, s Setup, visit func(i int, o Options) error, leaveOut func(i int, err error)) {
	drain := s.Options.Drain
	all := newSlots(s.Parallel, len(s.Accounts))
	hosts, ways := map[string]*hostQueue{}, map[string]*atomic.Int32{}
	for _, a := range s.Accounts {
		if host := a.host(); hosts[host] == nil {
			hosts[host] = newHostQueue(s.PerHost, len(s.Accounts))
		}
		if way := a.Server.way(); ways[way] == nil {
			ways[way] = new(atomic.Int32) // visits in a row that it did not answer
		}
	}
	// The host's slot comes first: who waits for a busy host holds up nobody else.
	enter := func(i int) error {
		a := s.Accounts[i]
		if err := checkStopped(ctx, drain); err != nil {
			return err
		}
		// It has kept all waiting in vain whom it could, and then as many again.
		if int(ways[a.Server.way()].Load()) >= downAfter*hosts[a.host()].slots {
			return errSilent
		}
		return all.acquire(ctx, drain)
	}
	serve := func(i int) {
		defer all.release()
		o, sessions, inVain := s.Options, 0, ways[s.Accounts[i].Server.way()]
		o.Observer = func(e Event) {
			if _, ok := e.(Connected); ok {
				sessions++
			}
			s.Options.report(e)
		}
		if err := visit(i, o); timedOut(err) && isHostUnreachable(err, sessions) {
			inVain.Add(1)
		} else if sessions > 0 {
			inVain.Store(0)
		}
	}
	var wg sync.WaitGroup
	for i, a := range s.Accounts {
		host := hosts[a.host()]
		if !host.acquire(i) {
			continue
		}
		err := enter(i)
		wg.Go(func() {
			for ok := true; ok; {
				if err == nil {
					serve(i)
				} else {
					leaveOut(i, err)
				}
				if i, ok = host.passOn(); ok {
					err = enter(i)
				}
			}
		})
	}
	wg.Wait()
}

// hostQueue is who waits for a slot of a host.
type hostQueue struct {
	slots int

	mu      sync.Mutex
	free    int
	waiting []int
}

func newHostQueue(n, most int) *hostQueue {
	if n <= 0 {
		n = most
	}
	return &hostQueue{slots: n, free: n}
}

// acquire takes a slot for i. Where none is free it returns false, and i waits for its turn.
func (l *hostQueue) acquire(i int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free == 0 {
		l.waiting = append(l.waiting, i)
		return false
	}
	l.free--
	return true
}

// passOn hands a slot on to who has waited longest. If nobody waits, it is free.
func (l *hostQueue) passOn() (i int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.free++
		return 0, false
	}
	i, l.waiting = l.waiting[0], l.waiting[1:]
	return i, true
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

// acquire waits for a slot. It returns an error if it is no longer wanted.
func (s slots) acquire(ctx context.Context, drain <-chan struct{}) error {
	// Where several are ready, select takes any.
	if err := checkStopped(ctx, drain); err != nil {
		return err
	}
	select {
	case s <- struct{}{}:
		return nil
	case <-drain:
	case <-ctx.Done():
	}
	return errStopped
}

func (s slots) release() { <-s }

// checkStopped returns an error once no poll is to begin any more.
func checkStopped(ctx context.Context, drain <-chan struct{}) error {
	if closed(drain) || ctx.Err() != nil {
		return errStopped
	}
	return nil
}
