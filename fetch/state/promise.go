package state

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	sqlite3 "modernc.org/sqlite/lib"
)

// openPromise selects the open promises of message ?2 of account ?1.
const openPromise = "(SELECT 1 FROM deliveries WHERE account = ?1 AND uid = ?2 AND open)"

// isOpen is true of open deliveries. That it repeats that they have not landed lets
// SQLite find those of an account by the index deliveries_owed.
const isOpen = "(open AND deliveries.landed IS NULL)"

// Promises returns the open promises of an account, in the order in which they were
// made.
func (s *Store) Promises(ctx context.Context, account string) ([]Promise, error) {
	rows, err := s.read.QueryContext(ctx, `
		SELECT uid, sink, token, place, size, header, content
		FROM deliveries JOIN messages USING (account, uid)
		WHERE account = `+accountIDByName+` AND `+isOpen+` ORDER BY id`, account)
	return collectRows(rows, err, s.path, "read the promises", func(rows *sql.Rows) (p Promise, err error) {
		var uid, header, content sql.RawBytes
		err = rows.Scan(&uid, &p.Sink, &p.Token, &p.Where, &p.Size, &header, &content)
		p.UID = string(uid)
		copy(p.Header[:], header)
		copy(p.Content[:], content)
		return p, err
	})
}

// Promise journals promises before their sinks commit. A message for several sinks
// must be promised for all of them before any of its landings is noted.
//
// If the row is Landed, Deleted or Adopted, the promise is of a new message with an
// old UID, and replaces the row and its deliveries. Otherwise it is a new attempt: sinks
// whose promises were withdrawn and that make no new one no longer have to get the
// message.
func (s *Store) Promise(ctx context.Context, account string, ps []Promise) error {
	return changeChunks(ctx, s, account, "journal promises", ps, (*tx).insertPromises)
}

func (t *tx) insertPromises(account int64, ps []Promise) error {
	messages, deliveries := make([]any, 0, 7*len(ps)), make([]any, 0, 5*len(ps))
	for _, p := range ps {
		uid := []byte(p.UID)
		messages = append(messages, account, uid, Promised, p.Size, nullableSum(p.Header), nullableSum(p.Content), p.Missing)
		deliveries = append(deliveries, account, uid, p.Sink, p.Token, p.Where)
	}
	insertMessages := "INSERT INTO messages (account, uid, phase, size, header, content, missing, seen) VALUES " +
		placeholders("(?, ?, ?, ?, ?, ?, ?, unixepoch())", len(ps))
	intoDeliveries := "INTO deliveries (account, uid, sink, token, place, promised) VALUES " +
		placeholders("(?, ?, ?, ?, ?, unixepoch())", len(ps))
	// Most messages have no row yet, and plain INSERTs are the fastest.
	err := t.exec(insertMessages, messages...)
	if err == nil {
		return t.exec("INSERT "+intoDeliveries, deliveries...)
	}
	if resultCode(err) != sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY {
		return err
	}
	if err := t.exec(insertMessages+" ON CONFLICT DO NOTHING", messages...); err != nil {
		return err
	}
	for _, p := range ps { // of rows that were just inserted, this changes nothing
		if err := t.promiseAgain(account, p); err != nil {
			return err
		}
	}
	return t.exec("INSERT OR REPLACE "+intoDeliveries, deliveries...)
}

// promiseAgain prepares the row of a message, which may be old, for a new promise.
func (t *tx) promiseAgain(account int64, p Promise) error {
	uid := []byte(p.UID)
	// If the landings of the old message stayed and the promise were withdrawn,
	// the new message would count as delivered.
	if err := t.exec("DELETE FROM messages WHERE account = ? AND uid = ? AND phase IN (?, ?, ?)",
		account, uid, Landed, Deleted, Adopted); err != nil {
		return err
	}
	if err := t.exec("DELETE FROM deliveries WHERE account = ? AND uid = ? AND NOT open AND landed IS NULL",
		account, uid); err != nil {
		return err
	}
	// The tries are kept, so that they go on if the promise is withdrawn.
	return t.exec(`
		INSERT INTO messages (account, uid, phase, size, header, content, missing, seen) VALUES (?, ?, ?, ?, ?, ?, ?, unixepoch())
		ON CONFLICT DO UPDATE SET phase = excluded.phase, size = excluded.size,
			header = excluded.header, content = excluded.content, missing = excluded.missing`,
		account, uid, Promised, p.Size, nullableSum(p.Header), nullableSum(p.Content), p.Missing)
}

// Land notes at the time at, in Unix seconds, that promised messages landed. A row
// becomes Landed once its message has landed in every sink that it was promised to,
// and its record of refusals is cleared. It becomes Refused if the promises of the
// other sinks were withdrawn. Messages that become Landed, and were not dropped, are
// Unreported until SavePoll counts them.
//
// A landing that was not promised is an error, and nothing of ls is noted. A landing
// may be noted more than once.
func (s *Store) Land(ctx context.Context, account string, at int64, ls []Landing) error {
	return changeChunks(ctx, s, account, "journal landings", ls, func(t *tx, account int64, ls []Landing) error {
		return t.recordLandings(account, at, ls)
	})
}

func (t *tx) recordLandings(account, at int64, ls []Landing) error {
	var uids []any
	for _, l := range ls {
		uids = append(uids, []byte(l.UID))
	}
	if err := t.updateDeliveries(account, at, ls, uids); err != nil {
		return err
	}
	// Usually no delivery of the account is outstanding, and the check for each
	// message can be left out.
	var outstanding bool
	if err := t.queryValue(&outstanding, "SELECT EXISTS (SELECT 1 FROM deliveries WHERE account = ? AND landed IS NULL)", account); err != nil {
		return err
	}
	landedEverywhere := ""
	if outstanding {
		landedEverywhere = "AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.account = ?1 AND d.uid = messages.uid AND landed IS NULL)"
	}
	n, octets, err := t.updateReturningSizes(`
		UPDATE messages SET phase = ?2, landed = ?3, tries = 0, next_try = 0, reason = ''
		WHERE account = ?1 AND phase = ?4 AND uid IN (`+placeholders("?", len(ls))+`) `+landedEverywhere+`
		RETURNING size`,
		append([]any{account, Landed, at, Promised}, uids...)...)
	if err == nil && n > 0 && !slices.ContainsFunc(ls, func(l Landing) bool { return l.Dropped }) {
		err = t.addUnreported(account, n, octets)
	}
	if err != nil || n == len(ls) {
		return err
	}
	for _, l := range ls {
		if err := t.refuseIfPartlyLanded(account, []byte(l.UID)); err != nil {
			return err
		}
	}
	return nil
}

// updateDeliveries marks deliveries as landed. Usually all are of one sink and landed
// where their promises said, which takes a single statement.
func (t *tx) updateDeliveries(account, at int64, ls []Landing, uids []any) error {
	sink := ls[0].Sink
	if !slices.ContainsFunc(ls, func(l Landing) bool { return l.Sink != sink || l.Where != "" }) {
		n, err := t.update(`
			UPDATE deliveries SET open = FALSE, landed = ?2
			WHERE account = ?1 AND sink = ?3 AND (open OR landed IS NOT NULL) AND uid IN (`+placeholders("?", len(ls))+`)`,
			append([]any{account, at, sink}, uids...)...)
		if err != nil || n == int64(len(ls)) {
			return err
		}
	}
	for i, l := range ls {
		n, err := t.update(`
			UPDATE deliveries SET open = FALSE, landed = ?2, place = iif(?5 = '', place, ?5)
			WHERE account = ?1 AND uid = ?3 AND sink = ?4 AND (open OR landed IS NOT NULL)`,
			account, at, uids[i], l.Sink, l.Where)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("message %q was never promised for sink %q", l.UID, l.Sink)
		}
	}
	return nil
}

// refuseIfPartlyLanded makes a message Refused, and so due for another try, if it has
// landed in some sinks but not in others and has no open promise.
func (t *tx) refuseIfPartlyLanded(account int64, uid []byte) error {
	return t.exec(`
		UPDATE messages SET phase = ?3 WHERE account = ?1 AND uid = ?2 AND phase = ?4
		AND EXISTS (SELECT 1 FROM deliveries WHERE account = ?1 AND uid = ?2 AND landed IS NOT NULL)
		AND EXISTS (SELECT 1 FROM deliveries WHERE account = ?1 AND uid = ?2 AND landed IS NULL)
		AND NOT EXISTS `+openPromise,
		account, uid, Refused, Promised)
}

// Retract withdraws promises that were not kept. A row without any other promise or
// landing is deleted, so that the message is fetched again, or becomes Refused if it
// was refused before. A row that has landed in another sink becomes Refused, since its
// message must not be deleted from the server yet.
func (s *Store) Retract(ctx context.Context, account string, ps []Promise) error {
	return changeEach(ctx, s, account, "withdraw promises", ps, (*tx).retractPromise)
}

func (t *tx) retractPromise(account int64, p Promise) error {
	uid := []byte(p.UID)
	if err := t.withdrawPromise(account, p); err != nil {
		return err
	}
	if err := t.exec(`
		UPDATE messages SET phase = ?3
		WHERE account = ?1 AND uid = ?2 AND phase = ?4 AND reason <> '' AND NOT EXISTS `+openPromise,
		account, uid, Refused, Promised); err != nil {
		return err
	}
	if err := t.refuseIfPartlyLanded(account, uid); err != nil {
		return err
	}
	return t.exec(`
		DELETE FROM messages WHERE account = ?1 AND uid = ?2 AND phase = ?3
		AND NOT EXISTS (SELECT 1 FROM deliveries WHERE account = ?1 AND uid = ?2 AND (open OR landed IS NOT NULL))`,
		account, uid, Promised)
}

// Suspect withdraws promises that were not kept, where any of the messages may have
// made the sink fail. Their rows stay Promised, and are due at the time at, in Unix
// seconds, or when an earlier pause ends, if that is later. why becomes the Reason of
// messages that were never refused, unless it is empty.
func (s *Store) Suspect(ctx context.Context, account string, at int64, why string, ps []Promise) error {
	return changeEach(ctx, s, account, "withdraw promises", ps, func(t *tx, account int64, p Promise) error {
		if err := t.withdrawPromise(account, p); err != nil {
			return err
		}
		return t.exec(`
			UPDATE messages SET next_try = max(next_try, ?3), reason = iif(?4 = '' OR tries > 0, reason, ?4)
			WHERE account = ?1 AND uid = ?2 AND phase = ?5 AND NOT EXISTS `+openPromise,
			account, []byte(p.UID), at, why, Promised)
	})
}

func (t *tx) withdrawPromise(account int64, p Promise) error {
	return t.exec("UPDATE deliveries SET open = FALSE WHERE account = ? AND uid = ? AND sink = ? AND open",
		account, []byte(p.UID), p.Sink)
}

// addUnreported adds to the messages that have landed and that no SavePoll has counted.
func (t *tx) addUnreported(account int64, messages int, octets int64) error {
	return t.exec("UPDATE accounts SET untold = untold + ?, untold_bytes = untold_bytes + ? WHERE id = ?", messages, octets, account)
}
