package notify

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

type watchedAccount struct {
	state.Health
	readAt       time.Time       // when Health was read
	newlyRefused []fetch.Refused // in this poll, and not before
	// refusedWithoutUID is set once a message without a unique-id was refused: nobody
	// can tell it from others, or from itself.
	refusedWithoutUID bool
	// warned and unfiltered are what was warned of in this poll.
	warned, unfiltered bool
	// pending counts the news that is about to be told, and unsaved is what could
	// not be remembered of news that was: nil if that is nothing.
	pending int
	unsaved *state.Trouble
}

// finished is the one rule of what is news.
func (a *watchedAccount) finished(s fetch.Summary, now time.Time) []News {
	var all []News
	n := News{Summary: s, LastSuccess: timeOf(pastOrZero(a.LastSuccess, now)), Since: timeOf(a.Trouble.Since), Level: a.Trouble.Level}
	passed := a.clearWarnings(s)
	if s.NotDeleted != nil && dueDaily(&a.Trouble.Undeleted, now) {
		all = append(all, News{Kind: Warned, Summary: s, Trouble: a.Trouble, Remember: true})
	}
	switch {
	case s.Skipped, s.Started.IsZero(), errors.Is(s.Err, context.Canceled), errors.Is(s.Err, fetch.ErrCutShort):
		// It says nothing about the account.
	case s.Err == nil && a.Trouble.Sink && s.Refused > 0 && s.Fetched+s.Dropped == 0:
		// Nor does one that tried nothing, of the sink that messages wait for.
	case s.Err == nil:
		if a.Trouble.Level != 0 {
			a.startTrouble(0)
			n.Kind, n.Trouble, n.Remember = Recovered, a.Trouble, true
			all = append(all, n)
		}
		a.LastSuccess = s.Ended.Unix()
	default:
		over := !a.Trouble.Sink && a.Trouble.Since < pastOrZero(a.LastSuccess, now) // and nobody was told
		if a.Trouble.Level == 0 || over || a.Trouble.Since > now.Unix() {
			a.startTrouble(s.Ended.Unix())
		}
		was := a.Trouble.Sink
		if _, sink := errors.AsType[*deliver.Error](s.Err); sink {
			a.Trouble.Sink = true
		}
		passed = passed || a.Trouble.Sink != was
		if n.Kind = a.classify(s, now); n.Kind != "" {
			n.Since, n.Level = timeOf(a.Trouble.Since), a.Trouble.Level
			n.Trouble, n.Remember = a.Trouble, true
			all = append(all, n)
		}
	}
	if passed && len(all) == 0 {
		all = append(all, News{Summary: s, Trouble: a.Trouble, Remember: true})
	}
	if len(a.newlyRefused) > 0 {
		n.Kind, n.Refused, n.Trouble, n.Remember = Refused, a.newlyRefused, state.Trouble{}, false
		a.newlyRefused = nil
		all = append(all, n)
	}
	return all
}

// startTrouble has trouble begin then, of which nothing was told yet; 0 is none.
func (a *watchedAccount) startTrouble(since int64) {
	a.Trouble = state.Trouble{
		Since: since, Warned: a.Trouble.Warned, Unfiltered: a.Trouble.Unfiltered, Undeleted: a.Trouble.Undeleted,
	}
}

// clearWarnings forgets the warnings that a poll shows to be over, and reports whether
// there were any: the command was run and did not fail, the filter let mail go on
// and did not fail, the server deleted all that it was to.
func (a *watchedAccount) clearWarnings(s fetch.Summary) bool {
	t, before := &a.Trouble, a.Trouble
	ran := !s.Skipped && s.Would == nil && !s.Started.IsZero()
	if ran && !a.warned {
		t.Warned = 0
	}
	if ran && !a.unfiltered && (s.Fetched > s.Quarantined || s.Dropped > 0) {
		t.Unfiltered = 0
	}
	if s.Deleted > 0 && s.NotDeleted == nil {
		t.Undeleted = 0
	}
	a.warned, a.unfiltered = false, false
	return *t != before
}

// warn returns a warning as news: the first one, and one a day as long as it is
// repeated.
func (a *watchedAccount) warn(e fetch.Warned, now time.Time) []News {
	seen, told := &a.warned, &a.Trouble.Warned
	if e.Filter {
		seen, told = &a.unfiltered, &a.Trouble.Unfiltered
	}
	*seen = true
	if !dueDaily(told, now) {
		return nil
	}
	return []News{{Kind: Warned, Summary: fetch.Summary{Account: e.Account}, Warning: e, Trouble: a.Trouble, Remember: true}}
}

// dueDaily reports whether what was last told then is to be told again, and notes that
// it is.
func dueDaily(told *int64, now time.Time) bool {
	if now.Sub(time.Unix(pastOrZero(*told, now), 0)) < Patience {
		return false
	}
	*told = now.Unix()
	return true
}

// maxCauses bounds how many causes are told of a day.
const maxCauses = 8

// causeID names what a person is to see to, alike for all failures of which that is the
// same. The words of a server may differ each time, what to do about them does not.
func causeID(err error) string {
	h := fnv.New32a()
	io.WriteString(h, fetch.Hint(err))
	if sink, ok := errors.AsType[*deliver.Error](err); ok {
		io.WriteString(h, sink.Target)
	}
	return fmt.Sprintf("%08x ", h.Sum32())
}

// classify returns what a failure is news of, "" if it is none.
func (a *watchedAccount) classify(s fetch.Summary, now time.Time) Kind {
	t, kind, why := &a.Trouble, Kind(""), ""
	first := t.Level == 0
	level, well := Passing, a.LastSuccess
	if well > now.Unix() || t.Sink { // the clock was ahead, or no sink was tried
		well = min(well, t.Since)
	}
	switch {
	case s.Class >= fetch.ClassOperator:
		level, kind, why = Person, NeedsPerson, causeID(s.Err)
	case now.Sub(time.Unix(well, 0)) > Patience:
		level, kind = Lasting, StillFailing
	}
	if first && level < Person {
		kind = Failing
	}
	another := !strings.Contains(t.Causes, why) && len(t.Causes) < maxCauses*len(why)
	if level <= t.Level && !another {
		if now.Sub(time.Unix(pastOrZero(t.Told, now), 0)) < Patience {
			return ""
		}
		kind = StillFailing
	}
	switch {
	case why == "":
	case kind == StillFailing:
		t.Causes = why // of this day
	default:
		t.Causes += why
	}
	t.Level, t.Told = max(t.Level, level), now.Unix()
	return kind
}

// pastOrZero returns a time that was noted, in Unix seconds; 0 if it is still to come,
// since the clock was ahead then.
func pastOrZero(unix int64, now time.Time) int64 {
	if unix > now.Unix() {
		return 0
	}
	return unix
}

// timeOf returns a time from Unix seconds; 0 is never, the zero time.
func timeOf(unix int64) time.Time {
	if unix == 0 {
		return time.Time{}
	}
	return time.Unix(unix, 0)
}
