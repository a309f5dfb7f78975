package state

import (
	"context"
	"database/sql"
	"strings"
)

// Server holds the capabilities of an account's server, so that the next poll need
// not ask for them.
type Server struct {
	// Key identifies the server and the login, in a form that the caller
	// chooses. If it no longer matches, the other fields are of no use.
	Key string
	// Before and After are the lines of the replies to CAPA (RFC 2449 §5)
	// before and after the login.
	Before, After []string
	// Asked is when the server sent them, in Unix seconds.
	Asked int64
}

// Rest says that a maildrop needs nothing done, so that a poll which finds it
// unchanged need not read its rows. Any change of the rows ends it.
type Rest struct {
	// Listing is a digest, made by the caller, of what the server lists and of
	// all else that decides what to do. It is zero if there is no rest.
	Listing Sum
	// Until is when the rest expires, in Unix seconds.
	Until int64
}

// Standing is the state of an account before a poll.
type Standing struct {
	Schedule Schedule
	Server   Server
	// Left is how many messages the last poll left on the server.
	Left int
	Rest Rest
	// Maildrop is the Poll.Maildrop of the last poll that had one.
	Maildrop string
	// Open is set if there are open promises, Unconfirmed if the server has not
	// confirmed deletions.
	Open, Unconfirmed bool
	// Unreported messages, of UnreportedBytes octets in all, have landed, but the poll
	// that fetched them was killed before it was saved.
	Unreported      int
	UnreportedBytes int64
}

// Standing returns the state of an account, the zero Standing if it is not remembered.
func (s *Store) Standing(ctx context.Context, account string) (Standing, error) {
	var st Standing
	var before, after string
	var rest []byte
	err := s.read.QueryRowContext(ctx, `
		SELECT `+scheduleColumns+`, coalesce(key, ''), coalesce(before, ''), coalesce(after, ''), coalesce(asked, 0),
			coalesce(listed - deleted, 0), rest, rest_until, deleting <> 0,
			untold, untold_bytes, maildrop, EXISTS (SELECT 1 FROM deliveries WHERE account = accounts.id AND `+isOpen+`)
		FROM accounts LEFT JOIN servers ON servers.account = id
			LEFT JOIN polls ON polls.account = id AND seq = (SELECT max(seq) FROM polls WHERE account = accounts.id)
		WHERE name = ?`, account).Scan(
		append(st.Schedule.scanTargets(), &st.Server.Key, &before, &after, &st.Server.Asked, &st.Left, &rest, &st.Rest.Until, &st.Unconfirmed,
			&st.Unreported, &st.UnreportedBytes, &st.Maildrop, &st.Open)...)
	if err == sql.ErrNoRows {
		return Standing{}, nil
	}
	copy(st.Rest.Listing[:], rest)
	if before != "" {
		st.Server.Before = strings.Split(before, "\n")
	}
	if after != "" {
		st.Server.After = strings.Split(after, "\n")
	}
	return st, wrap(s.path, "read how things stand", err)
}

// saveServer replaces what is known of an account's server.
func (t *tx) saveServer(account int64, v Server) error {
	if v.Key == "" {
		return t.exec("DELETE FROM servers WHERE account = ?", account)
	}
	return t.exec("INSERT OR REPLACE INTO servers (account, key, before, after, asked) VALUES (?, ?, ?, ?, ?)",
		account, v.Key, strings.Join(v.Before, "\n"), strings.Join(v.After, "\n"), v.Asked)
}
