package state

import (
	"context"
	"database/sql"
	"strings"
)

// maxPolls is how many polls are kept of an account: well over half a day of them at
// one a minute.
const maxPolls = 1000

// SavePoll notes how a poll went, and what it says of the schedule, the server and the
// maildrop. Unless the poll is Unconfirmed, deletions are no longer in doubt, and what it
// Fetched no longer counts as Unreported. The last 1000 polls of an account are kept.
func (s *Store) SavePoll(ctx context.Context, account string, p Poll) error {
	return s.change(ctx, "note the poll", func(t *tx) error {
		id, err := t.accountID(account)
		if err != nil {
			return err
		}
		var seq int64
		err = t.queryValue(&seq, `
			INSERT INTO polls (account, seq, started, ended, result, error, hint, fetched, deleted, listed, bytes)
			VALUES (?1, 1 + coalesce((SELECT max(seq) FROM polls WHERE account = ?1), 0), ?, ?, ?, ?, ?, ?, ?, ?, ?)
			RETURNING seq`,
			id, p.Started, p.Ended, p.Result, p.Error, p.Hint, p.Fetched, p.Deleted, p.Listed, p.Octets)
		if err != nil {
			return err
		}
		if p.Server != nil {
			if err := t.saveServer(id, *p.Server); err != nil {
				return err
			}
		}
		if err := t.updateAccount(id, p); err != nil {
			return err
		}
		if err := t.addToDay(id, p); err != nil {
			return err
		}
		if seq <= maxPolls {
			return nil
		}
		return t.exec("DELETE FROM polls WHERE account = ? AND seq <= ?", id, seq-maxPolls)
	})
}

// updateAccount writes what a poll says of its account, in one statement: with many
// accounts, most of what is written are polls that found nothing.
func (t *tx) updateAccount(account int64, p Poll) error {
	var columns []string
	var args []any
	set := func(assignments string, values ...any) {
		columns, args = append(columns, assignments), append(args, values...)
	}
	if p.Error == "" {
		set("last_success = ?", p.Ended)
	}
	if r := p.Rest; r != nil {
		set("rest = ?, rest_until = ?", nullableSum(r.Listing), r.Until)
	}
	if !p.Unconfirmed {
		set("deleting = 0")
	}
	if p.Maildrop != "" {
		set("maildrop = ?", p.Maildrop)
	}
	if p.Fetched > 0 {
		set("untold = max(0, untold - ?), untold_bytes = max(0, untold_bytes - ?)", p.Fetched, p.Octets)
	}
	if s := p.Schedule; s != nil {
		set("next_poll = ?, not_before = ?, pause = ?, login_delay = ?, failures = ?, refusals = ?",
			s.Next, s.NotBefore, s.Pause, s.LoginDelay, s.Failures, s.Refusals)
	}
	if len(columns) == 0 {
		return nil
	}
	return t.exec("UPDATE accounts SET "+strings.Join(columns, ", ")+" WHERE id = ?", append(args, account)...)
}

// Polls returns the last n polls of an account, the latest first.
func (s *Store) Polls(ctx context.Context, account string, n int) ([]Poll, error) {
	rows, err := s.read.QueryContext(ctx,
		"SELECT "+pollColumns+" FROM polls WHERE account = "+accountIDByName+" ORDER BY seq DESC LIMIT ?", account, max(n, 0))
	return collectRows(rows, err, s.path, "read the polls", scanPoll)
}

// pollColumns are the columns that scanPoll reads.
const pollColumns = "started, ended, result, error, hint, fetched, deleted, listed, bytes"

func scanPoll(rows *sql.Rows) (p Poll, err error) {
	err = rows.Scan(&p.Started, &p.Ended, &p.Result, &p.Error, &p.Hint, &p.Fetched, &p.Deleted, &p.Listed, &p.Octets)
	return p, err
}
