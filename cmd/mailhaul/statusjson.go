package main

import (
	"io"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch/oauth"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// statusJSON is what status --json writes for an account.
type statusJSON struct {
	Account     string        `json:"account"`
	LastPoll    *pollJSON     `json:"last_poll"`
	LastSuccess *time.Time    `json:"last_success"`
	NextPoll    *time.Time    `json:"next_poll"`  // by a daemon
	NotBefore   *time.Time    `json:"not_before"` // the server accepts no login until then
	Fetched     int           `json:"fetched"`    // messages that landed and are remembered
	Kept        int           `json:"kept"`       // on the server, as keep says
	ToDelete    int           `json:"to_delete"`  // on the server, due for deletion
	Open        int           `json:"open"`       // in delivery, or interrupted there and to be settled
	Refused     []refusedJSON `json:"refused"`
	Grant       *grantJSON    `json:"grant,omitempty"` // of an account with oauth
	Polls       []pollJSON    `json:"polls,omitempty"` // with -v: the last ones, the latest first
	Days        []dayJSON     `json:"days,omitempty"`  // with -v: the last ones with polls
}

type dayJSON struct {
	Day     string `json:"day"` // such as 2026-11-28
	Polls   int    `json:"polls"`
	Failed  int    `json:"failed"`
	Fetched int    `json:"fetched"`
	Octets  int64  `json:"bytes"`
}

type pollJSON struct {
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	Result  string    `json:"result"` // fine, refused, retry, person or machine
	Error   string    `json:"error,omitempty"`
	Hint    string    `json:"hint,omitempty"`
	Listed  int       `json:"listed"`
	Fetched int       `json:"fetched"`
	Octets  int64     `json:"bytes"` // of what was fetched
	Deleted int       `json:"deleted"`
}

type refusedJSON struct {
	UID     string     `json:"uid"`  // empty if the server gives none
	Name    string     `json:"name"` // for mailhaul explain
	Octets  int64      `json:"bytes"`
	Reason  string     `json:"reason"` // of the last refusal
	Seen    *time.Time `json:"seen"`   // for the first time; null if not known
	Tries   int        `json:"tries"`
	NextTry *time.Time `json:"next_try"`
}

type grantJSON struct {
	Provider  string     `json:"provider,omitempty"`
	Granted   *time.Time `json:"granted"`
	Refreshed *time.Time `json:"refreshed"`
	Ends      *time.Time `json:"ends"` // null if not known
	Error     string     `json:"error,omitempty"`
	Hint      string     `json:"hint,omitempty"`
}

// newGrantJSON returns the grant of an account with oauth, or the error of reading it.
func newGrantJSON(a config.Account, grants *oauth.Store) *grantJSON {
	g, err := grants.Load(accountLogin(a).oauthClient())
	if err != nil {
		return &grantJSON{Error: err.Error(), Hint: oauthHint(err)}
	}
	j := &grantJSON{Provider: g.Provider, Granted: jsonTime(g.Granted.Unix()), Refreshed: jsonTime(g.Refreshed.Unix())}
	if ends := g.Expires; !ends.IsZero() {
		j.Ends = jsonTime(ends.Unix())
	}
	return j
}

// writeStatusJSON writes the status of accounts. Element i of each slice is about the
// same account.
func writeStatusJSON(out io.Writer, all []state.Status, histories []history, configured []config.Account, grants *oauth.Store) error {
	accounts := make([]statusJSON, len(all))
	for i, st := range all {
		a := statusJSON{
			Account: st.Account, LastSuccess: jsonTime(st.Schedule.LastSuccess),
			NextPoll: jsonTime(st.Schedule.Next), NotBefore: jsonTime(st.Schedule.NotBefore),
			Fetched: st.Fetched, Kept: st.Kept, ToDelete: st.ToDelete, Open: st.Open, Refused: []refusedJSON{},
		}
		if p := st.Last; p != nil {
			a.LastPoll = new(newPollJSON(*p))
		}
		for _, p := range histories[i].polls {
			a.Polls = append(a.Polls, newPollJSON(p))
		}
		for _, d := range histories[i].days {
			a.Days = append(a.Days, dayJSON{
				Day: time.Unix(d.Day*86400, 0).UTC().Format(time.DateOnly), Polls: d.Polls, Failed: d.Failed, Fetched: d.Fetched, Octets: d.Octets,
			})
		}
		for _, row := range st.Refused {
			a.Refused = append(a.Refused, refusedJSON{
				UID: jsonUID(row.UID), Name: displayUID(row.UID), Octets: row.Size, Reason: row.Reason,
				Seen: jsonTime(row.Seen), Tries: row.Tries, NextTry: jsonTime(row.NextTry),
			})
		}
		if configured[i].OAuth != nil {
			a.Grant = newGrantJSON(configured[i], grants)
		}
		accounts[i] = a
	}
	return writeJSON(out, map[string]any{"accounts": accounts})
}

func newPollJSON(p state.Poll) pollJSON {
	return pollJSON{
		Started: time.Unix(p.Started, 0).UTC(), Ended: time.Unix(p.Ended, 0).UTC(), Result: p.Result, Error: p.Error, Hint: p.Hint,
		Listed: p.Listed, Fetched: p.Fetched, Octets: p.Octets, Deleted: p.Deleted,
	}
}
