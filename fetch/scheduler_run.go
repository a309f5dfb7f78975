package fetch

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"time"
)

// Order is what Run is told while it runs: a Setup, which takes the place of
// the one before, or PollNow.
type Order interface{ order() }

// PollNow has accounts polled as soon as their servers allow, also those that
// wait because they failed. One that is being polled is polled once more: what
// came in after its mail was listed is wanted, too.
type PollNow struct {
	// Accounts are the names of those to poll; nil is all.
	Accounts []string
}

func (Setup) order()   {}
func (PollNow) order() {}

// Turn is how Run fares.
type Turn struct {
	// Accounts are polled, Polling of them at this moment. Waiting ones are
	// due and wait for a slot or for their host, and Failing ones failed when
	// they were last polled.
	Accounts, Polling, Waiting, Failing int
	// Next is when the next account is due; the zero time if none is.
	Next time.Time
}

// heartbeat is the longest time between two turns of Run.
const heartbeat = 15 * time.Second

// Run polls every account at its own interval until s.Options.Drain is closed
// or ctx ends, and returns once the polls that were under way have ended.
// Setups that take s's place are drained by the same channel.
//
// Who is due the longest goes first, within the bounds of the setup. A
// host is asked for a further connection only once it has greeted us on the
// last one, so that one that hangs costs one slot. One that several polls in a
// row could not reach is tried by one account at a time, after growing pauses,
// while the others wait. What answers by one port, or one way, says nothing of the
// others. A sink that does not answer is tried in the same way: the mail for it waits
// for that, the accounts do not.
//
// turn, if not nil, is called at every turn of Run, every 15 seconds at least.
// Like an Observer it must return quickly.
func Run(ctx context.Context, s Setup, orders <-chan Order, turn func(Turn)) {
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
		t := r.summarize(now)
		if turn != nil {
			turn(t)
		}
		wait := heartbeat
		if !t.Next.IsZero() {
			wait = min(wait, max(t.Next.Sub(now), time.Millisecond))
		}
		timer.Reset(wait)
		drain, done := r.drain, ctx.Done()
		if r.isEnding() {
			drain, done = nil, nil // known
		}
		select {
		case <-timer.C:
		case <-drain:
		case <-done:
		case o := <-orders:
			r.handleOrder(o)
		case p := <-r.settling:
			p.endOpening() // it takes its time, as what runs before the connection does
		case p := <-r.connected:
			r.pollConnected(p)
		case p := <-r.finished:
			r.pollFinished(p)
		}
	}
	r.setup.release()
}

// runner is the state of Run. One goroutine owns it; polls run in others and
// report by its channels.
type runner struct {
	ctx     context.Context
	drain   <-chan struct{}
	setup   *setup
	tasks   map[string]*task
	ordered []*task // in the setup's order
	hosts   map[string]*host
	// polling counts the polls under way, those of former setups, too; busy does so by
	// the name of the host.
	polling     int
	pollsByHost map[string]int
	lastNow     time.Time
	// By what polls report.
	settling, connected, finished chan *activePoll
}

// setup is a Setup, and how many use it: the run itself and each poll.
type setup struct {
	Setup
	users int
}

func (s *setup) release() {
	if s.users--; s.users == 0 && s.Done != nil {
		s.Done()
	}
}

// task is an account and when it is polled.
type task struct {
	account *Account
	host    *host
	// poll is the one under way, nil if there is none. again has another
	// follow at once: the account has changed meanwhile, or somebody asked.
	poll      *activePoll
	pollAgain bool
	// next is when the account is due, notBefore until when its server wants
	// no login.
	next, notBefore time.Time
	failures        int  // in a row, as far as they delay the next poll
	failed          bool // the last poll, if only one of several sinks
	needsPerson     bool // it called for a person
	unreached       bool // the last poll did not reach the host
}

// activePoll is a poll under way, and then its outcome.
type activePoll struct {
	*task
	host     *host // the task may have got another
	setup    *setup
	opening  bool   // the host has not greeted us yet
	maildrop string // the maildrop; the task may have got another
	Summary
}

// now returns the time by the wall, which goes on while the machine sleeps. If
// that was set back, all is due earlier by as much.
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
		r.setup.Options.silent.reset()
		for _, t := range r.ordered {
			if o.Accounts == nil || slices.Contains(o.Accounts, t.account.Name) {
				t.next, t.pollAgain = latest(now, t.notBefore), t.poll != nil
				t.host.retry = now
			}
		}
	}
}

// applySetup has a setup take the place of the one before.
func (r *runner) applySetup(s Setup) {
	s.Options.regular, s.Options.Drain, s.Options.silent = true, r.drain, newSilences()
	before, old := r.setup, r.tasks
	r.setup = &setup{Setup: s, users: 1}
	now := r.now()
	r.tasks, r.ordered = map[string]*task{}, nil
	var fresh []*task
	for _, a := range s.Accounts {
		t, anew := old[a.Name], s.Fresh != nil && s.Fresh(a.Name)
		// What is recorded may be of another process's poll, which did well.
		anew = anew || t != nil && t.needsPerson
		switch {
		case t == nil:
			t = &task{}
			if !t.restore(r.ctx, a, s.Options.State, now) || anew && before != nil {
				fresh = append(fresh, t)
			} else if anew {
				t.scheduleAfterStart(now)
			}
		case anew:
			t.pollAgain = t.poll != nil
			if a.maildrop() != t.account.maildrop() {
				t.notBefore = time.Time{}
			}
			fresh = append(fresh, t)
		}
		if t.account, t.host = a, r.hostOf(a); anew {
			t.host.retry = now // what kept us from it may be mended, too
		}
		r.tasks[a.Name], r.ordered = t, append(r.ordered, t)
	}
	spread(fresh, now)
	r.removeUnusedHosts()
	if before != nil {
		before.release()
	}
}

// removeUnusedHosts forgets the hosts that no account has any more, once their last poll has
// ended.
func (r *runner) removeUnusedHosts() {
	used := map[*host]bool{}
	for _, t := range r.ordered {
		used[t.host] = true
	}
	maps.DeleteFunc(r.hosts, func(_ string, h *host) bool { return h.polling == 0 && !used[h] })
}

// restore sets when a task is due from what an earlier process has recorded.
// It returns false if the account is due now.
func (t *task) restore(ctx context.Context, a *Account, s State, now time.Time) bool {
	standing, err := s.Standing(ctx, a.Name)
	if err != nil {
		return false // the poll will find the same, and tell
	}
	was := a.scheduleOf(&standing)
	t.failures, t.failed, t.notBefore = was.Failures, was.Failures > 0, notBefore(was, now)
	t.schedule(a, time.Unix(was.Next, 0), now)
	return t.next.After(now)
}

// schedule has a task wait until next, as was recorded: unless that is later than
// any interval, for another of which it was recorded, or by a wrong clock.
func (t *task) schedule(a *Account, next, now time.Time) {
	longest := a.interval(ClassFine, 0)
	if t.failures > 0 {
		longest = max(a.interval(ClassOperator, t.failures), a.interval(ClassRetry, t.failures))
	}
	if next.Sub(now) > longest+longest/10 {
		next = now
	}
	t.next = latest(next, t.notBefore)
}

// scheduleAfterStart has a task wait no longer than it takes to tell that this start is not
// one of many: a daemon that is started over and over, and dies as often, must
// not have an account locked by its wrong password. The more often that failed,
// the longer the daemon has to live before it tries again.
func (t *task) scheduleAfterStart(now time.Time) {
	soon := now.Add(doubled(firstAfterStart, t.failures-1, longestAfterStart))
	if soon.Before(t.next) {
		t.next = latest(soon, t.notBefore)
	}
}

// firstAfterStart, doubled with each failure up to longestAfterStart, is how
// long after a start an account is tried that a person may have mended. A daemon
// that is started anew every minute tries none more often than one that lives.
const (
	firstAfterStart   = 90 * time.Second
	longestAfterStart = 4 * time.Minute
)

// spread makes tasks due one after the other, half a second apart, so that a
// start is no rush, but within the interval of each.
func spread(tasks []*task, now time.Time) {
	for i, place := range rand.Perm(len(tasks)) {
		t := tasks[i]
		after := time.Duration(place) * time.Second / 2
		if every := t.account.every(); after >= every {
			after = rand.N(every)
		}
		t.next = latest(now.Add(after), t.notBefore)
	}
}

// startDuePolls begins the polls that are due, who waits the longest first.
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

func (t *task) isDue(now time.Time) bool { return t.poll == nil && !t.next.After(now) }

func (r *runner) startPoll(t *task) {
	// What runs before the connection may take its time, and tells nothing of the
	// host.
	p := &activePoll{task: t, host: t.host, setup: r.setup, opening: t.account.Server.Preconnect == nil, maildrop: t.account.maildrop()}
	t.poll = p
	r.polling++
	r.pollsByHost[p.host.name]++
	p.host.polling++
	if p.opening {
		p.host.opening++
	}
	p.setup.users++
	o, a := p.setup.Options, t.account
	tell := o.Observer
	o.Observer = func(e Event) {
		if _, ok := e.(Connected); ok {
			r.connected <- p
		}
		if tell != nil {
			tell(e)
		}
	}
	o.settling = func() { r.settling <- p }
	go func() {
		p.Summary = a.Poll(r.ctx, o)
		r.finished <- p
	}()
}

// pollConnected notes that the host has greeted us. The accounts that could not reach it
// need not wait until the poll has ended.
func (r *runner) pollConnected(p *activePoll) {
	p.endOpening()
	if p.host.noteSuccess() {
		r.retryUnreached(p.host, r.now())
	}
}

// endOpening notes that the poll is past the opening of its connection.
func (p *activePoll) endOpening() {
	if p.opening {
		p.opening = false
		p.host.opening--
	}
}

// leasedPause is when an account is tried again that another process was
// polling.
const leasedPause = 30 * time.Second

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
	if !p.Skipped {
		t.failed, t.needsPerson = p.Class > ClassRefused, p.Class == ClassOperator
	}
	if early, ok := errors.AsType[*PauseError](p.Err); ok {
		t.next, t.notBefore = early.Until, early.Until
	} else if p.Skipped {
		t.next = now.Add(jitter(min(leasedPause, t.account.every())))
	} else if p.Summary.next.IsZero() { // nothing could be recorded
		t.failures++
		t.next = now.Add(jitter(t.account.interval(p.Class, t.failures)))
	} else {
		t.failures, t.notBefore = p.Schedule.Failures, notBefore(p.Schedule, now)
		t.schedule(t.account, p.Summary.next, now)
	}
	if p.maildrop != t.account.maildrop() { // the pause is of a server that it has left
		t.notBefore = time.Time{}
	}
	if t.pollAgain {
		t.pollAgain, t.next = false, latest(now, t.notBefore)
	}
	if p.hostUnreachable() {
		t.unreached = true
		p.host.noteFailure(now)
	}
	if p.setup != r.setup {
		r.removeUnusedHosts()
	}
	p.setup.release()
}

// hostUnreachable reports whether a poll failed for a reason that concerns the
// host, not the account.
func (s *Summary) hostUnreachable() bool { return isHostUnreachable(s.Err, s.Sessions) }

func isHostUnreachable(err error, sessions int) bool {
	c, ok := errors.AsType[*ConnectError](err)
	if !ok || sessions > 0 {
		return false
	}
	// Where the network is gone, so are the names, as some name servers have it.
	_, nameless := errors.AsType[*net.DNSError](c)
	return nameless || Classify(err) == ClassRetry
}

// retryUnreached has the accounts that could not reach a host try it at once.
func (r *runner) retryUnreached(h *host, now time.Time) {
	var back []*task
	for _, t := range r.ordered {
		if t.host == h && t.unreached && t.poll == nil {
			back = append(back, t)
		}
		if t.host == h {
			t.unreached = false
		}
	}
	spread(back, now)
}

// summarize sums up, for others and for Run's own next wait.
func (r *runner) summarize(now time.Time) Turn {
	sum := Turn{Accounts: len(r.ordered), Polling: r.polling}
	for _, t := range r.ordered {
		if t.failed {
			sum.Failing++
		}
		next := t.next
		switch {
		case t.poll != nil:
			continue
		case !next.After(now):
			sum.Waiting++
			// A slot that gets free wakes Run; a host that is down does not.
			if next = t.host.retry; !t.host.isDown() || !next.After(now) {
				continue
			}
		}
		if sum.Next.IsZero() || next.Before(sum.Next) {
			sum.Next = next
		}
	}
	return sum
}
