package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mattn/go-runewidth"

	"github.com/mailhaul/mailhaul/fetch/state"
)

// The table fits 80 columns whatever the names, and problems follow it.
func TestStatusTable(t *testing.T) {
	now := time.Date(2026, 11, 28, 16, 0, 0, 0, time.UTC)
	at := func(ago time.Duration) int64 { return now.Add(-ago).Unix() }
	var out strings.Builder
	writeStatus(&out, []state.Status{
		{Account: "work", Last: &state.Poll{Ended: at(time.Minute), Result: "fine", Fetched: 12},
			Schedule: state.Schedule{Next: at(-4 * time.Minute), LastSuccess: at(time.Minute)}, Kept: 200, ToDelete: 3},
		{Account: "日本語のメールアカウントはとても長い名前を持つ", Last: &state.Poll{Ended: at(time.Hour), Result: "person",
			Error: "it is \x1b[2Jclosed", Hint: "open it"}, Schedule: state.Schedule{NotBefore: at(-time.Hour), LastSuccess: at(9 * 24 * time.Hour)}},
		{Account: "new"},
		{Account: "busy", Last: &state.Poll{Ended: at(0), Result: "refused"}, Schedule: state.Schedule{LastSuccess: at(0)}, Refused: []state.Row{
			{UID: "x", Size: 2048, Tries: 2, NextTry: at(-30 * time.Minute), Reason: "no\nroom"}}},
	}, now)
	want := `ACCOUNT                   RESULT   SUCCESS  NEXT   NEW  KEPT  TO DELETE  REFUSED
work                      ok       1m ago   in 4m   12   200          3        0
日本語のメールアカウン…   FAILED   9d ago   in 1h    0     0          0        0
new                       -        never    -        0     0          0        0
busy                      refused  0s ago   -        0     0          0        1

日本語のメールアカウントはとても長い名前を持つ: FAILED 1 hour ago: it is ?[2Jclosed
  hint: open it
  last success: 9 days ago

busy: 1 message on the server that could not be delivered
  "x" (2.0 kB): no; room
    tried 2 times, next try in 30 minutes
  the next fetch tries them after mailhaul state retry busy
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for line := range strings.Lines(out.String()) {
		if line == "\n" {
			break
		}
		if n := runewidth.StringWidth(line); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// The summary of many accounts names those that are not well, and no more than twenty.
func TestStatusSummary(t *testing.T) {
	now := time.Date(2026, 11, 28, 16, 0, 0, 0, time.UTC)
	well := func(name string, minutes int64) state.Status {
		return state.Status{Account: name, Last: &state.Poll{Ended: now.Unix() - 60*minutes, Result: "fine"}}
	}
	bad := func(name, result string) state.Status {
		return state.Status{Account: name, Last: &state.Poll{Ended: now.Unix(), Result: result, Error: "no"}}
	}
	many := []state.Status{bad("x\x1b", "retry")}
	for i := range 30 {
		many = append(many, bad(fmt.Sprintf("a%02d", i), "person"))
	}
	for want, all := range map[string][]state.Status{
		"": {bad("a", "person")},
		"2 accounts, all well; oldest poll 7 minutes ago":                         {well("a", 7), well("b", 2)},
		"4 accounts, 2 not well: b, d; 1 never polled: c; oldest poll 3 days ago": {well("a", 3*24*60), bad("b", "refused"), {Account: "c"}, bad("d", "machine")},
		"2 accounts, 2 never polled: a, b":                                        {{Account: "a"}, {Account: "b"}},
		"31 accounts, 31 not well: x?, a00, a01, a02, a03, a04, a05, a06, a07, a08, a09, a10, a11, a12, a13, a14, a15, a16, a17, a18 and 11 more; oldest poll 0 seconds ago": many,
	} {
		var out strings.Builder
		writeStatusSummary(&out, all, now)
		if got := strings.TrimSpace(out.String()); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// The history lists the last polls, and draws the messages of the last 30 days.
func TestHistory(t *testing.T) {
	now := time.Date(2026, 11, 28, 16, 0, 0, 0, time.Local)
	today := state.DayOf(now)
	var out strings.Builder
	writeHistory(&out, "work", history{
		polls: []state.Poll{
			{Started: now.Unix() - 60, Ended: now.Unix() - 58, Result: "fine", Fetched: 3, Octets: 5000},
			{Started: now.Unix() - 360, Ended: now.Unix() - 60, Result: "retry"},
		},
		days: []state.Day{
			{Day: today - 30, Fetched: 1000}, // before the 30 days
			{Day: today - 29, Fetched: 1}, {Day: today - 10, Fetched: 35}, {Day: today - 9, Polls: 3},
			{Day: today, Fetched: 70, Octets: 1 << 20},
		},
	}, now)
	want := `
work: the last 2 polls
  WHEN                 RESULT  FETCHED    SIZE  TOOK
  2026-11-28 15:59:00  ok            3  4.9 kB    2s
  2026-11-28 15:54:00  failed        0     0 B    5m
  ▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▅▁▁▁▁▁▁▁▁▁█  106 messages in 30 days (1.0 MB), at most 70 a day
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestSparkline(t *testing.T) {
	for want, numbers := range map[string][]int{
		"▁▁":       {0, 0},
		"▁█":       {0, 1},
		"▂▂█":      {1, 100, 1000},
		"▁▂▃▄▅▆▇█": {0, 1, 2, 3, 4, 5, 6, 7},
	} {
		if got := sparkline(numbers); got != want {
			t.Errorf("%v: %s, want %s", numbers, got, want)
		}
	}
}

// Numbers of any size leave the table within 80 columns.
func TestStatusFits80Columns(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	many := 1_234_567
	st := state.Status{
		Account: strings.Repeat("long", 16), Fetched: many, Kept: 99_999, ToDelete: many,
		Last: &state.Poll{Ended: now.Unix() - 59*60, Result: "person"},
	}
	var out strings.Builder
	writeStatus(&out, []state.Status{st, {Account: "ada"}}, now)
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// Failed polls, open deliveries and refused messages are described, with hints.
func TestStatusNamesWhatNeedsAttention(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	st := state.Status{
		Account: "work", Schedule: state.Schedule{LastSuccess: now.Unix() - 3*86400}, Open: 2,
		Last: &state.Poll{Ended: now.Unix() - 60, Result: "person", Error: "login refused", Hint: "check the password"},
		Refused: []state.Row{
			{UID: "a\x1b", Size: 2048, Reason: "no \x1b[2J", Tries: 2, NextTry: now.Unix() + 7200},
			{UID: "b", Size: 1, Reason: "bad", Tries: 1, NextTry: now.Unix() - 1},
			{UID: "\x00digest of a mail", Size: 1, Reason: "bad"},
		},
	}
	var out strings.Builder
	writeTrouble(&out, st, now)
	want := `
work: FAILED 1 minute ago: login refused
  hint: check the password
  last success: 3 days ago

work: 2 messages in delivery: a fetch is under way, or was cut off and the next one settles it

work: 3 messages on the server that could not be delivered
  "a\x1b" (2.0 kB): no ?[2J
    tried 2 times, next try in 2 hours
  "b" (1 B): bad
    tried 1 time, tried again by the next fetch
  a message without a unique-id, no-uid:646967657374206f662061206d61696c (1 B): bad
  the next fetch tries them after mailhaul state retry work
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
