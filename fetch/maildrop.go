package fetch

import (
	"context"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/fetch/state"
)

// A unique-id is good for one maildrop (RFC 1939 §7). Once an account has a new server
// or user in its configuration, its maildrop may be another, where the unique-ids that
// are remembered belong to other messages; or the same by a new name. Headers tell.

// maildrop says whose maildrop the account's is.
func (a *Account) maildrop() string { return a.User + " at " + strings.ToLower(a.Server.Addr()) }

// left reports whether the account's maildrop is another than that of the last
// poll.
func (a *Account) changedMaildrop(was *state.Standing) bool {
	return was.Maildrop != "" && was.Maildrop != a.maildrop()
}

// scheduled returns what is remembered of the account's polls, but for what is of
// another maildrop: that its login worked, and the pause that its server wants. After
// a failure that may be a pause of the new server, which has not let us in yet.
func (a *Account) scheduleOf(st *state.Standing) state.Schedule {
	was := st.Schedule
	if a.changedMaildrop(st) {
		was.LastSuccess = 0
		if was.Failures == 0 {
			was.NotBefore, was.Pause = 0, ""
		}
	}
	return was
}

// note has the plan tell whose maildrop it is, should nothing say so yet: this poll may
// not come to its end, and its rows outlive it.
func (s *session) recordMaildrop() {
	if s.unrecordedMaildrop && s.plan.wants() {
		s.plan.Keep.Maildrop = s.maildrop()
	}
}

// doubtAll notes that nobody knows which messages the server has of those that it
// had.
func (v *visit) doubtAllRows(ctx context.Context) error {
	if v.readOnly {
		return nil
	}
	rows, err := v.opts.State.Rows(ctx, v.Name)
	if err != nil {
		return err
	}
	now := v.opts.now()
	return v.opts.State.Keep(ctx, v.Name, now.Unix(), state.Housekeeping{Missing: markMissing(rows, now)})
}

// missing puts rows in doubt, and returns the keys of those that were not.
func markMissing(rows []state.Row, now time.Time) (keys []string) {
	for i := range rows {
		if r := &rows[i]; r.Phase != state.Deleted && r.Missing == 0 {
			r.Missing = now.Unix()
			keys = append(keys, r.UID)
		}
	}
	return keys
}
