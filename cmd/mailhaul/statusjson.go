package main

import (
	"encoding/json"
	"io"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch/oauth"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// statusJSON is what status --json writes of an account. The names are
// stable; fields may be added. Times are RFC 3339 in UTC, null for never.
type statusJSON struct {
	Account     string        `json:"account"`
	LastPoll    *pollJSON     `json:"last_poll"`
	LastSuccess *time.Time    `json:"last_success"`
	Fetched     int           `json:"fetched"` // messages that landed and are remembered
	Kept        int           `json:"kept"`    // on the server, as keep says
	Waiting     int           `json:"waiting"` // on the server, due for deletion
	Open        int           `json:"open"`    // cut off in delivery, to be settled
	Refused     []refusedJSON `json:"refused"`
	Grant       *grantJSON    `json:"grant,omitempty"` // of accounts with oauth
}

type pollJSON struct {
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	Result  string    `json:"result"` // fine, refused, retry, operator or machine
	Error   string    `json:"error,omitempty"`
	Hint    string    `json:"hint,omitempty"`
	Listed  int       `json:"listed"`
	Fetched int       `json:"fetched"`
	Octets  int64     `json:"octets"` // of what was fetched
	Deleted int       `json:"deleted"`
}

type refusedJSON struct {
	UID     string     `json:"uid"` // empty if the server gives none
	Octets  int64      `json:"octets"`
	Reason  string     `json:"reason"`
	Tries   int        `json:"tries"`
	NextTry *time.Time `json:"next_try"`
}

type grantJSON struct {
	Provider  string     `json:"provider,omitempty"`
	Granted   *time.Time `json:"granted"`
	Refreshed *time.Time `json:"refreshed"`
	Ends      *time.Time `json:"ends"` // null if that is not known
	Error     string     `json:"error,omitempty"`
	Hint      string     `json:"hint,omitempty"`
}

// newGrantJSON returns what an account with oauth was granted.
func newGrantJSON(a config.Account, grants *oauth.Store) *grantJSON {
	g, err := grants.Load(ofAccount(a).client())
	if err != nil {
		return &grantJSON{Error: err.Error(), Hint: oauthHint(err)}
	}
	j := &grantJSON{Provider: g.Provider, Granted: instant(g.Granted.Unix()), Refreshed: instant(g.Refreshed.Unix())}
	if ends, known := g.Ends(); known {
		j.Ends = instant(ends.Unix())
	}
	return j
}

// writeStatusJSON writes the state of accounts, which are in the same order
// in both lists.
func writeStatusJSON(out io.Writer, all []state.Status, configured []config.Account, grants *oauth.Store) error {
	accounts := make([]statusJSON, len(all))
	for i, st := range all {
		a := statusJSON{
			Account: st.Account, LastSuccess: instant(st.LastSuccess),
			Fetched: st.Fetched, Kept: st.Kept, Waiting: st.Waiting, Open: st.Open, Refused: []refusedJSON{},
		}
		if p := st.Last; p != nil {
			a.LastPoll = &pollJSON{
				Started: time.Unix(p.Started, 0).UTC(), Ended: time.Unix(p.Ended, 0).UTC(), Result: p.Result, Error: p.Error, Hint: p.Hint,
				Listed: p.Listed, Fetched: p.Fetched, Octets: p.Bytes, Deleted: p.Deleted,
			}
		}
		for _, row := range st.Refused {
			uid := strings.ToValidUTF8(row.UID, "\ufffd")
			if withoutUID(row.UID) {
				uid = ""
			}
			a.Refused = append(a.Refused, refusedJSON{
				UID: uid, Octets: row.Size, Reason: row.Reason,
				Tries: row.Tries, NextTry: instant(row.NextTry),
			})
		}
		if configured[i].OAuth != nil {
			a.Grant = newGrantJSON(configured[i], grants)
		}
		accounts[i] = a
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(map[string]any{"accounts": accounts})
}

// instant returns a time from Unix seconds, nil for never.
func instant(unix int64) *time.Time {
	if unix == 0 {
		return nil
	}
	t := time.Unix(unix, 0).UTC()
	return &t
}
