package state

import (
	"context"
	"database/sql"
)

// Status sums up what is remembered of an account. Of the landed messages
// that the server still listed, those that landed at due, in Unix seconds, or
// before count as Waiting, the others as Kept. An account that was never seen
// has a Status with nothing but its name.
func (s *Store) Status(ctx context.Context, account string, due int64) (Status, error) {
	st := Status{Account: account}
	polls, err := s.Polls(ctx, account, 1)
	if err != nil {
		return st, err
	}
	if len(polls) > 0 {
		st.Last = &polls[0]
	}
	err = s.read.QueryRowContext(ctx, `
		SELECT coalesce((SELECT last_success FROM accounts WHERE id = a), 0),
			(SELECT count(*) FROM deliveries WHERE account = a AND open),
			(SELECT count(*) FROM messages WHERE account = a AND phase IN (?2, ?3)),
			(SELECT count(*) FROM messages WHERE account = a AND phase = ?2 AND missing = 0 AND landed <= ?4),
			(SELECT count(*) FROM messages WHERE account = a AND phase = ?2 AND missing = 0 AND landed > ?4)
		FROM (SELECT (SELECT id FROM accounts WHERE name = ?1) AS a)`,
		account, Landed, Deleted, due).Scan(&st.LastSuccess, &st.Open, &st.Fetched, &st.Waiting, &st.Kept)
	if err != nil {
		return st, wrap(s.path, "read the status", err)
	}
	if st.Schedule, err = s.Schedule(ctx, account); err != nil {
		return st, err
	}
	rows, err := s.read.QueryContext(ctx,
		"SELECT "+rowColumns+" FROM messages WHERE account = "+byName+" AND phase = ? ORDER BY uid", account, Refused)
	st.Refused, err = collect(rows, err, s.path, "read the status", scanRow)
	return st, err
}

// Accounts returns the names of all accounts that are remembered, sorted.
func (s *Store) Accounts(ctx context.Context) ([]string, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT name FROM accounts ORDER BY name")
	return collect(rows, err, s.path, "read the accounts", func(rows *sql.Rows) (name string, err error) {
		return name, rows.Scan(&name)
	})
}

// Forget drops all that is remembered of an account. Whatever of its mail is
// still on the server is new to the next poll.
func (s *Store) Forget(ctx context.Context, account string) error {
	return s.change(ctx, "forget the account", func(t *tx) error {
		for _, query := range []string{
			"DELETE FROM messages WHERE account = " + byName,
			"DELETE FROM polls WHERE account = " + byName,
			"DELETE FROM troubles WHERE account = " + byName,
			"DELETE FROM accounts WHERE name = ?",
		} {
			if err := t.exec(query, account); err != nil {
				return err
			}
		}
		return nil
	})
}
