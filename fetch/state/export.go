package state

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Export is all that is remembered of an account.
type Export struct {
	Account string
	// LastSuccess is when the latest poll without any error ended, in Unix
	// seconds; 0 is never.
	LastSuccess int64
	// Maildrop is Standing.Maildrop.
	Maildrop string
	// Messages are ordered by UID, Polls and Days by time.
	Messages []Message
	Polls    []Poll
	Days     []Day
}

// Message is a row with the deliveries of its message.
type Message struct {
	Row
	// Deliveries are in the order of the promises.
	Deliveries []Delivery
}

// Export returns a consistent snapshot of what is remembered of an account. That of an
// unknown account holds only its name.
func (s *Store) Export(ctx context.Context, account string) (e Export, err error) {
	e.Account = account
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return e, wrap(s.path, "read the account", err)
	}
	defer tx.Rollback()
	err = tx.QueryRowContext(ctx, "SELECT last_success, maildrop FROM accounts WHERE name = ?", account).
		Scan(&e.LastSuccess, &e.Maildrop)
	if errors.Is(err, sql.ErrNoRows) {
		return e, nil
	} else if err != nil {
		return e, wrap(s.path, "read the account", err)
	}

	rows, err := tx.QueryContext(ctx, "SELECT "+rowColumns+" FROM messages WHERE account = "+accountIDByName+" ORDER BY uid", account)
	e.Messages, err = collectRows(rows, err, s.path, "read the rows", func(rows *sql.Rows) (Message, error) {
		row, err := scanRow(rows)
		return Message{Row: row}, err
	})
	if err != nil {
		return e, err
	}
	next := 0 // in e.Messages, which are in the same order
	rows, err = tx.QueryContext(ctx, "SELECT uid, "+deliveryColumns+" FROM deliveries WHERE account = "+accountIDByName+" ORDER BY uid, id", account)
	_, err = collectRows(rows, err, s.path, "read the deliveries", func(rows *sql.Rows) (none struct{}, err error) {
		var uid []byte
		var d Delivery
		if err := rows.Scan(append([]any{&uid}, d.scanTargets()...)...); err != nil {
			return none, err
		}
		for e.Messages[next].UID != string(uid) {
			next++
		}
		e.Messages[next].Deliveries = append(e.Messages[next].Deliveries, d)
		return none, nil
	})
	if err != nil {
		return e, err
	}
	rows, err = tx.QueryContext(ctx, "SELECT "+pollColumns+" FROM polls WHERE account = "+accountIDByName+" ORDER BY seq", account)
	if e.Polls, err = collectRows(rows, err, s.path, "read the polls", scanPoll); err != nil {
		return e, err
	}
	rows, err = tx.QueryContext(ctx, "SELECT "+dayColumns+" FROM days WHERE account = "+accountIDByName+" ORDER BY day", account)
	e.Days, err = collectRows(rows, err, s.path, "read the days", scanDay)
	return e, err
}

// Import imports accounts, all or nothing, and returns how many messages it added.
// It changes no row that exists, adds polls and days only to an account without
// polls, and keeps an account's maildrop. If the imported maildrop is a different
// one, the messages become Missing, since a unique-id is valid in one maildrop only.
//
// Promises that were open in exports are withdrawn, so that their messages are fetched
// again. What the sink had staged may not be on this machine, and a sink that does not
// find its file may conclude that it was delivered and moved.
func (s *Store) Import(ctx context.Context, exports []Export) (added int, err error) {
	err = s.change(ctx, "import accounts", func(t *tx) error {
		added = 0
		for _, e := range exports {
			n, err := t.importAccount(e)
			if err != nil {
				return err
			}
			added += n
		}
		return nil
	})
	return added, err
}

func (t *tx) importAccount(e Export) (added int, err error) {
	id, err := t.accountIDForChange(e.Account)
	if err != nil {
		return 0, err
	}
	if err := t.exec("UPDATE accounts SET last_success = max(last_success, ?), maildrop = iif(maildrop = '', ?, maildrop) WHERE id = ?",
		e.LastSuccess, e.Maildrop, id); err != nil {
		return 0, err
	}
	var maildrop string
	if err := t.queryValue(&maildrop, "SELECT maildrop FROM accounts WHERE id = ?", id); err != nil {
		return 0, err
	}
	now := time.Now().Unix()
	for _, msg := range e.Messages {
		if maildrop != e.Maildrop && msg.Phase != Deleted && msg.Missing == 0 {
			msg.Missing = now
		}
		n, err := t.update(`
			INSERT INTO messages (account, uid, phase, size, header, content, landed, deleted, missing, tries, next_try, reason, seen)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			id, []byte(msg.UID), msg.Phase, msg.Size, nullableSum(msg.Header), nullableSum(msg.Content), msg.Landed, msg.Deleted,
			msg.Missing, msg.Tries, msg.NextTry, msg.Reason, msg.Seen)
		if err != nil {
			return 0, err
		}
		if n == 0 {
			continue
		}
		added++
		if err := t.importDeliveries(id, msg); err != nil {
			return 0, err
		}
	}
	return added, t.importPolls(id, e)
}

// importPolls adds the polls and days of an account that has no polls yet.
func (t *tx) importPolls(account int64, e Export) error {
	var polls int
	if err := t.queryValue(&polls, "SELECT count(*) FROM polls WHERE account = ?", account); err != nil || polls > 0 {
		return err
	}
	for i, p := range e.Polls {
		err := t.exec(`
			INSERT INTO polls (account, seq, started, ended, result, error, hint, fetched, deleted, listed, bytes)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			account, i+1, p.Started, p.Ended, p.Result, p.Error, p.Hint, p.Fetched, p.Deleted, p.Listed, p.Octets)
		if err != nil {
			return err
		}
	}
	for _, d := range e.Days {
		err := t.exec("INSERT OR IGNORE INTO days (account, day, polls, failed, fetched, bytes) VALUES (?, ?, ?, ?, ?, ?)",
			account, d.Day, d.Polls, d.Failed, d.Fetched, d.Octets)
		if err != nil {
			return err
		}
	}
	return nil
}

// importDeliveries adds the deliveries of a message that was added, and withdraws its
// open promises.
func (t *tx) importDeliveries(account int64, msg Message) error {
	for _, d := range msg.Deliveries {
		err := t.exec(`
			INSERT INTO deliveries (account, uid, sink, token, open, place, promised, landed) VALUES (?, ?, ?, ?, ?, ?, ?, nullif(?, 0))`,
			account, []byte(msg.UID), d.Sink, d.Token, d.Open, d.Where, d.Promised, d.Landed)
		if err != nil {
			return err
		}
	}
	for _, d := range msg.Deliveries {
		if !d.Open {
			continue
		}
		if err := t.retractPromise(account, Promise{UID: msg.UID, Sink: d.Sink}); err != nil {
			return err
		}
	}
	return nil
}
