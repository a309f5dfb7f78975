package state

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Memory is all that is remembered of an account.
type Memory struct {
	Account string
	// LastSuccess is when the latest poll that failed in nothing ended, in
	// Unix seconds; 0 is never.
	LastSuccess int64
	// Maildrop is as in Standing.
	Maildrop string
	// Messages are in the order of their UIDs, Polls and Days in that of time.
	Messages []Message
	Polls    []Poll
	Days     []Day
}

// Message is a row and what became of its message in each sink.
type Message struct {
	Row
	// Deliveries are in the order of the promises.
	Deliveries []Delivery
}

// Recall returns all that is remembered of an account at one moment. Of one
// that was never seen that is nothing.
func (s *Store) Recall(ctx context.Context, account string) (m Memory, err error) {
	m.Account = account
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return m, wrap(s.path, "read the account", err)
	}
	defer tx.Rollback()
	err = tx.QueryRowContext(ctx, "SELECT last_success, maildrop FROM accounts WHERE name = ?", account).
		Scan(&m.LastSuccess, &m.Maildrop)
	if errors.Is(err, sql.ErrNoRows) {
		return m, nil
	} else if err != nil {
		return m, wrap(s.path, "read the account", err)
	}

	rows, err := tx.QueryContext(ctx, "SELECT "+rowColumns+" FROM messages WHERE account = "+accountIDByName+" ORDER BY uid", account)
	m.Messages, err = collectRows(rows, err, s.path, "read the rows", func(rows *sql.Rows) (Message, error) {
		row, err := scanRow(rows)
		return Message{Row: row}, err
	})
	if err != nil {
		return m, err
	}
	// Both are in the order of the UIDs.
	next := 0
	rows, err = tx.QueryContext(ctx, "SELECT uid, "+deliveryColumns+" FROM deliveries WHERE account = "+accountIDByName+" ORDER BY uid, id", account)
	_, err = collectRows(rows, err, s.path, "read the deliveries", func(rows *sql.Rows) (none struct{}, err error) {
		var uid []byte
		var d Delivery
		if err := rows.Scan(append([]any{&uid}, d.scanTargets()...)...); err != nil {
			return none, err
		}
		for m.Messages[next].UID != string(uid) {
			next++
		}
		m.Messages[next].Deliveries = append(m.Messages[next].Deliveries, d)
		return none, nil
	})
	if err != nil {
		return m, err
	}
	rows, err = tx.QueryContext(ctx, "SELECT "+pollColumns+" FROM polls WHERE account = "+accountIDByName+" ORDER BY seq", account)
	if m.Polls, err = collectRows(rows, err, s.path, "read the polls", scanPoll); err != nil {
		return m, err
	}
	rows, err = tx.QueryContext(ctx, "SELECT "+dayColumns+" FROM days WHERE account = "+accountIDByName+" ORDER BY day", account)
	m.Days, err = collectRows(rows, err, s.path, "read the days", scanDay)
	return m, err
}

// Relearn adds to what is remembered of accounts, all or nothing, and returns
// how many messages were added. A message of which there is a row stays as it
// is, and so do the polls of an account that has any, its days and its maildrop: what
// is added from another one is in doubt, since unique-ids are good for one alone.
//
// Promises that were open when ms were recalled are withdrawn: where a sink
// had them staged, there may be nothing on this machine, and a sink that looks
// for a file in vain may take it for one that was read and moved. So such a
// message is fetched again.
func (s *Store) Relearn(ctx context.Context, ms []Memory) (added int, err error) {
	err = s.change(ctx, "import accounts", func(t *tx) error {
		added = 0
		for _, m := range ms {
			n, err := t.importAccount(m)
			if err != nil {
				return err
			}
			added += n
		}
		return nil
	})
	return added, err
}

func (t *tx) importAccount(m Memory) (added int, err error) {
	id, err := t.account(m.Account)
	if err != nil {
		return 0, err
	}
	if err := t.exec("UPDATE accounts SET last_success = max(last_success, ?), maildrop = iif(maildrop = '', ?, maildrop) WHERE id = ?",
		m.LastSuccess, m.Maildrop, id); err != nil {
		return 0, err
	}
	var here string
	if err := t.queryValue(&here, "SELECT maildrop FROM accounts WHERE id = ?", id); err != nil {
		return 0, err
	}
	now := time.Now().Unix()
	for _, msg := range m.Messages {
		if here != m.Maildrop && msg.Phase != Deleted && msg.Missing == 0 {
			msg.Missing = now // nobody knows whether it is listed here
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
	var polls int
	if err := t.queryValue(&polls, "SELECT count(*) FROM polls WHERE account = ?", id); err != nil || polls > 0 {
		return added, err
	}
	for i, p := range m.Polls {
		err := t.exec(`
			INSERT INTO polls (account, seq, started, ended, result, error, hint, fetched, deleted, listed, bytes)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			id, i+1, p.Started, p.Ended, p.Result, p.Error, p.Hint, p.Fetched, p.Deleted, p.Listed, p.Bytes)
		if err != nil {
			return added, err
		}
	}
	for _, d := range m.Days {
		err := t.exec("INSERT OR IGNORE INTO days (account, day, polls, failed, fetched, bytes) VALUES (?, ?, ?, ?, ?, ?)",
			id, d.Day, d.Polls, d.Failed, d.Fetched, d.Bytes)
		if err != nil {
			return added, err
		}
	}
	return added, nil
}

// importDeliveries adds the deliveries of a message whose row was added.
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
