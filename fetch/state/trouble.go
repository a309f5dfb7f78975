package state

import (
	"context"
	"database/sql"
)

// Trouble records the alerts that were sent about an account that fails. Times are Unix
// seconds.
type Trouble struct {
	// Since is when the first poll failed, Alerted when the last alert about
	// that was sent.
	Since, Alerted int64
	// Level is how serious it is according to the alerts, on the caller's scale.
	Level int
	// Sink is set if a sink caused the trouble.
	Sink bool
	// Causes lists the causes that were in alerts, in a form that the caller
	// chooses.
	Causes string
	// Warned is when the last alert was sent that the postpoll command fails,
	// Unfiltered that the filter fails, and Undeleted that the server does not
	// delete mail. Each is 0 if there is nothing to warn of.
	Warned, Unfiltered, Undeleted int64
}

// Health is how an account was doing when it was last polled.
type Health struct {
	// LastSuccess is when the latest poll without any error ended, in Unix
	// seconds; 0 is never.
	LastSuccess int64
	// Trouble is zero if no alert was sent.
	Trouble Trouble
}

// Health returns the health of all accounts that are remembered, by name.
func (s *Store) Health(ctx context.Context) (map[string]Health, error) { return s.health(ctx, "") }

// HealthOf returns the health of an account, the zero Health if it is unknown.
func (s *Store) HealthOf(ctx context.Context, account string) (Health, error) {
	all, err := s.health(ctx, "WHERE name = ?", account)
	return all[account], err
}

func (s *Store) health(ctx context.Context, where string, args ...any) (map[string]Health, error) {
	const op = "read the accounts"
	rows, err := s.read.QueryContext(ctx, `
		SELECT name, last_success, coalesce(since, 0), coalesce(told, 0), coalesce(level, 0), coalesce(sink, 0),
			coalesce(warned, 0), coalesce(unfiltered, 0), coalesce(undeleted, 0), coalesce(causes, '')
		FROM accounts LEFT JOIN troubles ON account = id `+where, args...)
	all := map[string]Health{}
	_, err = collectRows(rows, err, s.path, op, func(rows *sql.Rows) (name string, err error) {
		var h Health
		t := &h.Trouble
		err = rows.Scan(&name, &h.LastSuccess, &t.Since, &t.Alerted, &t.Level, &t.Sink, &t.Warned, &t.Unfiltered, &t.Undeleted, &t.Causes)
		all[name] = h
		return name, err
	})
	return all, err
}

// SaveTrouble records the alerts that were sent about an account. The zero Trouble means
// that it works again.
func (s *Store) SaveTrouble(ctx context.Context, account string, t Trouble) error {
	return s.change(ctx, "note the trouble", func(tx *tx) error {
		id, err := tx.accountID(account)
		if err != nil {
			return err
		}
		if t == (Trouble{}) {
			return tx.exec("DELETE FROM troubles WHERE account = ?", id)
		}
		return tx.exec("INSERT OR REPLACE INTO troubles (account, since, told, level, sink, warned, unfiltered, undeleted, causes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
			id, t.Since, t.Alerted, t.Level, t.Sink, t.Warned, t.Unfiltered, t.Undeleted, t.Causes)
	})
}
