package fetch

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"time"
)

// Order is an order to Run while it runs: PollNow, or a Setup that replaces the one
// before.
type Order interface{ order() }

// PollNow has accounts polled as soon as their servers allow, also those that wait
// because they failed. An account that is being polled is polled once more, since new
// mail may have come after its listing.
type PollNow struct {
	// Accounts are the names of those to poll; nil is all.
	Accounts []string
}

func (Setup) order()   {}
func (PollNow) order() {}

// RunStatus is the state of Run at one moment.
type RunStatus struct {
	// Accounts is how many accounts there are. Of them, Polling are being polled,
	// Waiting are due and wait for a slot or for their host, and Failing failed when
	// they were last polled.
	Accounts, Polling, Waiting, Failing int
	// Next is when the next account is due; the zero time if none is.
	Next time.Time
}

// heartbeat is the longest time between two calls of Run's observe.
const heartbeat = 15 * time.Second

// Run polls every account at its own interval until s.Options.Drain is closed or ctx
// ends, and returns once the polls under way have ended. A Setup that replaces s is
// drained by the same channel.
//
// Within the bounds of the setup, the account that has been due longest goes first. A
// further connection to a host is opened only once the host has greeted us on the last
// one, so that a host that hangs costs one slot. A host that several polls in a row
// could not reach is tried by one account at a time, after growing pauses, while its
// other accounts wait; each port, and each way to the host, counts by itself. A sink
// that does not answer is tried in the same way: only the mail for it waits.
//
// observe, if not nil, is called whenever something has happened, and every 15 seconds at
// least. Like an Observer it must return quickly.
func Run(ctx context.Context, s Setup, orders <-chan Order, observe func(RunStatus)) {
	r := &runner{
		ctx: ctx, drain: s.Options.Drain, tasks: map[string]*task{}, hosts: map[string]*host{}, pollsByHost: map[string]int{},
		settling: make(chan *activePoll, 16), connected: make(chan *activePoll, 16), finished: make(chan *activePoll, 16),
	}
	r.applySetup(s)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := r.now()
		if !r.isEnding() {
			r.startDuePolls(now)
		} else if r.polling == 0 {
			break
		}
		status := r.status(now)
		if observe != nil {
			observe(status)
		}
		wait := heartbeat
		if !status.Next.IsZero() {
			wait = min(wait, max(status.Next.Sub(now), time.Millisecond))
		}
		timer.Reset(wait)
		r.handleNext(timer.C, orders)
	}
	r.setup.release()
}

// runner is the state of Run. One goroutine owns it. Polls run in goroutines of their
// own and report to it by channels.
type runner struct {
	ctx     context.Context
	drain   <-chan struct{}
	setup   *setup
	tasks   map[string]*task // by account
	ordered []*task          // in the setup's order
	hosts   map[string]*host // by Server.way
	lastNow time.Time

	// Polls under way, those of former setups included: in all, and by host name.
	polling     int
	pollsByHost map[string]int

	settling, connected, finished chan *activePoll
}

// setup is a Setup, and how many use it: the runner and each poll.
type setup struct {
	Setup
	users int
}

// release ends one use of the setup.
func (s *setup) release() {
	if s.users--; s.users == 0 && s.Done != nil {
		s.Done()
	}
}

// now returns the wall clock's time, which goes on while the machine sleeps. If the
// clock was set back, everything is due earlier by as much.
func (r *runner) now() time.Time {
	now := r.setup.Options.now().Round(0)
	if back := r.lastNow.Sub(now); back > 0 {
		for _, t := range r.ordered {
			t.next, t.notBefore = t.next.Add(-back), t.notBefore.Add(-back)
		}
		for _, h := range r.hosts {
			h.retry = h.retry.Add(-back)
		}
	}
	r.lastNow = now
	return now
}

// handleNext waits until something happens, and handles it.
func (r *runner) handleNext(timer <-chan time.Time, orders <-chan Order) {
	drain, done := r.drain, r.ctx.Done()
	if r.isEnding() {
		drain, done = nil, nil // seen already
	}
	select {
	case <-timer:
	case <-drain:
	case <-done:
	case o := <-orders:
		r.handleOrder(o)
	case p := <-r.settling:
		p.endOpening() // how long it takes to settle says nothing of the host
	case p := <-r.connected:
		r.pollConnected(p)
	case p := <-r.finished:
		r.pollFinished(p)
	}
}

// isEnding reports whether no poll is to begin any more.
func (r *runner) isEnding() bool {
	return closed(r.drain) || r.ctx.Err() != nil
}

func (r *runner) handleOrder(o Order) {
	switch o := o.(type) {
	case Setup:
		r.applySetup(o)
	case PollNow:
		now := r.now()
		r.setup.Options.sinkBackoff.reset()
		for _, t := range r.ordered {
			if o.Accounts == nil || slices.Contains(o.Accounts, t.account.Name) {
				t.next, t.pollAgain = latest(now, t.notBefore), t.poll != nil
				t.host.retry = now
			}
		}
	}
}

// applySetup replaces the setup. Accounts that were there before keep their times,
// unless they are fresh.
func (r *runner) applySetup(s Setup) {
	s.Options.regular, s.Options.Drain, s.Options.sinkBackoff = true, r.drain, newSinkBackoff()
	before, old := r.setup, r.tasks
	r.setup = &setup{Setup: s, users: 1}
	now := r.now()
	r.tasks, r.ordered = map[string]*task{}, nil
	var dueNow []*task
	for _, a := range s.Accounts {
		t, fresh := old[a.Name], s.Fresh != nil && s.Fresh(a.Name)
		// The state database may hold a later poll by another process, which did well.
		fresh = fresh || t != nil && t.needsPerson
		switch {
		case t == nil:
			t = &task{}
			if !t.restore(r.ctx, a, s.Options.State, now) || fresh && before != nil {
				dueNow = append(dueNow, t)
			} else if fresh {
				t.scheduleAfterStart(now)
			}
		case fresh:
			t.pollAgain = t.poll != nil
			if a.maildrop() != t.account.maildrop() {
				t.notBefore = time.Time{}
			}
			dueNow = append(dueNow, t)
		}
		t.account, t.host = a, r.hostOf(a)
		if fresh {
			t.host.retry = now // the host's trouble may be solved, too
		}
		r.tasks[a.Name], r.ordered = t, append(r.ordered, t)
	}
	spread(dueNow, now)
	r.removeUnusedHosts()
	if before != nil {
		before.release()
	}
}

// removeUnusedHosts forgets the hosts of no account, once their last poll has ended.
func (r *runner) removeUnusedHosts() {
	used := map[*host]bool{}
	for _, t := range r.ordered {
		used[t.host] = true
	}
	maps.DeleteFunc(r.hosts, func(_ string, h *host) bool { return h.polling == 0 && !used[h] })
}

// startDuePolls begins the polls that are due, the longest due first.
func (r *runner) startDuePolls(now time.Time) {
	for r.setup.Parallel <= 0 || r.polling < r.setup.Parallel {
		var first *task
		for _, t := range r.ordered {
			if t.isDue(now) && r.canPoll(t.host, now) && (first == nil || t.next.Before(first.next)) {
				first = t
			}
		}
		if first == nil {
			return
		}
		r.startPoll(first)
	}
}

func (r *runner) startPoll(t *task) {
	// How long Preconnect takes says nothing of the host.
	p := &activePoll{task: t, host: t.host, maildrop: t.account.maildrop(), setup: r.setup, opening: t.account.Server.Preconnect == nil}
	t.poll = p
	r.polling++
	r.pollsByHost[p.host.name]++
	p.host.polling++
	if p.opening {
		p.host.opening++
	}
	p.setup.users++
	o, a := p.setup.Options, t.account
	observe := o.Observer
	o.Observer = func(e Event) {
		if _, ok := e.(Connected); ok {
			r.connected <- p
		}
		if observe != nil {
			observe(e)
		}
	}
	o.settling = func() { r.settling <- p }
	go func() {
		p.Summary = a.Poll(r.ctx, o)
		r.finished <- p
	}()
}

// pollConnected notes that the host has greeted us. The accounts that could not reach
// it need not wait until the poll has ended.
func (r *runner) pollConnected(p *activePoll) {
	p.endOpening()
	if p.host.noteSuccess() {
		r.retryUnreached(p.host, r.now())
	}
}

// pollFinished notes the outcome of a poll.
func (r *runner) pollFinished(p *activePoll) {
	p.endOpening()
	p.host.polling--
	if r.pollsByHost[p.host.name]--; r.pollsByHost[p.host.name] == 0 {
		delete(r.pollsByHost, p.host.name)
	}
	r.polling--
	now, t := r.now(), p.task
	t.poll = nil
	t.reschedule(p, now)
	if isHostUnreachable(p.Err, p.Sessions) {
		t.unreached = true
		p.host.noteFailure(now)
	}
	if p.setup != r.setup {
		r.removeUnusedHosts()
	}
	p.setup.release()
}

// isHostUnreachable reports whether a poll with so many sessions failed for a reason
// that concerns the host, not the account.
func isHostUnreachable(err error, sessions int) bool {
	c, ok := errors.AsType[*ConnectError](err)
	if !ok || sessions > 0 {
		return false
	}
	// Some name servers deny every name while the network is down.
	_, unknownName := errors.AsType[*net.DNSError](c)
	return unknownName || Classify(err) == ClassRetry
}

// retryUnreached has the accounts that could not reach a host polled now.
func (r *runner) retryUnreached(h *host, now time.Time) {
	var waiting []*task
	for _, t := range r.ordered {
		if t.host != h {
			continue
		}
		if t.unreached && t.poll == nil {
			waiting = append(waiting, t)
		}
		t.unreached = false
	}
	spread(waiting, now)
}

// status returns the state for the caller of Run, and for its own next wait.
func (r *runner) status(now time.Time) RunStatus {
	s := RunStatus{Accounts: len(r.ordered), Polling: r.polling}
	for _, t := range r.ordered {
		if t.failed {
			s.Failing++
		}
		next := t.next
		switch {
		case t.poll != nil:
			continue
		case !next.After(now):
			s.Waiting++
			// Run wakes when a slot becomes free, but not when a host's pause ends.
			if next = t.host.retry; !t.host.isDown() || !next.After(now) {
				continue
			}
		}
		if s.Next.IsZero() || next.Before(s.Next) {
			s.Next = next
		}
	}
	return s
}
