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

// watchedAccount is what a Watch knows of an account. Times are Unix seconds.
type watchedAccount struct {
	state.Health
	readAt time.Time // when Health was read from the state

	// The next three belong to the poll that is under way.
	newlyRefused []fetch.Refused // not those that an earlier poll refused, too
	warned       bool            // the postpoll command failed
	unfiltered   bool            // the filter failed

	// refusedWithoutUID is set once a message without a unique-id was refused.
	// Such a message cannot be recognized when it is refused again, so that
	// only the first one is an alert.
	refusedWithoutUID bool

	// pending counts the alerts that were returned to the caller, and are not
	// recorded yet. unsaved is what the state failed to record, nil for nothing.
	pending int
	unsaved *state.Trouble
}

// addRefused notes a refused message for the alert at the end of the poll, unless
// an earlier poll refused it, too.
func (a *watchedAccount) addRefused(r fetch.Refused) {
	if r.Again || r.UID == "" && a.refusedWithoutUID {
		return
	}
	a.newlyRefused = append(a.newlyRefused, r)
	if r.UID == "" {
		a.refusedWithoutUID = true
	}
}

// warn returns the alert for a warning, nil if one was sent within a day.
func (a *watchedAccount) warn(w fetch.Warned, now time.Time) []Alert {
	seen, lastAlert := &a.warned, &a.Trouble.Warned
	if w.Filter {
		seen, lastAlert = &a.unfiltered, &a.Trouble.Unfiltered
	}
	*seen = true
	if !repeatDaily(lastAlert, now) {
		return nil
	}
	return []Alert{{
		Kind: Warned, Summary: fetch.Summary{Account: w.Account}, Warning: w, Trouble: a.Trouble, Remember: true,
	}}
}

// finish takes the result of a poll and returns the alerts for it.
func (a *watchedAccount) finish(s fetch.Summary, now time.Time) []Alert {
	var alerts []Alert
	before := a.Trouble
	alert := Alert{
		Summary:     s,
		LastSuccess: fromUnix(pastOrZero(a.LastSuccess, now)),
		Since:       fromUnix(before.Since),
		Level:       before.Level,
	}

	a.clearWarnings(s)
	if s.NotDeleted != nil && repeatDaily(&a.Trouble.Undeleted, now) {
		alerts = append(alerts, Alert{Kind: Warned, Summary: s, Trouble: a.Trouble, Remember: true})
	}

	switch {
	case a.isInconclusive(s):
	case s.Err == nil:
		alert.Kind = a.succeed(s)
	default:
		alert.Kind = a.fail(s, now)
		alert.Since, alert.Level = fromUnix(a.Trouble.Since), a.Trouble.Level
	}
	if alert.Kind != "" {
		alert.Trouble, alert.Remember = a.Trouble, true
		alerts = append(alerts, alert)
	}
	if len(alerts) == 0 && a.Trouble != before {
		alerts = append(alerts, Alert{Summary: s, Trouble: a.Trouble, Remember: true})
	}

	if len(a.newlyRefused) > 0 {
		alert.Kind, alert.Refused = Refused, a.newlyRefused
		alert.Trouble, alert.Remember = state.Trouble{}, false
		alerts = append(alerts, alert)
		a.newlyRefused = nil
	}
	return alerts
}

// clearWarnings resets the warnings that a poll shows to be over, and starts
// anew with those of the next poll.
func (a *watchedAccount) clearWarnings(s fetch.Summary) {
	ran := !s.Skipped && s.Would == nil && !s.Started.IsZero()
	if ran && !a.warned {
		a.Trouble.Warned = 0
	}
	// Only a message that the filter let through, or dropped, shows that it works.
	if ran && !a.unfiltered && (s.Fetched > s.Quarantined || s.Dropped > 0) {
		a.Trouble.Unfiltered = 0
	}
	if s.Deleted > 0 && s.NotDeleted == nil {
		a.Trouble.Undeleted = 0
	}
	a.warned, a.unfiltered = false, false
}

// isInconclusive reports whether a poll does not show if the account works.
func (a *watchedAccount) isInconclusive(s fetch.Summary) bool {
	if s.Skipped || s.Started.IsZero() {
		return true
	}
	if errors.Is(s.Err, context.Canceled) || errors.Is(s.Err, fetch.ErrCutShort) {
		return true // the user stopped it
	}
	// A poll without an error does not clear a failing sink if messages that it
	// refused were left alone, and no other message was delivered.
	return s.Err == nil && a.Trouble.Sink && s.Refused > 0 && s.Fetched+s.Dropped == 0
}

// succeed records a poll without an error. It returns Recovered if the user was
// alerted of trouble, and "" else.
func (a *watchedAccount) succeed(s fetch.Summary) Kind {
	a.LastSuccess = s.Ended.Unix()
	if a.Trouble.Level == 0 {
		return ""
	}
	a.setTroubleSince(0)
	return Recovered
}

// fail records a poll with an error. It returns the kind of alert to send, "" for
// none.
func (a *watchedAccount) fail(s fetch.Summary, now time.Time) Kind {
	t := &a.Trouble
	// The account may have worked since, in polls that nobody watched.
	over := !t.Sink && t.Since < pastOrZero(a.LastSuccess, now)
	if t.Level == 0 || over || t.Since > now.Unix() {
		a.setTroubleSince(s.Ended.Unix())
	}
	if _, ok := errors.AsType[*deliver.Error](s.Err); ok {
		t.Sink = true
	}

	level, cause := a.troubleLevel(s, now), ""
	if level == LevelPerson {
		cause = causeID(s.Err)
	}
	worse := level > t.Level
	newCause := !strings.Contains(t.Causes, cause) && len(t.Causes) < maxCauses*len(cause)
	if !worse && !newCause && !isDayOld(t.Alerted, now) {
		return ""
	}

	kind := StillFailing
	switch {
	case !worse && !newCause: // a day has passed
	case level == LevelPerson:
		kind = NeedsPerson
	case t.Level == 0:
		kind = Failing
	}
	switch {
	case cause == "":
	case kind == StillFailing:
		t.Causes = cause // a new day begins
	default:
		t.Causes += cause
	}
	t.Level, t.Alerted = max(t.Level, level), now.Unix()
	return kind
}

// setTroubleSince starts trouble of which the user has not been alerted; 0 means
// that there is none. The warnings stay: they are independent of it.
func (a *watchedAccount) setTroubleSince(since int64) {
	a.Trouble = state.Trouble{
		Since: since, Warned: a.Trouble.Warned, Unfiltered: a.Trouble.Unfiltered, Undeleted: a.Trouble.Undeleted,
	}
}

// troubleLevel returns how serious the error of a poll is.
func (a *watchedAccount) troubleLevel(s fetch.Summary, now time.Time) int {
	if s.Class >= fetch.ClassOperator {
		return LevelPerson
	}
	worked := a.LastSuccess
	// A time in the future comes from a clock that was ahead. While a sink fails,
	// polls that did not try it succeed.
	if worked > now.Unix() || a.Trouble.Sink {
		worked = min(worked, a.Trouble.Since)
	}
	if now.Sub(time.Unix(worked, 0)) > Patience {
		return LevelLasting
	}
	return LevelPassing
}

// maxCauses bounds the causes of which the user is alerted in a day.
const maxCauses = 8

// causeID returns a digest of what the user has to do about an error. It leaves
// out the text of the error, which a server may word differently each time.
func causeID(err error) string {
	h := fnv.New32a()
	io.WriteString(h, fetch.Hint(err))
	if sink, ok := errors.AsType[*deliver.Error](err); ok {
		io.WriteString(h, sink.Target)
	}
	return fmt.Sprintf("%08x ", h.Sum32())
}

// repeatDaily reports whether a warning is to be sent, which last was at *last,
// and sets *last to now if so.
func repeatDaily(last *int64, now time.Time) bool {
	if !isDayOld(*last, now) {
		return false
	}
	*last = now.Unix()
	return true
}

// isDayOld reports whether the time then is at least Patience ago. A time in the
// future, from a clock that was ahead, counts as old.
func isDayOld(then int64, now time.Time) bool {
	return now.Sub(time.Unix(pastOrZero(then, now), 0)) >= Patience
}

// pastOrZero returns a recorded time, or 0 if it is in the future because the
// clock was ahead when it was recorded.
func pastOrZero(unix int64, now time.Time) int64 {
	if unix > now.Unix() {
		return 0
	}
	return unix
}

// fromUnix returns the time of Unix seconds, the zero time for 0.
func fromUnix(unix int64) time.Time {
	if unix == 0 {
		return time.Time{}
	}
	return time.Unix(unix, 0)
}
