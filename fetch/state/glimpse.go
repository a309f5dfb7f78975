package state

import (
	"context"
	"database/sql"
	"strings"
)

// Glimpse is what a poll must know of a row to see that there is nothing to do
// about it. It is read in less than half the time that the row takes.
type Glimpse struct {
	UID  string
	Mood Mood
	// Since is when the message landed, where Mood is Resting, and where it is
	// Gone since when the server lacks it, in Unix seconds.
	Since int64
}

// Mood is what a row is waiting for.
type Mood uint8

const (
	// Restless rows are in none of the other moods.
	Restless Mood = iota
	// Resting messages have landed, and the server had them when last asked.
	Resting
	// Strange messages are Adopted, and the server had them when last asked.
	Strange
	// Gone messages were Deleted, or the server had them no more when last
	// asked.
	Gone
)

// Glimpse returns the row at a glance.
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

// Glimpses returns all rows of an account at a glance, in the order of their
// UIDs.
func (s *Store) Glimpses(ctx context.Context, account string) ([]Glimpse, error) {
	// A mood and a time in one number: each column costs as much as a row.
	rows, err := s.read.QueryContext(ctx, `
		SELECT uid, CASE
			WHEN phase = ?2 OR missing <> 0 THEN max(missing, deleted) << 2 | ?3
			WHEN phase = ?4 THEN landed << 2 | ?5
			WHEN phase = ?6 THEN ?7
			ELSE ?8 END
		FROM messages WHERE account = `+accountIDByName+` ORDER BY uid`,
		account, Deleted, Gone, Landed, Resting, Adopted, Strange, Restless)
	var uids strings.Builder // one allocation for many
	var uid sql.RawBytes
	var word int64
	return collectRows(rows, err, s.path, "read the rows", func(rows *sql.Rows) (g Glimpse, err error) {
		if err := rows.Scan(&uid, &word); err != nil {
			return g, err
		}
		if uids.Cap()-uids.Len() < len(uid) {
			next := min(max(2*uids.Cap(), 1<<10), 64<<10) // most accounts have few
			uids = strings.Builder{}
			uids.Grow(max(len(uid), next))
		}
		start := uids.Len()
		uids.Write(uid)
		return Glimpse{UID: uids.String()[start:], Mood: Mood(word & 3), Since: word >> 2}, nil
	})
}
