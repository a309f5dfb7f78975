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

// retryPauses are the pauses of a refused message, by the number of failed attempts.
// The last one is for all further attempts.
var retryPauses = []time.Duration{
	FirstPause, time.Hour, 4 * time.Hour, 12 * time.Hour, longestPause,
}

// FirstPause is the pause of a message that was refused once.
const FirstPause = 15 * time.Minute

const longestPause = 24 * time.Hour

// retryPause returns the pause of a message that has failed tries times.
func retryPause(tries int) time.Duration {
	return retryPauses[min(max(tries, 1), len(retryPauses))-1]
}

const (
	// DefaultEvery is the interval of an account that sets none.
	DefaultEvery = 5 * time.Minute
	// longestBackoff is the longest time between two polls that fail, unless the
	// account is polled less often anyway.
	longestBackoff = time.Hour
	// firstOperatorPause, doubled up to longestOperatorPause, is the time between two
	// polls that fail until a person has done something. Some providers lock an account
	// after a few wrong passwords.
	firstOperatorPause   = 15 * time.Minute
	longestOperatorPause = 6 * time.Hour
	// suspectPause is the pause of a message over which one sink of several failed,
	// alone in its batch. Messages that were not tried pause less, and so come first.
	suspectPause = longestBackoff + time.Minute
	// lockPause, doubled up to longestLockPause, is the pause of an account whose
	// maildrop another program has open. Some servers take that long to notice that a
	// client has gone.
	lockPause        = time.Minute
	longestLockPause = 15 * time.Minute
	// longestLoginDelay is the longest time between two logins that is granted to a
	// server.
	longestLoginDelay = 24 * time.Hour
	// maxLoginRefusals is how many times in a row a login that worked before is refused
	// until that needs a person.
	maxLoginRefusals = 3
)

// interval returns how long after a poll the next one is due. failures is how many have
// failed in a row.
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

// jitter returns d give or take a tenth, so that accounts with the same interval spread
// out.
func jitter(d time.Duration) time.Duration {
	tenth := d / 10
	return d - tenth + rand.N(2*tenth+1)
}

// nextLogin returns when a server accepts the next login; the zero time if it does not
// mind. A second is added for its clock.
func nextLogin(last time.Time, delay time.Duration) time.Time {
	if last.IsZero() || delay == 0 {
		return time.Time{}
	}
	return last.Add(delay + time.Second)
}

// notBefore returns until when a server wants no login; the zero time if it accepts one
// now. A time further ahead than any server can have asked for is ignored: a clock was
// wrong.
func notBefore(s state.Schedule, now time.Time) time.Time {
	until := time.Unix(s.NotBefore, 0)
	longest := max(time.Duration(s.LoginDelay)*time.Second, longestLockPause)
	if !until.After(now) || until.Sub(now) > longest+time.Minute {
		return time.Time{}
	}
	return until
}

// noteLoginDelay notes from capabilities how long the server wants this user to wait
// between two logins. LOGIN-DELAY n USER before the login announces the longest delay of any user (RFC 2449 §6.5): without LOGIN-DELAY after it, this
// user need not wait.
func (s *session) noteLoginDelay(caps pop3proto.Capabilities) {
	before := pop3proto.ParseCapabilities(s.server.Before).Params("LOGIN-DELAY")
	if d, ok := caps.LoginDelay(); ok {
		s.summary.LoginDelay = min(d, longestLoginDelay)
	} else if len(before) > 1 && len(caps.Lines()) > 0 {
		s.summary.LoginDelay = 0
	}
}

// pauseRequest returns the reply of a server that refused a login only until later
// (RFC 2449 §8.1), else nil.
func pauseRequest(err error) *pop3proto.ReplyError {
	r, ok := errors.AsType[*pop3proto.ReplyError](err)
	if ok && (r.Code == pop3proto.CodeLoginDelay || r.Code == pop3proto.CodeInUse) {
		return r
	}
	return nil
}

// isLoginRefused reports whether err means that the server takes the user name or the
// password for wrong.
func isLoginRefused(err error) bool {
	login, ok := errors.AsType[*LoginError](err)
	if !ok || Classify(login) != ClassOperator {
		return false
	}
	r, ok := errors.AsType[*pop3proto.ReplyError](login)
	return errors.Is(login, mech.ErrRefused) || ok && r.Code != pop3proto.CodeSysPerm
}

// doubtRefusedLogin wraps the refusal of a login that worked before, in an earlier poll
// or in this one, in a DoubtfulError.
func doubtRefusedLogin(err error, was state.Schedule, s *Summary) error {
	worked := was.LastSuccess > 0 && was.Refusals+1 < maxLoginRefusals || !s.LoggedIn.IsZero()
	if worked && isLoginRefused(err) {
		return &DoubtfulError{err}
	}
	return err
}

// nextSchedule returns what to remember for the next poll after one that ended in err.
// In polls by Run it also sets s.next.
func (a *Account) nextSchedule(was state.Schedule, s *Summary, err error, o *Options) state.Schedule {
	now, next := o.now(), was
	if Classify(err) < ClassRetry {
		next.Failures = 0
	} else if !errors.Is(err, ErrCutShort) {
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
	if s.pauseReply != nil || !s.LoggedIn.IsZero() {
		until, next.Pause = pauseAfter(s, next.Failures, now)
		next.NotBefore = max(0, until.Unix())
	}
	if o.regular {
		s.next = a.nextPoll(s, err, next.Failures, until, now)
		next.Next = s.next.Unix()
	}
	return next
}

// nextPoll returns when Run is to poll again after a poll that ended in err. failures is
// how many have failed in a row; until is until when the server wants no login.
func (a *Account) nextPoll(s *Summary, err error, failures int, until, now time.Time) time.Time {
	if s.Deferred || s.pauseReply != nil {
		return until
	}
	if errors.Is(err, ErrCutShort) && failures == 0 {
		return latest(now, until) // after a restart, the rest is to come at once
	}
	pause := a.interval(Classify(err), failures)
	if isHostUnreachable(err, s.Sessions) {
		// Another try is cheap, and the network may be back.
		pause = min(pause, max(a.every(), longestOutagePause))
	}
	return latest(now.Add(jitter(pause)), until)
}

// pauseAfter returns until when the server wants no login, and why; the zero time if it
// accepts one. failures is how many polls have failed in a row.
func pauseAfter(s *Summary, failures int, now time.Time) (until time.Time, why string) {
	until = now.Add(doubled(lockPause, failures-1, longestLockPause))
	switch {
	case s.pauseReply == nil && s.LoginDelay == 0:
		return time.Time{}, ""
	case s.pauseReply == nil:
		return nextLogin(s.LoggedIn, s.LoginDelay), fmt.Sprintf("it asks for %v between two logins", s.LoginDelay)
	case s.pauseReply.Code == pop3proto.CodeInUse:
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
