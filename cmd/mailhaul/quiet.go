package main

import (
	"context"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// patience is how long temporary trouble may last before a person hears of it.
const patience = 24 * time.Hour

// quietReporter passes on only what needs a person.
type quietReporter struct {
	serial
	to      reporter
	known   map[string]map[string]bool // the UIDs that were refused before, by account
	success map[string]int64           // the last success of each account
	held    map[string][]fetch.Event   // newly refused messages
}

// newQuiet looks up what a person has been told already.
func newQuiet(ctx context.Context, to reporter, store *state.Store, accounts []config.Account) (reporter, error) {
	q := &quietReporter{
		to: to, known: map[string]map[string]bool{}, success: map[string]int64{}, held: map[string][]fetch.Event{},
	}
	for _, a := range accounts {
		st, err := store.Status(ctx, a.Name, 0)
		if err != nil {
			return nil, err
		}
		q.success[a.Name] = st.LastSuccess
		q.known[a.Name] = map[string]bool{}
		for _, row := range st.Refused {
			q.known[a.Name][row.UID] = true
		}
	}
	return q, nil
}

func (q *quietReporter) observe(e fetch.Event) {
	q.do(func() {
		switch e := e.(type) {
		case fetch.Refused:
			if !q.known[e.Account][e.UID] {
				q.held[e.Account] = append(q.held[e.Account], e)
			}
		case fetch.Finished:
			if q.needsPerson(e.Summary) {
				for _, refused := range q.held[e.Account] {
					q.to.observe(refused)
				}
				q.to.observe(e)
			}
		}
	})
}

func (q *quietReporter) needsPerson(s fetch.Summary) bool {
	switch {
	case s.Class >= fetch.ClassOperator || len(q.held[s.Account]) > 0:
		return true
	case s.Class == fetch.ClassRetry:
		return time.Since(time.Unix(q.success[s.Account], 0)) > patience
	}
	return false
}

// note says nothing: who asked for quiet and pressed ^C knows.
func (q *quietReporter) note(string) {}

func (q *quietReporter) total([]fetch.Summary) {}
