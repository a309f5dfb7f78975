package fetch

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// task is an account and when it is polled.
type task struct {
	account   *Account
	host      *host
	poll      *activePoll // nil if the account is not being polled
	pollAgain bool        // poll once more after this poll: the account has changed, or an order came

	next        time.Time // when the account is due
	notBefore   time.Time // until when its server wants no login
	failures    int       // polls failed in a row, as far as they delay the next
	failed      bool      // the last poll failed, if only for one of several sinks
	needsPerson bool      // the last poll called for a person
	unreached   bool      // a poll did not reach the host, and none has since
}

// activePoll is a poll under way, and then its outcome. The task may get another host
// or maildrop meanwhile.
type activePoll struct {
	*task
	host     *host
	maildrop string
	setup    *setup
	opening  bool // the host has not greeted us yet
	Summary
}

// endOpening notes that the poll no longer keeps others from connecting to the host.
func (p *activePoll) endOpening() {
	if p.opening {
		p.opening = false
		p.host.opening--
	}
}

func (t *task) isDue(now time.Time) bool { return t.poll == nil && !t.next.After(now) }

// restore sets when a task is due from what an earlier process has recorded. It returns
// false if the account is due now.
func (t *task) restore(ctx context.Context, a *Account, s State, now time.Time) bool {
	standing, err := s.Standing(ctx, a.Name)
	if err != nil {
		return false // the poll will meet the same error and report it
	}
	was := a.scheduleOf(&standing)
	t.failures, t.failed, t.notBefore = was.Failures, was.Failures > 0, notBefore(was, now)
	t.schedule(a, time.Unix(was.Next, 0), now)
	return t.next.After(now)
}

// schedule sets when a task is due to a recorded time. If that is later than the
// account's interval allows, it is due now: the time was recorded for another interval,
// or by a wrong clock.
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

// An account that a person may have mended is tried firstAfterStart after a start,
// doubled with each failure up to longestAfterStart. A daemon that is started every
// minute, and dies as often, thus tries no login more often than one that lives: an
// account must not be locked because of its wrong password.
const (
	firstAfterStart   = 90 * time.Second
	longestAfterStart = 4 * time.Minute
)

// scheduleAfterStart has a task due soon after the start, if it is not earlier.
func (t *task) scheduleAfterStart(now time.Time) {
	soon := now.Add(doubled(firstAfterStart, t.failures-1, longestAfterStart))
	if soon.Before(t.next) {
		t.next = latest(soon, t.notBefore)
	}
}

// spread makes tasks due in random order, half a second apart, but within the interval
// of each.
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

// leasedPause is when an account is tried again that another process was polling.
const leasedPause = 30 * time.Second

// reschedule sets when a task is due after a poll.
func (t *task) reschedule(p *activePoll, now time.Time) {
	if !p.Skipped {
		t.failed, t.needsPerson = p.Class > ClassRefused, p.Class == ClassOperator
	}
	if pause, ok := errors.AsType[*PauseError](p.Err); ok {
		t.next, t.notBefore = pause.Until, pause.Until
	} else if p.Skipped {
		t.next = now.Add(jitter(min(leasedPause, t.account.every())))
	} else if p.Summary.next.IsZero() { // nothing could be recorded
		t.failures++
		t.next = now.Add(jitter(t.account.interval(p.Class, t.failures)))
	} else {
		t.failures, t.notBefore = p.Schedule.Failures, notBefore(p.Schedule, now)
		t.schedule(t.account, p.Summary.next, now)
	}
	if p.maildrop != t.account.maildrop() { // the pause is that of the former server
		t.notBefore = time.Time{}
	}
	if t.pollAgain {
		t.pollAgain, t.next = false, latest(now, t.notBefore)
	}
}
