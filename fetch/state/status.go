package state

import "context"

// Status sums up what is remembered of an account. Landed messages on the server
// count as Waiting if they landed at due, in Unix seconds, or before, and as Kept
// otherwise. The Status of an unknown account holds only its name.
func (s *Store) Status(ctx context.Context, account string, due int64) (Status, error) {
	st := Status{Account: account}
	polls, err := s.Polls(ctx, account, 1)
	if err != nil {
		return st, err
	}
	if len(polls) > 0 {
		st.Last = &polls[0]
	}
	err = s.read.QueryRowContext(ctx, `
		SELECT (SELECT count(DISTINCT uid) FROM deliveries WHERE account = a AND open),
			(SELECT count(*) FROM messages WHERE account = a AND phase IN (?2, ?3)),
			(SELECT count(*) FROM messages WHERE account = a AND phase = ?2 AND missing = 0 AND landed <= ?4),
			(SELECT count(*) FROM messages WHERE account = a AND missing = 0 AND (phase = ?2 AND landed > ?4 OR phase = ?5))
		FROM (SELECT (SELECT id FROM accounts WHERE name = ?1) AS a)`,
		account, Landed, Deleted, due, Adopted).Scan(&st.Open, &st.Fetched, &st.ToDelete, &st.Kept)
	if err != nil {
		return st, wrap(s.path, "read the status", err)
	}
	standing, err := s.Standing(ctx, account)
	if err != nil {
		return st, err
	}
	st.Schedule = standing.Schedule
	rows, err := s.read.QueryContext(ctx,
		"SELECT "+rowColumns+" FROM messages WHERE account = "+accountIDByName+" AND "+isRefused+" ORDER BY uid", account)
	st.Refused, err = collectRows(rows, err, s.path, "read the status", scanRow)
	return st, err
}
