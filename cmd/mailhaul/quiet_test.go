package main

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// heard notes of whom a reporter was told.
type heard struct{ events []string }

func (h *heard) note(string)           { h.events = append(h.events, "note") }
func (h *heard) total([]fetch.Summary) { h.events = append(h.events, "total") }
func (h *heard) observe(e fetch.Event) {
	switch e := e.(type) {
	case fetch.Finished:
		h.events = append(h.events, "finished "+e.Account)
	case fetch.Refused:
		h.events = append(h.events, "refused "+e.UID)
	default:
		h.events = append(h.events, "something else")
	}
}

// With -q, temporary trouble is told of once it has lasted a day, and a
// refused message once.
func TestQuiet(t *testing.T) {
	ctx, now := t.Context(), time.Now()
	store, err := state.Open(ctx, t.TempDir()+"/state")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for account, success := range map[string]time.Time{"hour": now.Add(-time.Hour), "day": now.Add(-25 * time.Hour)} {
		if err := store.SavePoll(ctx, account, state.Poll{Started: success.Unix(), Ended: success.Unix(), Result: "fine"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Refuse(ctx, "hour", []state.Refusal{{UID: "old", Reason: "bad", NextTry: now.Unix()}}); err != nil {
		t.Fatal(err)
	}
	accounts := []config.Account{{Name: "hour"}, {Name: "day"}, {Name: "never"}}
	failure := errors.New("no answer")
	poll := func(account string, class fetch.Class) fetch.Event {
		s := fetch.Summary{Account: account, Class: class}
		if class > fetch.ClassRefused {
			s.Err = failure
		}
		return fetch.Finished{Summary: s}
	}
	refuse := func(uid string) fetch.Event { return fetch.Refused{Account: "hour", UID: uid} }
	for _, test := range []struct {
		name   string
		events []fetch.Event
		want   []string
	}{
		{"all well", []fetch.Event{fetch.Connected{Account: "hour"}, fetch.Landed{Account: "hour"}, poll("hour", fetch.ClassFine)}, nil},
		{"short trouble", []fetch.Event{poll("hour", fetch.ClassRetry)}, nil},
		{"long trouble", []fetch.Event{poll("day", fetch.ClassRetry)}, []string{"finished day"}},
		{"never well", []fetch.Event{poll("never", fetch.ClassRetry)}, []string{"finished never"}},
		{"a password", []fetch.Event{poll("hour", fetch.ClassOperator)}, []string{"finished hour"}},
		{"a full disk", []fetch.Event{poll("hour", fetch.ClassMachine)}, []string{"finished hour"}},
		{"refused before", []fetch.Event{refuse("old"), poll("hour", fetch.ClassRefused)}, nil},
		{"refused now", []fetch.Event{refuse("new"), refuse("old"), poll("hour", fetch.ClassRefused)}, []string{"refused new", "finished hour"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var h heard
			q, err := newQuiet(ctx, &h, store, accounts)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range test.events {
				q.observe(e)
			}
			q.note("")
			q.total(nil)
			if diff := cmp.Diff(test.want, h.events); diff != "" {
				t.Error(diff)
			}
		})
	}
}
