package state

import (
	"context"
	"database/sql"
	"strings"
)

// Server is what a poll learned of an account's server, so that the next one
// need not ask again.
type Server struct {
	// Key says who was asked, and as whom: what was learned is of no use to
	// an account that goes to another server since. It is the caller's own.
	Key string
	// Before and After are the lines of the replies to CAPA (RFC 2449 §5)
	// before and after the login.
	Before, After []string
	// Asked is when the server said so, in Unix seconds.
	Asked int64
}

// Left is how the last polls left a maildrop.
type Left struct {
	// Messages were on the server when the last poll ended.
	Messages int
	Rest     Rest
}

// Rest says that there is nothing to do about a maildrop, so that a poll which
// finds it unchanged need not look at its rows. It ends with any change of
// those.
type Rest struct {
	// Listing stands for what the server lists, and for all else that decides
	// what is to be done. It is the caller's own; zero if there is no rest.
	Listing Sum
	// Until is when the rest ends by itself, in Unix seconds.
	Until int64
}

// ServerOf returns what is remembered of an account's server, the zero Server
// if nothing is, and how the last polls left the maildrop.
func (s *Store) ServerOf(ctx context.Context, account string) (v Server, left Left, err error) {
	var before, after string
	var rest []byte
	err = s.read.QueryRowContext(ctx, `
		SELECT coalesce(key, ''), coalesce(before, ''), coalesce(after, ''), coalesce(asked, 0),
			coalesce((SELECT listed - deleted FROM polls WHERE account = id ORDER BY seq DESC LIMIT 1), 0),
			rest, rest_until
		FROM accounts LEFT JOIN servers ON account = id WHERE name = ?`,
		account).Scan(&v.Key, &before, &after, &v.Asked, &left.Messages, &rest, &left.Rest.Until)
	if err == sql.ErrNoRows {
		return Server{}, Left{}, nil
	}
	copy(left.Rest.Listing[:], rest)
	if before != "" {
		v.Before = strings.Split(before, "\n")
	}
	if after != "" {
		v.After = strings.Split(after, "\n")
	}
	return v, left, wrap(s.path, "recall the server", err)
}

// learn replaces what is remembered of an account's server.
func (t *tx) learn(account int64, v Server) error {
	if v.Key == "" {
		return t.exec("DELETE FROM servers WHERE account = ?", account)
	}
	return t.exec("INSERT OR REPLACE INTO servers (account, key, before, after, asked) VALUES (?, ?, ?, ?, ?)",
		account, v.Key, strings.Join(v.Before, "\n"), strings.Join(v.After, "\n"), v.Asked)
}
