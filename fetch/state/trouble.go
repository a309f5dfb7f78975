package state

import (
	"context"
	"database/sql"
)

// Trouble is what a person was told of an account that does not do well. Times
// are Unix seconds.
type Trouble struct {
	// Since is when the first poll failed, Told when the person was last told.
	Since, Told int64
	// Level is how grave it was said to be, by a scale of the caller's.
	Level int
	// Sink is set if it was a sink's trouble.
	Sink bool
	// Causes are those that need a person and were told of, in words of the caller's.
	Causes string
	// Warned is when the person was last told that a command after the polls
	// fails, Unfiltered that the filter does, Undeleted that the server
	// would not delete mail; 0 if that is over, or never was.
	Warned, Unfiltered, Undeleted int64
}

// Health is how an account was doing when it was last polled.
type Health struct {
	// LastSuccess is when the latest poll that failed in nothing ended, in
	// Unix seconds; 0 is never.
	LastSuccess int64
	// Trouble is what a person was told, zero if it was nothing.
	Trouble Trouble
}

// Health returns how all accounts that are remembered were doing, by name.
func (s *Store) Health(ctx context.Context) (map[string]Health, error) { return s.health(ctx, "") }

// HealthOf returns how an account was doing, the zero Health if it is not
// remembered.
func (s *Store) HealthOf(ctx context.Context, account string) (Health, error) {
	all, err := s.health(ctx, "WHERE name = ?", account)
	return all[account], err
}

func (s *Store) health(ctx context.Context, where string, args ...any) (map[string]Health, error) {
	const op = "read the accounts"
	rows, err := s.read.QueryContext(ctx, `
		SELECT name, last_success, coalesce(since, 0), coalesce(told, 0), coalesce(level, 0), coalesce(sink, 0), coalesce(warned, 0), coalesce(unfiltered, 0), coalesce(undeleted, 0), coalesce(causes, '')
		FROM accounts LEFT JOIN troubles ON account = id `+where, args...)
	all := map[string]Health{}
	_, err = collectRows(rows, err, s.path, op, func(rows *sql.Rows) (name string, err error) {
		var h Health
		err = rows.Scan(&name, &h.LastSuccess, &h.Trouble.Since, &h.Trouble.Told, &h.Trouble.Level, &h.Trouble.Sink, &h.Trouble.Warned, &h.Trouble.Unfiltered, &h.Trouble.Undeleted, &h.Trouble.Causes)
		all[name] = h
		return name, err
	})
	return all, err
}

// SaveTrouble remembers what a person was told of an account. The zero Trouble
// says that it works again.
func (s *Store) SaveTrouble(ctx context.Context, account string, t Trouble) error {
	return s.change(ctx, "note the trouble", func(x *tx) error {
		id, err := x.accountID(account)
		if err != nil {
			return err
		}
		if t == (Trouble{}) {
			return x.exec("DELETE FROM troubles WHERE account = ?", id)
		}
		return x.exec("INSERT OR REPLACE INTO troubles (account, since, told, level, sink, warned, unfiltered, undeleted, causes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
			id, t.Since, t.Told, t.Level, t.Sink, t.Warned, t.Unfiltered, t.Undeleted, t.Causes)
	})
}
