package main

import (
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch/state"
)

// Status says for how long a refused message has been tried.
func TestTrouble(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	before := func(d time.Duration) int64 { return now.Add(-d).Unix() }
	for _, test := range []struct {
		row  state.Row
		want string
	}{
		{state.Row{Tries: 1, Seen: before(5 * time.Minute), NextTry: before(-10 * time.Minute)}, "tried 1 time, 5 minutes ago, next try in 10 minutes"},
		{state.Row{Tries: 1, Seen: before(72 * time.Hour), NextTry: before(-10 * time.Minute)}, "tried 1 time, first seen 3 days ago, next try in 10 minutes"},
		{state.Row{Tries: 7, Seen: before(72 * time.Hour), NextTry: before(-5 * time.Hour)}, "tried 7 times, first 3 days ago, next try in 5 hours"},
		{state.Row{Tries: 7, NextTry: before(0)}, "tried 7 times, tried again by the next fetch"},
		{state.Row{Seen: before(72 * time.Hour), NextTry: before(0)}, "tried again by the next fetch"},
	} {
		var out strings.Builder
		writeTrouble(&out, state.Status{Account: "ada", Refused: []state.Row{test.row}}, now)
		if !strings.Contains(out.String(), "    "+test.want+"\n") {
			t.Errorf("got %q, want %q", out.String(), test.want)
		}
	}
}
