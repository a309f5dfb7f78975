package state

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Glimpse is what a poll must know of a row to see that there is nothing to do
// about it. It is read several times as fast as the row.
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
func (s *Store) Glimpses(ctx context.Context, account string) (all []Glimpse, err error) {
	conn, err := s.read.Conn(ctx)
	if err != nil {
		return nil, wrap(s.path, "read the rows", err)
	}
	defer conn.Close()
	// Below database/sql, whose conversions take most of the time.
	err = conn.Raw(func(c any) error {
		all, err = glimpses(ctx, c.(driver.QueryerContext), account)
		return err
	})
	return all, wrap(s.path, "read the rows", err)
}

func glimpses(ctx context.Context, db driver.QueryerContext, account string) (all []Glimpse, err error) {
	name := driver.NamedValue{Ordinal: 1, Value: account}
	// A mood and a time in one number: each column costs as much as a row.
	rows, err := db.QueryContext(ctx, fmt.Sprintf(`
		SELECT uid, CASE
			WHEN phase = %d OR missing <> 0 THEN max(missing, deleted) << 2 | %d
			WHEN phase = %d THEN landed << 2 | %d
			WHEN phase = %d THEN %d
			ELSE %d END
		FROM messages WHERE account = %s ORDER BY uid`,
		Deleted, Gone, Landed, Resting, Adopted, Strange, Restless, byName), []driver.NamedValue{name})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var uids strings.Builder // one allocation for many
	row := make([]driver.Value, 2)
	for {
		if err := rows.Next(row); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		uid, ok := row[0].([]byte)
		word, isWord := row[1].(int64)
		if !ok && row[0] != nil || !isWord {
			return nil, fmt.Errorf("a row holds %T and %T", row[0], row[1])
		}
		if uids.Cap()-uids.Len() < len(uid) {
			next := min(max(2*uids.Cap(), 1<<10), 64<<10) // most accounts have few
			uids = strings.Builder{}
			uids.Grow(max(len(uid), next))
		}
		start := uids.Len()
		uids.Write(uid)
		all = append(all, Glimpse{UID: uids.String()[start:], Mood: Mood(word & 3), Since: word >> 2})
	}
}
