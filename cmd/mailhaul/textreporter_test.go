package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
)

// The line of a finished poll says what was fetched, deleted and left, or why it failed.
func TestFinishedLine(t *testing.T) {
	began := time.Unix(1_700_000_000, 0)
	failure := errors.New("the cable is cut")
	for _, test := range []struct {
		summary fetch.Summary
		want    string
	}{
		{fetch.Summary{Started: began}, "nothing new"},
		{fetch.Summary{Started: began, Sessions: 1, Listed: 12, Fetched: 12, Octets: 3_565_158, Deleted: 12},
			"12 new messages (3.4 MB) → ~/Maildir; 12 deleted, 0 kept"},
		{fetch.Summary{Started: began, Sessions: 1, Listed: 30, Fetched: 1, Octets: 700},
			"1 new message (700 B) → ~/Maildir; 30 kept"},
		{fetch.Summary{Started: began, Sessions: 3, Listed: 500, Fetched: 2500, Octets: 1 << 30, Deleted: 2500},
			"2500 new messages (1.0 GB) → ~/Maildir; 2500 deleted"},
		{fetch.Summary{Started: began, Deleted: 4, ToDelete: 1, Refused: 2, TooLarge: 3, Class: fetch.ClassRefused},
			"nothing new; 4 deleted, 1 to be deleted next time, 2 refused (mailhaul status says why), 3 over max_size"},
		{fetch.Summary{Started: began, Sessions: 1, Listed: 3, Restored: 3, Deleted: 3},
			"nothing new; 3 there again that the server had deleted, 3 deleted"},
		{fetch.Summary{Started: began, Err: failure, Restored: 3, Class: fetch.ClassRetry}, "FAILED: the cable is cut"},
		{fetch.Summary{Started: began, Sessions: 1, Listed: 6, Fetched: 2, Octets: 70, Quarantined: 1, Dropped: 3, Deleted: 5},
			"2 new messages (70 B) → ~/Maildir; 1 of them in quarantine, 3 dropped by the filter, 5 deleted, 1 kept"},
		{fetch.Summary{Started: began, Sessions: 1, Listed: 4, Fetched: 4, Octets: 70, Quarantined: 4, Deleted: 4},
			"4 new messages (70 B); 4 of them in quarantine, 4 deleted, 0 kept"},
		{fetch.Summary{Started: began, Sessions: 1, Listed: 9, Fetched: 2, Octets: 70, Deleted: 2, Unfetched: 6},
			"2 new messages (70 B) → ~/Maildir; 2 deleted, 1 kept, 6 not fetched yet"},
		{fetch.Summary{Started: began, Sessions: 1, Listed: 9, Unfetched: 9}, "9 not fetched yet"},
		{fetch.Summary{Started: began, Sessions: 1, Listed: 3, Dropped: 3, Deleted: 3}, "3 new messages dropped by the filter; 3 deleted, 0 kept"},
		{fetch.Summary{Started: began, Err: failure, Dropped: 1, Class: fetch.ClassRetry},
			"FAILED after 1 new message dropped by the filter: the cable is cut"},
		{fetch.Summary{Started: began, Err: failure, Class: fetch.ClassRetry}, "FAILED: the cable is cut"},
		{fetch.Summary{Started: began, Err: failure, Fetched: 3, Octets: 2048, Class: fetch.ClassRetry},
			"FAILED after 3 new messages (2.0 kB) → ~/Maildir: the cable is cut"},
		{fetch.Summary{Started: began, Err: failure, Fetched: 3, Octets: 2048, Unfetched: 5, Class: fetch.ClassRetry},
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

// Accounts that were not polled before the run ended do not count as failed.
func TestTotal(t *testing.T) {
	began := time.Unix(1_700_000_000, 0)
	failed := fetch.Summary{Started: began, Err: errors.New("the cable is cut"), Class: fetch.ClassRetry}
	cut := fetch.Summary{Started: began, Sessions: 1, Listed: 3, Unfetched: 3}
	unpolled := fetch.Summary{Err: errors.New("not polled: asked to stop"), Class: fetch.ClassRetry}
	held := fetch.Summary{Skipped: true, Err: errors.New("another process polls it")}
	fine := fetch.Summary{Started: began, Fetched: 2, Octets: 70}
	poisoned := fetch.Summary{Started: began, Fetched: 1, Octets: 35, Refused: 3, Class: fetch.ClassRefused}
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

// Messages are named by their unique-ids, if they have any.
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
