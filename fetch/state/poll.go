package state

import (
	"context"
	"database/sql"
)

// keptPolls is how many polls are remembered of an account: at one a minute
// well over half a day.
const keptPolls = 1000

// SavePoll notes how a poll went, its Schedule if it has one, and what it
// learned of the server and of its maildrop. What Delete noted is in doubt no more,
// unless the poll says so; and what it has fetched is untold no more. The last
// 1000 of an account are kept.
func (s *Store) SavePoll(ctx context.Context, account string, p Poll) error {
	return s.change(ctx, "note the poll", func(t *tx) error {
		id, err := t.id(account)
		if err != nil {
			return err
		}
		var seq int64
		err = t.get(&seq, `
			INSERT INTO polls (account, seq, started, ended, result, error, hint, fetched, deleted, listed, bytes)
			VALUES (?1, 1 + coalesce((SELECT max(seq) FROM polls WHERE account = ?1), 0), ?, ?, ?, ?, ?, ?, ?, ?, ?)
			RETURNING seq`,
			id, p.Started, p.Ended, p.Result, p.Error, p.Hint, p.Fetched, p.Deleted, p.Listed, p.Bytes)
		if err != nil {
			return err
		}
		if p.Server != nil {
			if err := t.learn(id, *p.Server); err != nil {
				return err
			}
		}
		if p.Error == "" {
			if err := t.exec("UPDATE accounts SET last_success = ? WHERE id = ?", p.Ended, id); err != nil {
				return err
			}
		}
		if r := p.Rest; r != nil {
			if err := t.exec("UPDATE accounts SET rest = ?, rest_until = ? WHERE id = ?", sum(r.Listing), r.Until, id); err != nil {
				return err
			}
		}
		if !p.Unconfirmed {
			if err := t.confirm(id); err != nil {
				return err
			}
		}
		if p.Fetched > 0 {
			if err := t.exec(`UPDATE accounts SET untold = max(0, untold - ?), untold_bytes = max(0, untold_bytes - ?) WHERE id = ?`,
				p.Fetched, p.Bytes, id); err != nil {
				return err
			}
		}
		if p.Schedule != nil {
			if err := t.reschedule(id, *p.Schedule); err != nil {
				return err
			}
		}
		if err := t.count(id, p); err != nil {
			return err
		}
		return t.exec("DELETE FROM polls WHERE account = ? AND seq <= ?", id, seq-keptPolls)
	})
}

// Polls returns the last n polls of an account, the latest first.
func (s *Store) Polls(ctx context.Context, account string, n int) ([]Poll, error) {
	rows, err := s.read.QueryContext(ctx,
		"SELECT "+pollColumns+" FROM polls WHERE account = "+byName+" ORDER BY seq DESC LIMIT ?", account, max(n, 0))
	return collect(rows, err, s.path, "read the polls", scanPoll)
}

// pollColumns is what scanPoll reads.
const pollColumns = "started, ended, result, error, hint, fetched, deleted, listed, bytes"

func scanPoll(rows *sql.Rows) (p Poll, err error) {
	err = rows.Scan(&p.Started, &p.Ended, &p.Result, &p.Error, &p.Hint, &p.Fetched, &p.Deleted, &p.Listed, &p.Bytes)
	return p, err
}
