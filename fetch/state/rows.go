package state

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// accountIDByName selects the id of the account whose name is ?1.
const accountIDByName = "(SELECT id FROM accounts WHERE name = ?1)"

// Rows returns all rows of an account, ordered by UID. Rows of deletions in doubt
// are returned as Undelete would leave them.
func (s *Store) Rows(ctx context.Context, account string) ([]Row, error) {
	// Counting is cheap, and saves growing a large result.
	var n int
	err := s.read.QueryRowContext(ctx, "SELECT count(*) FROM messages WHERE account = "+accountIDByName, account).Scan(&n)
	if err != nil || n == 0 {
		return nil, wrap(s.path, "count the rows", err)
	}
	rows, err := s.read.QueryContext(ctx,
		"SELECT "+rowColumns+" FROM messages WHERE account = "+accountIDByName+" ORDER BY uid", account)
	return appendRows(make([]Row, 0, n), rows, err, s.path, "read the rows", scanRow)
}

// RowsBetween returns, like Rows, the first limit rows of an account whose UIDs are at
// or above from and below before. An empty before sets no bound.
func (s *Store) RowsBetween(ctx context.Context, account, from, before string, limit int) ([]Row, error) {
	rows, err := s.read.QueryContext(ctx,
		"SELECT "+rowColumns+" FROM messages WHERE account = "+accountIDByName+" AND uid >= ? AND (? OR uid < ?) ORDER BY uid LIMIT ?",
		account, []byte(from), before == "", []byte(before), limit)
	return collectRows(rows, err, s.path, "read the rows", scanRow)
}

// rowColumns are the columns that scanRow reads. The last one is whether the deletion
// of a row is in doubt, as it is if it was noted at accounts.deleting. Most rows were
// not deleted, and need no look-up.
const rowColumns = "uid, phase, size, header, content, landed, deleted, missing, tries, next_try, reason, seen, " +
	"iif(deleted = 0, FALSE, deleted = (SELECT deleting FROM accounts WHERE id = account))"

func scanRow(rows *sql.Rows) (r Row, err error) {
	var uid, header, content sql.RawBytes
	var doubt bool
	err = rows.Scan(&uid, &r.Phase, &r.Size, &header, &content, &r.Landed, &r.Deleted, &r.Missing, &r.Tries, &r.NextTry, &r.Reason, &r.Seen, &doubt)
	if doubt && r.Phase == Deleted {
		r.Phase, r.Missing = Landed, r.Deleted
	}
	r.UID = string(uid)
	copy(r.Header[:], header)
	copy(r.Content[:], content)
	return r, err
}

// Landed returns the UIDs of an account's messages that landed in a sink.
func (s *Store) Landed(ctx context.Context, account, sink string) (map[string]bool, error) {
	rows, err := s.read.QueryContext(ctx,
		"SELECT uid FROM deliveries WHERE account = "+accountIDByName+" AND sink = ? AND landed IS NOT NULL", account, sink)
	uids, err := collectRows(rows, err, s.path, "read the deliveries", func(rows *sql.Rows) (uid []byte, err error) {
		err = rows.Scan(&uid)
		return uid, err
	})
	all := map[string]bool{}
	for _, uid := range uids {
		all[string(uid)] = true
	}
	return all, err
}

// Deliveries returns what became of a message in each sink it was promised
// for, in the order of the promises.
func (s *Store) Deliveries(ctx context.Context, account, uid string) ([]Delivery, error) {
	rows, err := s.read.QueryContext(ctx,
		"SELECT "+deliveryColumns+" FROM deliveries WHERE account = "+accountIDByName+" AND uid = ? ORDER BY id", account, []byte(uid))
	return collectRows(rows, err, s.path, "read the deliveries", func(rows *sql.Rows) (d Delivery, err error) {
		err = rows.Scan(d.scanTargets()...)
		return d, err
	})
}

// deliveryColumns are the columns that are scanned into Delivery.scanTargets.
const deliveryColumns = "sink, token, iif(landed IS NULL, '', place), promised, open, coalesce(landed, 0)"

func (d *Delivery) scanTargets() []any {
	return []any{&d.Sink, &d.Token, &d.Where, &d.Promised, &d.Open, &d.Landed}
}

// Refuse notes failed attempts at messages. A row that is Promised, Landed, Deleted
// or Adopted keeps its phase, size and digests, but the attempt is counted.
func (s *Store) Refuse(ctx context.Context, account string, rs []Refusal) error {
	return changeEach(ctx, s, account, "note refusals", rs, func(t *tx, account int64, r Refusal) error {
		// Within DO UPDATE a bare column has its old value.
		return t.exec(`
			INSERT INTO messages (account, uid, phase, size, header, content, tries, next_try, reason, seen)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8, unixepoch())
			ON CONFLICT DO UPDATE SET
				phase   = iif(phase IN (?9, ?10, ?11, ?12), phase, ?3),
				size    = iif(phase = ?3, excluded.size, size),
				header  = iif(phase = ?3, coalesce(excluded.header, header), header),
				content = iif(phase = ?3, coalesce(excluded.content, content), content),
				tries = tries + 1, next_try = excluded.next_try, reason = excluded.reason`,
			account, []byte(r.UID), Refused, r.Size, nullableSum(r.Header), nullableSum(r.Content), r.NextTry, r.Reason,
			Landed, Deleted, Adopted, Promised)
	})
}

// isRefused is true of rows whose messages could not be delivered: those that are
// Refused, and those that are Promised without an open promise and were refused before
// or have landed in some sinks. Once their pause is over, messages that the server no
// longer lists do not count. It is also true of rows whose messages could not be
// compared with what was delivered, during their pause.
var isRefused = fmt.Sprintf(`(%s AND next_try > unixepoch()
	OR (missing = 0 OR next_try > unixepoch()) AND (phase = %d OR phase = %d
	AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.account = messages.account AND d.uid = messages.uid AND open)
	AND (tries > 0 OR EXISTS (SELECT 1 FROM deliveries d WHERE d.account = messages.account AND d.uid = messages.uid AND landed IS NOT NULL))))`,
	awaitsComparison, Refused, Promised)

// awaitsComparison is true of rows whose messages are to be compared with what was
// delivered or adopted, after a comparison has failed.
var awaitsComparison = fmt.Sprintf(`(phase IN (%d, %d) OR phase = %d AND missing <> 0) AND tries > 0`, Deleted, Adopted, Landed)

// Retry ends the pauses of refused messages, or of all that the account has if uids is
// empty, and returns how many pauses it ended. The messages are due at the time at, in
// Unix seconds, and their tries start from 0. Retry also ends the pauses of messages
// that are to be compared with what was delivered or adopted, but keeps their tries:
// a message without any would cast doubt on others again.
func (s *Store) Retry(ctx context.Context, account string, at int64, uids []string) (n int64, err error) {
	endPauses := `UPDATE messages SET tries = iif(phase IN (?3, ?4), 0, tries), next_try = ?1 WHERE account = ?2
		AND ((phase = ?3 OR phase = ?4 AND tries > 0) AND next_try > 0
			OR ` + awaitsComparison + ` AND next_try > ?1)`
	err = s.changeRows(ctx, account, "end the pauses", func(t *tx, id int64) (err error) {
		args := []any{at, id, Refused, Promised}
		if len(uids) == 0 {
			n, err = t.update(endPauses, args...)
			return err
		}
		return forChunks(uids, func(uids []string) error {
			ended, err := t.update(endPauses+" AND uid IN ("+placeholders("?", len(uids))+")", appendUIDs(slices.Clip(args), uids)...)
			n += ended
			return err
		})
	})
	return n, err
}

// changeEach calls f in one transaction for each of the items, which concern the rows
// of an account. Without items it writes nothing.
func changeEach[T any](ctx context.Context, s *Store, account, op string, items []T,
	f func(t *tx, account int64, item T) error) error {
	return changeChunks(ctx, s, account, op, items, func(t *tx, account int64, items []T) error {
		for _, item := range items {
			if err := f(t, account, item); err != nil {
				return err
			}
		}
		return nil
	})
}

// changeChunks is like changeEach for an f that takes several items in one statement.
func changeChunks[T any](ctx context.Context, s *Store, account, op string, items []T,
	f func(t *tx, account int64, items []T) error) error {
	if len(items) == 0 {
		return nil
	}
	return s.changeRows(ctx, account, op, func(t *tx, id int64) error {
		return forChunks(items, func(items []T) error { return f(t, id, items) })
	})
}

// forChunks calls f with all items, 64, 16, 4 or 1 at a time. Few sizes keep down the
// number of prepared statements.
func forChunks[T any](items []T, f func(items []T) error) error {
	for n := 64; len(items) > 0; n /= 4 {
		for ; len(items) >= n; items = items[n:] {
			if err := f(items[:n]); err != nil {
				return err
			}
		}
	}
	return nil
}

// appendUIDs appends unique-ids to the arguments of a statement, as blobs.
func appendUIDs(args []any, uids []string) []any {
	for _, uid := range uids {
		args = append(args, []byte(uid))
	}
	return args
}

// placeholders returns group, such as "?" or "(?, ?)", n times with commas in between.
func placeholders(group string, n int) string {
	return group + strings.Repeat(", "+group, n-1)
}

// changeRows is like change, for an f that changes rows of the account, which it is given
// by id. Any such change ends the account's Rest.
func (s *Store) changeRows(ctx context.Context, account, op string, f func(t *tx, id int64) error) error {
	return s.change(ctx, op, func(t *tx) error {
		id, err := t.accountIDForChange(account)
		if err != nil {
			return err
		}
		return f(t, id)
	})
}

// accountIDForChange is like accountID, and ends the account's Rest, which any change of
// its rows makes void.
func (t *tx) accountIDForChange(name string) (id int64, err error) {
	if id, err = t.accountID(name); err != nil {
		return id, err
	}
	return id, t.exec("UPDATE accounts SET rest = NULL, rest_until = 0 WHERE id = ? AND rest IS NOT NULL", id)
}

// accountID returns the id of an account, and adds the account if it is new.
func (t *tx) accountID(name string) (id int64, err error) {
	err = t.queryValue(&id, "SELECT id FROM accounts WHERE name = ?", name)
	if err == sql.ErrNoRows {
		err = t.queryValue(&id, "INSERT INTO accounts (name) VALUES (?) RETURNING id", name)
	}
	return id, err
}

// nullableSum returns a Sum as it is stored: the zero Sum is NULL.
func nullableSum(s Sum) []byte {
	if s.IsZero() {
		return nil
	}
	return s[:]
}

// collectRows reads the whole result of a query and closes it. err is that of the query.
func collectRows[T any](rows *sql.Rows, err error, path, op string, scan func(*sql.Rows) (T, error)) ([]T, error) {
	return appendRows[T](nil, rows, err, path, op, scan)
}

// appendRows is like collectRows, and appends to all.
func appendRows[T any](all []T, rows *sql.Rows, err error, path, op string, scan func(*sql.Rows) (T, error)) ([]T, error) {
	if err != nil {
		return nil, wrap(path, op, err)
	}
	defer rows.Close()
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, wrap(path, op, err)
		}
		all = append(all, v)
	}
	if err := rows.Err(); err != nil {
		return nil, wrap(path, op, err)
	}
	return all, nil
}
