package state

import "context"

// Keep notes at the time at, in Unix seconds, what a poll learned of messages that it
// did not fetch. It writes nothing if h is empty.
//
// Rekey comes first, and all at once: servers that renumber reuse old unique-ids, so
// From of one may be To of another. The other fields use the new keys. If a row with
// the key To exists and is not given another key, only one of the two rows stays: the
// one that is Landed or Deleted; otherwise the existing one, unless it was only ever
// refused and never promised. Deliveries follow their row.
func (s *Store) Keep(ctx context.Context, account string, at int64, h Housekeeping) error {
	if h.Empty() {
		return nil
	}
	return s.changeRows(ctx, account, "keep house", func(t *tx, id int64) error {
		if h.Maildrop != "" {
			if err := t.exec("UPDATE accounts SET maildrop = ? WHERE id = ?", h.Maildrop, id); err != nil {
				return err
			}
		}
		if err := t.rekey(id, h.Rekey); err != nil {
			return err
		}
		if err := forChunks(h.Missing, func(uids []string) error {
			return t.exec("UPDATE messages SET missing = ? WHERE account = ? AND missing = 0 AND uid IN ("+placeholders("?", len(uids))+")",
				appendUIDs([]any{at, id}, uids)...)
		}); err != nil {
			return err
		}
		for _, uid := range h.Found {
			if err := t.exec("UPDATE messages SET missing = 0, deleted = iif(phase = ?, deleted, 0) WHERE account = ? AND uid = ?",
				Deleted, id, []byte(uid)); err != nil {
				return err
			}
		}
		for _, uid := range h.Restored {
			if err := t.exec("UPDATE messages SET phase = ?, deleted = 0, missing = 0 WHERE account = ? AND uid = ? AND phase = ?",
				Landed, id, []byte(uid), Deleted); err != nil {
				return err
			}
		}
		for _, uid := range h.Complete {
			if err := t.completeMessage(id, at, []byte(uid)); err != nil {
				return err
			}
		}
		for uid, landed := range h.Landed {
			if err := t.replaceLandings(id, []byte(uid), landed); err != nil {
				return err
			}
		}
		for _, uid := range h.Forget {
			if err := t.exec("DELETE FROM messages WHERE account = ? AND uid = ?", id, []byte(uid)); err != nil {
				return err
			}
		}
		return nil
	})
}

// completeMessage deletes the withdrawn deliveries of a message. If it has landed in
// the other sinks and has no open promise, it becomes Landed.
func (t *tx) completeMessage(account, at int64, uid []byte) error {
	if err := t.exec("DELETE FROM deliveries WHERE account = ? AND uid = ? AND NOT open AND landed IS NULL",
		account, uid); err != nil {
		return err
	}
	n, octets, err := t.updateReturningSizes(`
		UPDATE messages SET phase = ?3, landed = ?4, tries = 0, next_try = 0, reason = ''
		WHERE account = ?1 AND uid = ?2 AND phase IN (?5, ?6)
		AND EXISTS (SELECT 1 FROM deliveries WHERE account = ?1 AND uid = ?2 AND landed IS NOT NULL)
		AND NOT EXISTS `+openPromise+`
		RETURNING size`,
		account, uid, Landed, at, Promised, Refused)
	if err != nil || n == 0 {
		return err
	}
	return t.addUnreported(account, n, octets)
}

// replaceLandings replaces the landed deliveries of a message by ds, which may name a
// sink twice.
func (t *tx) replaceLandings(account int64, uid []byte, ds []Delivery) error {
	if err := t.exec("DELETE FROM deliveries WHERE account = ? AND uid = ? AND landed IS NOT NULL", account, uid); err != nil {
		return err
	}
	for _, d := range ds {
		if err := t.exec(`
			INSERT OR REPLACE INTO deliveries (account, uid, sink, token, open, place, promised, landed) VALUES (?, ?, ?, ?, FALSE, ?, ?, ?)`,
			account, uid, d.Sink, d.Token, d.Where, d.Promised, d.Landed); err != nil {
			return err
		}
	}
	return nil
}

// rekey moves rows aside, to an account with the negative id, and from there to their
// new keys.
func (t *tx) rekey(account int64, keys []Rekey) error {
	for _, k := range keys {
		if err := t.exec("UPDATE messages SET account = -?1 WHERE account = ?1 AND uid = ?2",
			account, []byte(k.From)); err != nil {
			return err
		}
	}
	for _, k := range keys {
		from, to := []byte(k.From), []byte(k.To)
		// If another row has the key, delete one of the two, as Keep says.
		if err := t.exec(`
			DELETE FROM messages WHERE account = ?1 AND uid = ?3 AND phase NOT IN (?4, ?5)
			AND EXISTS (SELECT 1 FROM messages better WHERE better.account = -?1 AND better.uid = ?2
				AND (better.phase IN (?4, ?5) OR messages.phase = ?6
					AND NOT EXISTS (SELECT 1 FROM deliveries WHERE account = ?1 AND uid = ?3)))`,
			account, from, to, Landed, Deleted, Refused); err != nil {
			return err
		}
		if err := t.exec(`
			DELETE FROM messages WHERE account = -?1 AND uid = ?2
			AND EXISTS (SELECT 1 FROM messages WHERE account = ?1 AND uid = ?3)`,
			account, from, to); err != nil {
			return err
		}
		if err := t.exec("UPDATE messages SET account = ?1, uid = ?3 WHERE account = -?1 AND uid = ?2",
			account, from, to); err != nil {
			return err
		}
	}
	return nil
}
