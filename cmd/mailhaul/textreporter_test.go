package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

func TestFinishedLine(t *testing.T) {
	began := time.Unix(1_700_000_000, 0)
	failure := errors.New("the cable is cut")
	for _, test := range []struct {
		summary fetch.Summary
		want    string
	}{
		{fetch.Summary{Started: began}, "nothing new"},
		{fetch.Summary{Started: began, Sessions: 1, Listed: 12, Fetched: 12, Bytes: 3_565_158, Deleted: 12},
			"12 new messages (3.4 MB) → ~/Maildir; 12 deleted, 0 kept"},
		{fetch.Summary{Started: began, Sessions: 1, Listed: 30, Fetched: 1, Bytes: 700},
			"1 new message (700 B) → ~/Maildir; 30 kept"},
		{fetch.Summary{Started: began, Sessions: 3, Listed: 500, Fetched: 2500, Bytes: 1 << 30, Deleted: 2500},
			"2500 new messages (1.0 GB) → ~/Maildir; 2500 deleted"},
		{fetch.Summary{Started: began, Deleted: 4, Waiting: 1, Refused: 2, TooLarge: 3, Class: fetch.ClassRefused},
			"nothing new; 4 deleted, 1 to be deleted next time, 2 refused (mailhaul status says why), 3 over max_size"},
		{fetch.Summary{Started: began, Sessions: 1, Listed: 3, Restored: 3, Deleted: 3},
			"nothing new; 3 there again that the server had deleted, 3 deleted"},
		{fetch.Summary{Started: began, Err: failure, Restored: 3, Class: fetch.ClassRetry}, "FAILED: the cable is cut"},
		{fetch.Summary{Started: began, Sessions: 1, Listed: 6, Fetched: 2, Bytes: 70, Quarantined: 1, Dropped: 3, Deleted: 5},
			"2 new messages (70 B) → ~/Maildir; 1 of them in quarantine, 3 dropped by the filter, 5 deleted, 1 kept"},
		{fetch.Summary{Started: began, Sessions: 1, Listed: 4, Fetched: 4, Bytes: 70, Quarantined: 4, Deleted: 4},
			"4 new messages (70 B); 4 of them in quarantine, 4 deleted, 0 kept"},
		{fetch.Summary{Started: began, Sessions: 1, Listed: 9, Fetched: 2, Bytes: 70, Deleted: 2, Unfetched: 6},
			"2 new messages (70 B) → ~/Maildir; 2 deleted, 1 kept, 6 not fetched yet"},
		{fetch.Summary{Started: began, Sessions: 1, Listed: 9, Unfetched: 9}, "9 not fetched yet"},
		{fetch.Summary{Started: began, Sessions: 1, Listed: 3, Dropped: 3, Deleted: 3}, "3 new messages dropped by the filter; 3 deleted, 0 kept"},
		{fetch.Summary{Started: began, Err: failure, Dropped: 1, Class: fetch.ClassRetry},
			"FAILED after 1 new message dropped by the filter: the cable is cut"},
		{fetch.Summary{Started: began, Err: failure, Class: fetch.ClassRetry}, "FAILED: the cable is cut"},
		{fetch.Summary{Started: began, Err: failure, Fetched: 3, Bytes: 2048, Class: fetch.ClassRetry},
			"FAILED after 3 new messages (2.0 kB) → ~/Maildir: the cable is cut"},
		{fetch.Summary{Started: began, Err: failure, Fetched: 3, Bytes: 2048, Unfetched: 5, Class: fetch.ClassRetry},
			"FAILED after 3 new messages (2.0 kB) → ~/Maildir; 5 not fetched yet: the cable is cut"},
		{fetch.Summary{Started: began, Err: failure, Unfetched: 5, Class: fetch.ClassRetry}, "FAILED: the cable is cut"},
		{fetch.Summary{Err: failure, Class: fetch.ClassRetry}, "the cable is cut"},
		{fetch.Summary{Started: began, Skipped: true, Err: failure}, "skipped: the cable is cut"},
		{fetch.Summary{Started: began, Would: &fetch.Outlook{Listed: 9, Fetch: 2, FetchOctets: 10, Delete: 3}},
			"would fetch 2 messages (10 B) → ~/Maildir; would delete 3 delivered before, 9 on the server"},
		{fetch.Summary{Started: began, Would: &fetch.Outlook{Listed: 9, Fetch: 2, FetchOctets: 10, DeleteFetched: true}},
			"would fetch 2 messages (10 B) → ~/Maildir and delete them; 9 on the server"},
		{fetch.Summary{Started: began, Would: &fetch.Outlook{Listed: 1, Fetch: 1, FetchOctets: 5, DeleteFetched: true}},
			"would fetch 1 message (5 B) → ~/Maildir and delete it; 1 on the server"},
		{fetch.Summary{Started: began, Would: &fetch.Outlook{Listed: 9}}, "would fetch nothing; 9 on the server"},
		{fetch.Summary{Started: began, Would: &fetch.Outlook{Listed: 9, Unclear: 2}}, "would fetch nothing; 2 without a unique-id left alone, 9 on the server"},
	} {
		var out strings.Builder
		text := &textReporter{out: &out, paint: painter(false), targets: map[string]string{"work": "~/Maildir"}}
		test.summary.Account = "work"
		text.observe(fetch.Finished{Summary: test.summary})
		got, _, _ := strings.Cut(out.String(), "\n")
		if want := "work: " + test.want; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// Accounts whose turn did not come when a run was ended have not failed.
func TestTotal(t *testing.T) {
	began := time.Unix(1_700_000_000, 0)
	failed := fetch.Summary{Started: began, Err: errors.New("the cable is cut"), Class: fetch.ClassRetry}
	cut := fetch.Summary{Started: began, Sessions: 1, Listed: 3, Unfetched: 3}
	unpolled := fetch.Summary{Err: errors.New("not polled: asked to stop"), Class: fetch.ClassRetry}
	held := fetch.Summary{Skipped: true, Err: errors.New("another process polls it")}
	fine := fetch.Summary{Started: began, Fetched: 2, Bytes: 70}
	poisoned := fetch.Summary{Started: began, Fetched: 1, Bytes: 35, Refused: 3, Class: fetch.ClassRefused}
	for _, test := range []struct {
		all  []fetch.Summary
		want string
	}{
		{[]fetch.Summary{fine, held}, "2 accounts, 2 new messages (70 B)"},
		{[]fetch.Summary{fine, failed}, "2 accounts, 2 new messages (70 B), 1 failed"},
		{[]fetch.Summary{fine, unpolled, unpolled}, "3 accounts, 2 new messages (70 B), 2 not polled"},
		{[]fetch.Summary{fine, cut, cut, unpolled}, "4 accounts, 2 new messages (70 B), 1 not polled, 6 not fetched yet"},
		{[]fetch.Summary{fine, poisoned, failed, poisoned}, "4 accounts, 4 new messages (140 B), 6 refused, 1 failed"},
		{[]fetch.Summary{failed, held, unpolled}, "3 accounts, 0 new messages, 1 failed, 1 not polled"},
	} {
		var out strings.Builder
		(&textReporter{out: &out}).total(test.all)
		if got := strings.TrimSpace(out.String()); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

func TestColour(t *testing.T) {
	for _, test := range []struct {
		terminal bool
		noColour string
		want     string
	}{{true, "", "\x1b[31mx\x1b[0m"}, {true, "1", "x"}, {false, "", "x"}} {
		t.Setenv("NO_COLOR", test.noColour)
		t.Setenv("TERM", "xterm")
		if got := painter(test.terminal)(red, "x"); got != test.want {
			t.Errorf("%+v: got %q", test, got)
		}
	}
}

// A message is called by its unique-id, if it has one.
func TestMessageOf(t *testing.T) {
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.Local)
	for want, e := range map[string]fetch.Event{
		`message "u\x1b" stays on the server: no, next try 2026-11-23 09:00:00`: fetch.Refused{UID: "u\x1b", Reason: "no", NextTry: at},
		`message "u" (1 B) → here`:                              fetch.Landed{UID: "u", Octets: 1, Where: "here"},
		"a message without a unique-id stays on the server: no": fetch.Refused{Reason: "no"},
		"a message without a unique-id went to bin: no":         fetch.Refused{Reason: "no", Quarantine: "bin"},
		"a message without a unique-id (1 B) → here":            fetch.Landed{Octets: 1, Where: "here"},
	} {
		if _, got := describeEvent(e); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// A server's text must not reach the terminal as anything but text.
func TestClean(t *testing.T) {
	if got := clean("a\x1b[2Jb\rc\n\u009bd\x7fé\xff"); got != "a?[2Jb?c; ?d?é?" {
		t.Errorf("got %q", got)
	}
}

func TestWords(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 kB", 10 << 10: "10 kB", 1000 << 10: "1.0 MB", 5 << 40: "5.0 TB", 1 << 62: "4194304 TB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		time.Second: "1 second", 119 * time.Minute: "1 hour", 47 * time.Hour: "47 hours", 48 * time.Hour: "2 days",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestOptionsFirst(t *testing.T) {
	for args, want := range map[string]string{
		"mailhaul":                                "mailhaul",
		"mailhaul --version":                      "mailhaul --version",
		"mailhaul fetch work -v":                  "mailhaul fetch -v work",
		"mailhaul fetch work --config f home -q":  "mailhaul fetch --config f -q work home",
		"mailhaul fetch work --config=f home":     "mailhaul fetch --config=f work home",
		"mailhaul fetch work -- -odd -v":          "mailhaul fetch -- work -odd -v",
		"mailhaul explain weird -- -x":            "mailhaul explain -- weird -x",
		"mailhaul state forget weird -y -- -x":    "mailhaul state forget -y -- weird -x",
		"mailhaul fetch -- work":                  "mailhaul fetch -- work",
		"mailhaul fetch work home --log-format":   "mailhaul fetch --log-format work home",
		"mailhaul demo --clean --into somewhere":  "mailhaul demo --clean --into somewhere",
		"mailhaul status work --json -c f - home": "mailhaul status --json -c f work - home",
		"mailhaul fetsh work -v":                  "mailhaul fetsh work -v",
		"mailhaul fetch work -q --help":           "mailhaul fetch --help",
		"mailhaul fetch -nq work":                 "mailhaul fetch -n -q work",
		"mailhaul fetch work -nvc f home":         "mailhaul fetch -n -v -c f work home",
		"mailhaul fetch work -cn f":               "mailhaul fetch -cn work f",
		"mailhaul fetch -nc=f work":               "mailhaul fetch -nc=f work",
		"mailhaul fetch -nx work":                 "mailhaul fetch -nx work",
		"mailhaul fetch -keep --nq -":             "mailhaul fetch -keep --nq -",
		"mailhaul fetch --log-format -nq":         "mailhaul fetch --log-format -nq",
		"mailhaul fetch -- -nq":                   "mailhaul fetch -- -nq",
		"mailhaul fetch -nh work":                 "mailhaul fetch --help",
		"mailhaul state forget -yc f work":        "mailhaul state forget -y -c f work",
		"mailhaul fetch -- work -h":               "mailhaul fetch -- work -h",
		"mailhaul help -h fetch":                  "mailhaul help -h fetch",
		"mailhaul --help fetch":                   "mailhaul help fetch",
		"mailhaul --version fetch":                "mailhaul --version",
	} {
		if got := strings.Join(moveOptionsFirst(newApp(stdio{}), strings.Fields(args)), " "); got != want {
			t.Errorf("%s became %s, want %s", args, got, want)
		}
	}
}

func TestStatusFits80Columns(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	many := 1_234_567
	st := state.Status{
		Account: strings.Repeat("long", 16), Fetched: many, Kept: 99_999, Waiting: many,
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
