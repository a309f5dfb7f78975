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

// Standing is how things stand with an account before a poll.
type Standing struct {
	Schedule Schedule
	Server   Server
	// Left is how many messages the last poll left on the server.
	Left int
	Rest Rest
	// Maildrop is that of the last poll that got into one (Poll.Maildrop).
	Maildrop string
	// Open is set if there are promises open, and Doubt if messages are Deleted
	// of which nobody knows whether the server has deleted them.
	Open, Doubt bool
	// Untold messages, UntoldBytes of them, have landed, and no poll that was saved
	// has counted them: it was killed before.
	Untold      int
	UntoldBytes int64
}

// Standing returns how things stand with an account, the zero Standing if it
// was never polled.
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
		append(st.Schedule.scanTargets(), &st.Server.Key, &before, &after, &st.Server.Asked, &st.Left, &rest, &st.Rest.Until, &st.Doubt,
			&st.Untold, &st.UntoldBytes, &st.Maildrop, &st.Open)...)
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

// saveServer replaces what is remembered of an account's server.
func (t *tx) saveServer(account int64, v Server) error {
	if v.Key == "" {
		return t.exec("DELETE FROM servers WHERE account = ?", account)
	}
	return t.exec("INSERT OR REPLACE INTO servers (account, key, before, after, asked) VALUES (?, ?, ?, ?, ?)",
		account, v.Key, strings.Join(v.Before, "\n"), strings.Join(v.After, "\n"), v.Asked)
}
