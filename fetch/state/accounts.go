package state

import (
	"context"
	"database/sql"
	"fmt"
)

// Account sums up what is remembered of an account.
type Account struct {
	Name string
	// Messages counts the rows, and Octets sums up their sizes. Of the
	// messages, Listed were on the server when it was last asked, Refused
	// would be in Status.Refused, Adopted are in that phase, and Open have
	// an open promise.
	Messages, Listed, Refused, Adopted, Open int
	Octets                                   int64
	// Polled is when the latest poll ended, in Unix seconds; 0 is never.
	Polled int64
}

// Accounts returns all accounts that are remembered, ordered by name.
func (s *Store) Accounts(ctx context.Context) ([]Account, error) {
	rows, err := s.read.QueryContext(ctx, `
		SELECT name, count(phase), coalesce(sum(missing = 0 AND phase <> ?1), 0),
			coalesce(sum(`+isRefused+`), 0), coalesce(sum(phase = ?2), 0),
			(SELECT count(DISTINCT uid) FROM deliveries WHERE account = accounts.id AND open), coalesce(sum(size), 0),
			coalesce((SELECT ended FROM polls WHERE account = accounts.id ORDER BY seq DESC LIMIT 1), 0)
		FROM accounts LEFT JOIN messages ON messages.account = accounts.id
		GROUP BY accounts.id ORDER BY name`, Deleted, Adopted)
	return collectRows(rows, err, s.path, "read the accounts", func(rows *sql.Rows) (a Account, err error) {
		return a, rows.Scan(&a.Name, &a.Messages, &a.Listed, &a.Refused, &a.Adopted, &a.Open, &a.Octets, &a.Polled)
	})
}

// Octets returns the size of the database, in octets.
func (s *Store) Octets(ctx context.Context) (n int64, err error) {
	err = s.read.QueryRowContext(ctx, "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").Scan(&n)
	return n, wrap(s.path, "read the size", err)
}

// Forget deletes all that is remembered of an account. To its next poll, all mail
// on the server is new.
func (s *Store) Forget(ctx context.Context, account string) error {
	return s.change(ctx, "forget the account", func(t *tx) error { return t.deleteAccount(account) })
}

func (t *tx) deleteAccount(account string) error {
	for _, query := range []string{
		"DELETE FROM messages WHERE account = " + accountIDByName,
		"DELETE FROM polls WHERE account = " + accountIDByName,
		"DELETE FROM days WHERE account = " + accountIDByName,
		"DELETE FROM troubles WHERE account = " + accountIDByName,
		"DELETE FROM servers WHERE account = " + accountIDByName,
		"DELETE FROM accounts WHERE name = ?",
	} {
		if err := t.exec(query, account); err != nil {
			return err
		}
	}
	return nil
}

// Rename renames an account. It fails if messages are remembered of an account that
// has the new name; otherwise it deletes what is remembered of that one.
func (s *Store) Rename(ctx context.Context, from, to string) error {
	return s.change(ctx, "rename the account", func(t *tx) error {
		var messages int
		if err := t.queryValue(&messages, "SELECT count(*) FROM messages WHERE account = "+accountIDByName, to); err != nil {
			return err
		}
		if messages > 0 {
			return fmt.Errorf("account %q has messages that are remembered (%d)", to, messages)
		}
		if err := t.deleteAccount(to); err != nil {
			return err
		}
		n, err := t.update("UPDATE accounts SET name = ? WHERE name = ?", to, from)
		if err == nil && n == 0 {
			err = fmt.Errorf("nothing of account %q is remembered", from)
		}
		return err
	})
}

// Adoption is a message to be adopted.
type Adoption struct {
	UID    string
	Size   int64
	Header Sum // zero if it is not known
}

// Adopt adds messages as Adopted. Of the rows that exist it changes only those that are
// Adopted already, whose unique-ids have been given to other messages.
func (s *Store) Adopt(ctx context.Context, account string, as []Adoption) error {
	return changeEach(ctx, s, account, "adopt messages", as, func(t *tx, account int64, a Adoption) error {
		return t.exec(`
			INSERT INTO messages (account, uid, phase, size, header, seen)
			VALUES (?1, ?2, ?3, ?4, ?5, unixepoch()) ON CONFLICT DO UPDATE SET
				size = excluded.size, header = excluded.header, missing = 0, seen = excluded.seen WHERE phase = ?3`,
			account, []byte(a.UID), Adopted, a.Size, nullableSum(a.Header))
	})
}
