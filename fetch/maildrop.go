package fetch

import (
	"context"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/fetch/state"
)

// A unique-id identifies a message within one maildrop (RFC 1939 §7). When the server or
// user of an account changes in the configuration, the account may have another maildrop,
// in which the remembered unique-ids belong to other messages. Or only the name is new, and
// the maildrop is the same. The headers of the messages show which it is.

// maildrop names the account's maildrop.
func (a *Account) maildrop() string { return a.User + " at " + strings.ToLower(a.Server.Addr()) }

// changedMaildrop reports whether the last poll was of a maildrop with another name.
func (a *Account) changedMaildrop(was *state.Standing) bool {
	return was.Maildrop != "" && was.Maildrop != a.maildrop()
}

// scheduleOf returns what is remembered of the account's polls. After a change of the
// maildrop, that leaves out what was true of the former one: that its login worked, and
// the pause that its server wanted. After a failure the pause stays, because the new
// server may have asked for it when it refused the login.
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

// recordMaildrop makes the plan record the name of the maildrop, unless the state has it
// already. The end of the poll would be too late: rows outlive a poll that is killed.
func (s *session) recordMaildrop() {
	if s.unrecordedMaildrop && s.plan.hasDownloads() {
		s.plan.Learned.Maildrop = s.maildrop()
	}
}

// doubtAllRows records of all rows that nobody knows whether the server still has their
// messages.
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

// markMissing marks rows as missing from the server, as of now, and returns the keys of
// those that were not marked before.
func markMissing(rows []state.Row, now time.Time) (keys []string) {
	for i := range rows {
		if r := &rows[i]; r.Phase != state.Deleted && r.Missing == 0 {
			r.Missing = now.Unix()
			keys = append(keys, r.UID)
		}
	}
	return keys
}
