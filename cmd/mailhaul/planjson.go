package main

import (
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch"
)

// planJSON is what plan --json writes for an account.
type planJSON struct {
	Account       string         `json:"account"`
	Listed        int            `json:"listed"`
	Octets        int64          `json:"bytes"`
	Fetch         int            `json:"fetch"`
	FetchOctets   int64          `json:"fetch_bytes"`
	Delete        int            `json:"delete"`
	DeleteFetched bool           `json:"delete_fetched"`
	Refused       int            `json:"refused"` // before, and waiting for another try
	Open          int            `json:"open"`    // in delivery, or interrupted there and to be settled
	Messages      []prospectJSON `json:"messages"`
	Error         string         `json:"error,omitempty"`
	Hint          string         `json:"hint,omitempty"`
}

// prospectJSON is a message on the server, and what will become of it.
type prospectJSON struct {
	Number int    `json:"number"` // in this session only
	UID    string `json:"uid"`    // empty if the server gives none
	Name   string `json:"name"`   // for mailhaul explain; empty while there is none
	Octets int64  `json:"bytes"`  // as the server says
	// State is none, fetch, compare, delete, keep, wait, settle, leave or quarantine.
	State  string     `json:"state"`
	Reason string     `json:"reason"` // for the state
	Tries  int        `json:"tries"`  // that failed
	Until  *time.Time `json:"until"`  // how long the message is kept, or waits
}

func newProspectJSON(p fetch.Prospect, a config.Account, now time.Time) prospectJSON {
	j := prospectJSON{
		Number: p.Num, UID: jsonUID(p.UID), Octets: p.Size,
		State: p.Fate.String(), Reason: fateReason(p, a, now),
	}
	if key := prospectKey(p); key != "" {
		j.Name = displayUID(key)
	}
	if p.Row != nil {
		j.Tries = p.Row.Tries
	}
	if !p.Until.IsZero() {
		j.Until = new(p.Until.UTC())
	}
	return j
}

func newPlanJSON(a config.Account, sight fetch.Sight, err error, now time.Time) planJSON {
	j := planJSON{
		Account: a.Name, Listed: sight.Listed, Octets: sight.Octets,
		Fetch: sight.Fetch, FetchOctets: sight.FetchOctets, Delete: sight.Delete, DeleteFetched: sight.DeleteFetched,
		Refused: sight.Waiting, Open: sight.Open, Messages: []prospectJSON{},
	}
	if err != nil {
		j.Error, j.Hint = err.Error(), fetch.Hint(err)
	}
	for _, p := range sight.Messages {
		j.Messages = append(j.Messages, newProspectJSON(p, a, now))
	}
	return j
}
