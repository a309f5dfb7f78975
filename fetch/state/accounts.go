package state

import (
	"context"
	"database/sql"
	"fmt"
)

// Account is an account that is remembered, and how much of it is.
type Account struct {
	Name string
	// Messages are remembered, Octets of them. Of those, Listed were on the
	// server when it was last asked, Refused are as Status.Refused has them,
	// Adopted are in that phase, and Open are promised to sinks that have not
	// answered for them.
	Messages, Listed, Refused, Adopted, Open int
	Octets                                   int64
	// Polled is when the latest poll ended, in Unix seconds; 0 is never.
	Polled int64
}

// Accounts returns all accounts that are remembered, in the order of their
// names.
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

// Octets returns the size of the database.
func (s *Store) Octets(ctx context.Context) (n int64, err error) {
	err = s.read.QueryRowContext(ctx, "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").Scan(&n)
	return n, wrap(s.path, "read the size", err)
}

// Forget drops all that is remembered of an account. Whatever of its mail is
// still on the server is new to the next poll.
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

// Rename gives what is remembered of one account to another, of which nothing
// but how its polls went may be remembered.
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

// Adopt remembers messages as Adopted. It changes no row that is there, but one
// that was Adopted: its unique-id has gone to another message.
func (s *Store) Adopt(ctx context.Context, account string, as []Adoption) error {
	return changeEach(ctx, s, account, "adopt messages", as, func(t *tx, account int64, a Adoption) error {
		return t.exec(`
			INSERT INTO messages (account, uid, phase, size, header, seen)
			VALUES (?1, ?2, ?3, ?4, ?5, unixepoch()) ON CONFLICT DO UPDATE SET
				size = excluded.size, header = excluded.header, missing = 0, seen = excluded.seen WHERE phase = ?3`,
			account, []byte(a.UID), Adopted, a.Size, nullableSum(a.Header))
	})
}
