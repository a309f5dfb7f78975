package state

import (
	"context"
	"database/sql"
	"strings"
)

// RowState is what a poll must know of a row to see that there is nothing to do
// about it. Reading it takes less than half the time of reading the row.
type RowState struct {
	UID  string
	Kind RowKind
	// Since, in Unix seconds, is when the message of a RowLanded landed, or since
	// when the server lacks that of a RowGone.
	Since int64
}

// RowKind is the kind of a RowState.
type RowKind uint8

const (
	// RowOther is any row that is none of the others: a poll must read it.
	RowOther RowKind = iota
	// RowLanded is a row that is Landed. The server had the message when last asked.
	RowLanded
	// RowAdopted is a row that is Adopted. The server had the message when last
	// asked.
	RowAdopted
	// RowGone is a row that is Deleted, or whose message the server did not have
	// when last asked.
	RowGone
)

// State returns the RowState of the row, as RowStates finds it by SQL. It is for tests, which
// compare the two.
func (r *Row) State() RowState {
	st := RowState{UID: r.UID}
	switch {
	case r.Phase == Deleted || r.Missing != 0:
		st.Kind, st.Since = RowGone, max(r.Missing, r.Deleted)
	case r.Phase == Landed:
		st.Kind, st.Since = RowLanded, r.Landed
	case r.Phase == Adopted:
		st.Kind = RowAdopted
	}
	return st
}

// RowStates returns the RowStates of all rows of an account, ordered by UID.
func (s *Store) RowStates(ctx context.Context, account string) ([]RowState, error) {
	// Kind and time are packed into one number, since each column costs about as
	// much as a row.
	rows, err := s.read.QueryContext(ctx, `
		SELECT uid, CASE
			WHEN phase = ?2 OR missing <> 0 THEN max(missing, deleted) << 2 | ?3
			WHEN phase = ?4 THEN landed << 2 | ?5
			WHEN phase = ?6 THEN ?7
			ELSE ?8 END
		FROM messages WHERE account = `+accountIDByName+` ORDER BY uid`,
		account, Deleted, RowGone, Landed, RowLanded, Adopted, RowAdopted, RowOther)
	var uids strings.Builder // shared by many UIDs, to save allocations
	var uid sql.RawBytes
	var packed int64
	return collectRows(rows, err, s.path, "read the rows", func(rows *sql.Rows) (st RowState, err error) {
		if err := rows.Scan(&uid, &packed); err != nil {
			return st, err
		}
		if uids.Cap()-uids.Len() < len(uid) {
			next := min(max(2*uids.Cap(), 1<<10), 64<<10) // most accounts have few rows
			uids = strings.Builder{}
			uids.Grow(max(len(uid), next))
		}
		start := uids.Len()
		uids.Write(uid)
		return RowState{UID: uids.String()[start:], Kind: RowKind(packed & 3), Since: packed >> 2}, nil
	})
}
