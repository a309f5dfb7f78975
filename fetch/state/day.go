package state

import (
	"context"
	"database/sql"
	"time"
)

// maxDays is how many days are kept of an account: more than a year.
const maxDays = 400

// Day sums up the polls of an account that ended on one day.
type Day struct {
	// Day is the number of the day, as DayOf returns it.
	Day int64
	// Polls counts the polls, and Failed those that ended with an error.
	// Fetched messages landed, of Octets in all.
	Polls, Failed, Fetched int
	Octets                 int64
}

// DayOf returns the number of days from 1970-01-01 to the date of t in its location.
func DayOf(t time.Time) int64 {
	year, month, day := t.Date()
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / 86400
}

// addToDay adds a poll to its day.
func (t *tx) addToDay(account int64, p Poll) error {
	day := DayOf(time.Unix(p.Ended, 0))
	err := t.exec(`
		INSERT INTO days (account, day, polls, failed, fetched, bytes) VALUES (?, ?, 1, ?, ?, ?)
		ON CONFLICT DO UPDATE SET polls = polls + 1, failed = failed + excluded.failed,
			fetched = fetched + excluded.fetched, bytes = bytes + excluded.bytes`,
		account, day, p.Error != "", p.Fetched, p.Octets)
	if err != nil {
		return err
	}
	return t.exec("DELETE FROM days WHERE account = ? AND day <= ?", account, day-maxDays)
}

// Days returns the days of an account from since on, in order. Days without a poll
// are left out.
func (s *Store) Days(ctx context.Context, account string, since int64) ([]Day, error) {
	rows, err := s.read.QueryContext(ctx, `
		SELECT `+dayColumns+` FROM days WHERE account = `+accountIDByName+` AND day >= ? ORDER BY day`, account, since)
	return collectRows(rows, err, s.path, "read the days", scanDay)
}

// dayColumns are the columns that scanDay reads.
const dayColumns = "day, polls, failed, fetched, bytes"

func scanDay(rows *sql.Rows) (d Day, err error) {
	err = rows.Scan(&d.Day, &d.Polls, &d.Failed, &d.Fetched, &d.Octets)
	return d, err
}
