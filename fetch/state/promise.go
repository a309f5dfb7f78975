package state

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	sqlite3 "modernc.org/sqlite/lib"
)

// openPromise finds a promise of message ?2 of account ?1 that is open.
const openPromise = "(SELECT 1 FROM deliveries WHERE account = ?1 AND uid = ?2 AND open)"

// isOpen tells of a delivery whether it is open. What has landed is not; that it
// says so lets an account's be found by the index deliveries_owed.
const isOpen = "(open AND deliveries.landed IS NULL)"

// Promises returns the open promises of an account, in the order in which
// they were made.
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

// Promise journals promises, before their sinks make good on them. A message
// for several sinks is promised for all of them before any landing is noted.
// A promise for a row that is Landed, Deleted or Adopted is one of a new message
// with an old UID: what is known of the old one goes. Any other is a new attempt:
// sinks that withdrew their promise and make no new one are owed nothing more.
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
	insert := "INSERT INTO messages (account, uid, phase, size, header, content, missing, seen) VALUES " +
		placeholders("(?, ?, ?, ?, ?, ?, ?, unixepoch())", len(ps))
	deliver := "INTO deliveries (account, uid, sink, token, place, promised) VALUES " +
		placeholders("(?, ?, ?, ?, ?, unixepoch())", len(ps))
	// Of most that is promised nothing is known yet. To find only that out takes
	// less time than to be ready for more.
	switch err := t.exec(insert, messages...); {
	case err == nil:
		return t.exec("INSERT "+deliver, deliveries...)
	case resultCode(err) != sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return err
	}
	if err := t.exec(insert+" ON CONFLICT DO NOTHING", messages...); err != nil {
		return err
	}
	for _, p := range ps { // which changes nothing of a row that is fresh
		if err := t.replacePromise(account, p); err != nil {
			return err
		}
	}
	return t.exec("INSERT OR REPLACE "+deliver, deliveries...)
}

// replacePromise is promise for a message that there is a row of.
func (t *tx) replacePromise(account int64, p Promise) error {
	uid := []byte(p.UID)
	// Else a promise of the new message that is withdrawn would find the old
	// one's landings, and the new one would count as delivered.
	if err := t.exec("DELETE FROM messages WHERE account = ? AND uid = ? AND phase IN (?, ?, ?)",
		account, uid, Landed, Deleted, Adopted); err != nil {
		return err
	}
	if err := t.exec("DELETE FROM deliveries WHERE account = ? AND uid = ? AND NOT open AND landed IS NULL",
		account, uid); err != nil {
		return err
	}
	// The tries stay, so that a promise that is withdrawn resumes them.
	return t.exec(`
		INSERT INTO messages (account, uid, phase, size, header, content, missing, seen) VALUES (?, ?, ?, ?, ?, ?, ?, unixepoch())
		ON CONFLICT DO UPDATE SET phase = excluded.phase, size = excluded.size,
			header = excluded.header, content = excluded.content, missing = excluded.missing`,
		account, uid, Promised, p.Size, nullableSum(p.Header), nullableSum(p.Content), p.Missing)
}

// Land notes at the time at, in Unix seconds, that promised messages landed.
// A row becomes Landed when it has landed in every sink it was promised for,
// and what was known of earlier refusals goes; Refused when the others have
// withdrawn their promises. A landing that was not promised is an error, and
// nothing of ls is noted; one that was noted before is noted again. What becomes
// Landed, and was not dropped, is untold until SavePoll counts it.
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
	// Mostly nothing else is owed to any sink, and need not be looked for.
	var owed bool
	if err := t.queryValue(&owed, "SELECT EXISTS (SELECT 1 FROM deliveries WHERE account = ? AND landed IS NULL)", account); err != nil {
		return err
	}
	whole := ""
	if owed {
		whole = "AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.account = ?1 AND d.uid = messages.uid AND landed IS NULL)"
	}
	n, octets, err := t.updateReturningSizes(`
		UPDATE messages SET phase = ?2, landed = ?3, tries = 0, next_try = 0, reason = ''
		WHERE account = ?1 AND phase = ?4 AND uid IN (`+placeholders("?", len(ls))+`) `+whole+`
		RETURNING size`,
		append([]any{account, Landed, at, Promised}, uids...)...)
	if err == nil && n > 0 && !slices.ContainsFunc(ls, func(l Landing) bool { return l.Dropped }) { // which are noted alone
		err = t.exec("UPDATE accounts SET untold = untold + ?, untold_bytes = untold_bytes + ? WHERE id = ?", n, octets, account)
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

// updateDeliveries notes them in the deliveries. Where all are of one sink and where
// its promises said, as most are, that takes one statement.
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

// refuseIfPartlyLanded has a message that some sinks have and no promise is open for wait for
// another try with the others.
func (t *tx) refuseIfPartlyLanded(account int64, uid []byte) error {
	return t.exec(`
		UPDATE messages SET phase = ?3 WHERE account = ?1 AND uid = ?2 AND phase = ?4
		AND EXISTS (SELECT 1 FROM deliveries WHERE account = ?1 AND uid = ?2 AND landed IS NOT NULL)
		AND EXISTS (SELECT 1 FROM deliveries WHERE account = ?1 AND uid = ?2 AND landed IS NULL)
		AND NOT EXISTS `+openPromise,
		account, uid, Refused, Promised)
}

// Retract withdraws promises that were not kept. A row without any other
// promise or landing goes, so that the message is fetched anew; or is Refused
// again if it was before. So is a row that has landed in another sink: it is
// still owed to this one, and must not be deleted from the server.
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

// Suspect withdraws, at the time at, in Unix seconds, promises that a poll left
// open and that were not kept: a sink may have failed over any of the messages.
// Their rows stay Promised until they land or are refused by a sink, and are due
// once their pause is over. why is noted of those that were never refused.
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
