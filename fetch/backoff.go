package fetch

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// retryPauses are the times for which a refused message is left alone, by the
// number of failed attempts; the last one goes for all that follow.
var retryPauses = []time.Duration{
	FirstPause, time.Hour, 4 * time.Hour, 12 * time.Hour, longestPause,
}

// FirstPause is for how long a message is left alone that was refused once.
const FirstPause = 15 * time.Minute

const longestPause = 24 * time.Hour

// retryPause returns for how long to leave a message alone that has now failed
// tries times.
func retryPause(tries int) time.Duration {
	return retryPauses[min(max(tries, 1), len(retryPauses))-1]
}

const (
	// DefaultEvery is how often an account is polled that does not say.
	DefaultEvery = 5 * time.Minute
	// longestBackoff is the longest time between two polls that fail, unless
	// the account is polled less often anyway; longestForPerson is that of
	// polls that will fail until a person has done something. Some providers
	// lock an account after a few wrong passwords.
	longestBackoff       = time.Hour
	firstOperatorPause   = 15 * time.Minute
	longestOperatorPause = 6 * time.Hour
	// suspectPause is how long what was tried by itself in vain, with a sink that then took
	// nothing more, waits: longer than what was not tried, which comes first when they
	// are due.
	suspectPause = longestBackoff + time.Minute
	// lockPause is how long an account is left alone whose maildrop another
	// program has open, doubled each time up to longestLockPause: some servers
	// need as long to notice that a client has gone.
	lockPause        = time.Minute
	longestLockPause = 15 * time.Minute
	// longestLoginDelay is the most of what a server can ask for between two
	// logins that is heeded.
	longestLoginDelay = 24 * time.Hour
	// maxLoginRefusals is how many times in a row a login is refused that worked
	// before, until that needs a person.
	maxLoginRefusals = 3
)

// interval returns how long after a poll the next one is due, after so many
// failures in a row.
func (a *Account) interval(class Class, failures int) time.Duration {
	every := a.every()
	switch class {
	case ClassFine, ClassRefused:
		return every
	case ClassOperator:
		return doubled(max(every, firstOperatorPause), failures-1, max(every, longestOperatorPause))
	default:
		return doubled(every, failures-1, max(every, longestBackoff))
	}
}

func (a *Account) every() time.Duration { return cmp.Or(a.Every, DefaultEvery) }

// doubled returns d doubled n times, at most longest.
func doubled(d time.Duration, n int, longest time.Duration) time.Duration {
	for ; n > 0 && d < longest; n-- {
		d *= 2
	}
	return min(d, longest)
}

// jitter returns d give or take a tenth, so that accounts with one interval do
// not stay in step.
func jitter(d time.Duration) time.Duration {
	tenth := d / 10
	return d - tenth + rand.N(2*tenth+1)
}

// nextLogin returns when a server takes the next login after one. Its clock
// may tick a second later than ours.
func nextLogin(last time.Time, delay time.Duration) time.Time {
	if last.IsZero() || delay == 0 {
		return time.Time{}
	}
	return last.Add(delay + time.Second)
}

// notBefore returns until when a server wants no login, the zero time if it
// takes one. A time that no server asked for was noted by a clock that was
// wrong then, or is wrong now.
func notBefore(s state.Schedule, now time.Time) time.Time {
	until := time.Unix(s.NotBefore, 0)
	longest := max(time.Duration(s.LoginDelay)*time.Second, longestLockPause)
	if !until.After(now) || until.Sub(now) > longest+time.Minute {
		return time.Time{}
	}
	return until
}

// noteLoginDelay notes how long the server wants a user to wait between two logins. What it
// said before the login with the word USER is the longest wait of any (RFC 2449 §6.5):
// if it says nothing now that it knows who asks, this one need not wait.
func (s *session) noteLoginDelay(caps pop3proto.Capabilities) {
	before := pop3proto.ParseCapabilities(s.server.Before).Params("LOGIN-DELAY")
	if d, ok := caps.LoginDelay(); ok {
		s.summary.LoginDelay = min(d, longestLoginDelay)
	} else if len(before) > 1 && len(caps.Lines()) > 0 {
		s.summary.LoginDelay = 0
	}
}

// pauseRequest returns the answer of a server that only wants a pause before the
// next login (RFC 2449 §8.1), else nil.
func pauseRequest(err error) *pop3proto.ReplyError {
	r, ok := errors.AsType[*pop3proto.ReplyError](err)
	if ok && (r.Code == pop3proto.CodeLoginDelay || r.Code == pop3proto.CodeInUse) {
		return r
	}
	return nil
}

// isLoginRefused reports whether err means that the server takes the user or
// the password for wrong.
func isLoginRefused(err error) bool {
	login, ok := errors.AsType[*LoginError](err)
	if !ok || Classify(login) != ClassOperator {
		return false
	}
	r, ok := errors.AsType[*pop3proto.ReplyError](login)
	return errors.Is(login, mech.ErrRefused) || ok && r.Code != pop3proto.CodeSysPerm
}

// doubtRefusedLogin makes a DoubtfulError of a refused login that worked before, in an earlier poll
// or in this one.
func doubtRefusedLogin(err error, was state.Schedule, s *Summary) error {
	before := was.LastSuccess > 0 && was.Refusals+1 < maxLoginRefusals || !s.LoggedIn.IsZero()
	if before && isLoginRefused(err) {
		return &DoubtfulError{err}
	}
	return err
}

// nextSchedule returns what is to be remembered for the next poll, after one
// that ended in err.
func (a *Account) nextSchedule(was state.Schedule, s *Summary, err error, o *Options) state.Schedule {
	now, next := o.now(), was
	class, cut := Classify(err), errors.Is(err, ErrCutShort)
	if class < ClassRetry {
		next.Failures = 0
	} else if !cut {
		next.Failures++
	}
	if !s.LoggedIn.IsZero() {
		next.Refusals = 0
	} else if isLoginRefused(err) {
		next.Refusals++
	}
	if s.Sessions > 0 {
		next.LoginDelay = int64(s.LoginDelay / time.Second)
	}
	until := time.Unix(was.NotBefore, 0)
	if s.refused != nil || !s.LoggedIn.IsZero() {
		until, next.Pause = pauseAfter(s, next.Failures, now)
		next.NotBefore = max(0, until.Unix())
	}
	if !o.regular {
		return next
	}
	pause := a.interval(class, next.Failures)
	if isHostUnreachable(err, s.Sessions) {
		// To knock again asks nothing of anybody, and the network may be back.
		pause = min(pause, max(a.every(), longestHostPause))
	}
	s.next = now.Add(jitter(pause))
	if cut && next.Failures == 0 {
		s.next = now // whoever stopped it may start it again, and waits for the rest
	}
	if s.Rest || s.refused != nil {
		s.next = until
	}
	s.next = latest(s.next, until)
	next.Next = s.next.Unix()
	return next
}

// pauseAfter returns until when the server wants no login, and why; the zero
// time if it takes one. failures is how many polls have failed in a row.
func pauseAfter(s *Summary, failures int, now time.Time) (until time.Time, why string) {
	until = now.Add(doubled(lockPause, failures-1, longestLockPause))
	switch {
	case s.refused == nil && s.LoginDelay == 0:
		return time.Time{}, ""
	case s.refused == nil:
		return nextLogin(s.LoggedIn, s.LoginDelay), fmt.Sprintf("it asks for %v between two logins", s.LoginDelay)
	case s.refused.Code == pop3proto.CodeInUse:
		return until, "another program has the mailbox open"
	case s.LoginDelay > 0:
		until = nextLogin(now, s.LoginDelay)
	}
	return until, "the last login came too early"
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
