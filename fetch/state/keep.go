package state

import "context"

// Keep notes at the time at, in Unix seconds, what a poll learned of the rows
// it did not fetch; nothing is written if there is nothing to note. New keys
// are given first, all at once: servers that renumber reuse old ones, so From
// of one may be To of another. Everything else goes by the new keys. If there
// is a row with the new key that gets no other, one of the two stays: the one that
// is Landed or Deleted; else the one that had the key, unless it was never
// promised to a sink. Deliveries follow their row.
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

// completeMessage forgets to whom a message is owed, unless a promise is open. If others
// have it, it is Landed then, and untold until SavePoll counts it.
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
	return t.exec("UPDATE accounts SET untold = untold + ?, untold_bytes = untold_bytes + ? WHERE id = ?", n, octets, account)
}

// replaceLandings has a message have replaceLandings where ds say, and nowhere else. Two of them may have
// become one.
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

// rekey moves rows aside, to the account of the negative id, and from there
// to their new keys.
func (t *tx) rekey(account int64, keys []Rekey) error {
	for _, k := range keys {
		if err := t.exec("UPDATE messages SET account = -?1 WHERE account = ?1 AND uid = ?2",
			account, []byte(k.From)); err != nil {
			return err
		}
	}
	for _, k := range keys {
		from, to := []byte(k.From), []byte(k.To)
		// Where two rows meet, the worse of them goes.
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
