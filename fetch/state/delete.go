package state

import "context"

// Delete notes at the time at, in Unix seconds and not 0, that the server is about
// to be asked to delete messages. Rows that are Landed become Deleted, and so do
// those that were Deleted before and had come back; others do not change.
//
// The deletions are in doubt until Confirm, SavePoll or another Delete tells that the
// server has confirmed them, or Undelete that it has not. In this way each row is
// written once, and a process that is killed in between leaves the doubt behind.
func (s *Store) Delete(ctx context.Context, account string, at int64, uids []string) error {
	if len(uids) == 0 {
		return nil
	}
	return s.changeRows(ctx, account, "note deletions", func(t *tx, id int64) error {
		if err := t.exec("UPDATE accounts SET deleting = ? WHERE id = ?", at, id); err != nil {
			return err
		}
		return forChunks(uids, func(uids []string) error {
			return t.exec(`
				UPDATE messages SET phase = ?2, deleted = ?3, missing = 0, tries = 0, next_try = 0, reason = ''
				WHERE account = ?1 AND phase IN (?2, ?4) AND uid IN (`+placeholders("?", len(uids))+`)`,
				appendUIDs([]any{id, Deleted, at, Landed}, uids)...)
		})
	})
}

// Undelete notes that the server did not confirm the deletions that are in doubt. Their
// rows become Landed, and Missing since Row.Deleted, which is kept until the messages
// are found. Rows that were Deleted in the same second are among them.
func (s *Store) Undelete(ctx context.Context, account string) error {
	return s.changeRows(ctx, account, "note what was not deleted", func(t *tx, id int64) error {
		if err := t.exec(`
			UPDATE messages SET phase = ?3, missing = deleted
			WHERE account = ?1 AND phase = ?2 AND deleted = (SELECT deleting FROM accounts WHERE id = ?1)`,
			id, Deleted, Landed); err != nil {
			return err
		}
		return t.endUnconfirmed(id)
	})
}

// Confirm notes that the server has confirmed the deletions that were in doubt.
func (s *Store) Confirm(ctx context.Context, account string) error {
	return s.change(ctx, "confirm deletions", func(t *tx) error {
		id, err := t.accountID(account)
		if err != nil {
			return err
		}
		return t.endUnconfirmed(id)
	})
}

// endUnconfirmed ends the doubt about deletions. It does not change their rows.
func (t *tx) endUnconfirmed(account int64) error {
	return t.exec("UPDATE accounts SET deleting = 0 WHERE id = ? AND deleting <> 0", account)
}
