package state

import (
	"context"
	"database/sql"
	"strings"
)

// Glimpse is what a poll must know of a row to see that there is nothing to do
// about it. Reading it takes less than half the time of reading the row.
type Glimpse struct {
	UID  string
	Mood Mood
	// Since, in Unix seconds, is when a Resting message landed, or since when
	// the server lacks one that is Gone.
	Since int64
}

// Mood is what a poll must know of a row's phase.
type Mood uint8

const (
	// Restless rows are all others: a poll must read them.
	Restless Mood = iota
	// Resting messages have landed, and the server had them when last asked.
	Resting
	// Strange messages are Adopted, and the server had them when last asked.
	Strange
	// Gone messages were Deleted, or the server did not have them when last
	// asked.
	Gone
)

// Glimpse returns the Glimpse of the row.
func (r *Row) Glimpse() Glimpse {
	g := Glimpse{UID: r.UID}
	switch {
	case r.Phase == Deleted || r.Missing != 0:
		g.Mood, g.Since = Gone, max(r.Missing, r.Deleted)
	case r.Phase == Landed:
		g.Mood, g.Since = Resting, r.Landed
	case r.Phase == Adopted:
		g.Mood = Strange
	}
	return g
}

// Glimpses returns the Glimpses of all rows of an account, ordered by UID.
func (s *Store) Glimpses(ctx context.Context, account string) ([]Glimpse, error) {
	// Mood and time are packed into one number, since each column costs about as
	// much as a row.
	rows, err := s.read.QueryContext(ctx, `
		SELECT uid, CASE
			WHEN phase = ?2 OR missing <> 0 THEN max(missing, deleted) << 2 | ?3
			WHEN phase = ?4 THEN landed << 2 | ?5
			WHEN phase = ?6 THEN ?7
			ELSE ?8 END
		FROM messages WHERE account = `+accountIDByName+` ORDER BY uid`,
		account, Deleted, Gone, Landed, Resting, Adopted, Strange, Restless)
	var uids strings.Builder // shared by many UIDs, to save allocations
	var uid sql.RawBytes
	var packed int64
	return collectRows(rows, err, s.path, "read the rows", func(rows *sql.Rows) (g Glimpse, err error) {
		if err := rows.Scan(&uid, &packed); err != nil {
			return g, err
		}
		if uids.Cap()-uids.Len() < len(uid) {
			next := min(max(2*uids.Cap(), 1<<10), 64<<10) // most accounts have few rows
			uids = strings.Builder{}
			uids.Grow(max(len(uid), next))
		}
		start := uids.Len()
		uids.Write(uid)
		return Glimpse{UID: uids.String()[start:], Mood: Mood(packed & 3), Since: packed >> 2}, nil
	})
}
