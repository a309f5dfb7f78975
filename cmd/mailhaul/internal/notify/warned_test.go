package notify_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/notify"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// seen has a process of its own see the warnings of a poll and its end. It returns
// what is news, in the words of say, and has what is to be remembered saved.
func seen(t *testing.T, store *state.Store, now time.Time, warned []fetch.Warned, poll fetch.Summary, say func(notify.News) string) (said string) {
	t.Helper()
	w, err := notify.NewWatch(t.Context(), store, func() time.Time { return now })
	check(t, err)
	poll.Account, poll.Started, poll.Ended = "work", now, now
	var all []notify.News
	for _, e := range warned {
		all = append(all, w.See(e)...)
	}
	for _, n := range append(all, w.See(fetch.Finished{Summary: poll})...) {
		if n.Kind != "" {
			said += say(n) + "!"
		}
		if n.Remember {
			check(t, store.SaveTrouble(t.Context(), "work", n.Trouble))
		}
	}
	return said
}

// A warning of the command and one of the filter do not hide each other, and a
// poll that let no mail go on says nothing of the filter.
func TestWatchUnfiltered(t *testing.T) {
	now := start
	store, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state"))
	check(t, err)
	defer store.Close()
	command := fetch.Warned{Account: "work", Text: "postpoll: exit status 5"}
	filter := fetch.Warned{Account: "work", Text: "a message went on unfiltered", Filter: true}
	for i, p := range []struct {
		warned []fetch.Warned
		poll   fetch.Summary
		want   string
	}{
		{warned: []fetch.Warned{command}, want: "work: its postpoll fails!"},
		{warned: []fetch.Warned{filter, command}, poll: fetch.Summary{Fetched: 1}, want: "work: mail went on unfiltered!"},
		{warned: []fetch.Warned{command}},
		{poll: fetch.Summary{Fetched: 1, Quarantined: 1}},
		{warned: []fetch.Warned{filter, command}, poll: fetch.Summary{Fetched: 2}, want: "work: its postpoll fails!"},
		{warned: []fetch.Warned{command}, poll: fetch.Summary{Dropped: 1}},
		{warned: []fetch.Warned{filter, command}, poll: fetch.Summary{Fetched: 2}, want: "work: mail went on unfiltered!"},
		{poll: fetch.Summary{Class: person, Err: errors.New("no")}, want: "work fails and needs a person!"},
		{warned: []fetch.Warned{filter}, poll: fetch.Summary{Fetched: 2}, want: "work works again!"},
		{warned: []fetch.Warned{filter, command}, want: "work: its postpoll fails!"},
	} {
		now = now.Add(hour)
		if got := seen(t, store, now, p.warned, p.poll, notify.News.String); got != p.want {
			t.Errorf("poll %d: %q, want %q", i, got, p.want)
		}
	}
}

// A warning is told once a day for as long as it comes with each poll, whether
// these do well or not and whichever process sees them, and at once if it comes
// again.
func TestWatchWarnings(t *testing.T) {
	store, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state"))
	check(t, err)
	defer store.Close()
	for i, p := range []struct {
		after  time.Duration
		warned bool
		poll   fetch.Summary
		want   string
	}{
		{after: 0, warned: true, want: "warned!"},
		{after: hour, warned: true},
		{after: 2 * hour, poll: fetch.Summary{Skipped: true}}, // nothing was run
		{after: 2 * hour, poll: fetch.Summary{Would: new(fetch.Outlook)}},
		{after: 3 * hour, warned: true},
		{after: 4 * hour, warned: true, poll: fetch.Summary{Class: person, Err: errors.New("no")}, want: "needs-person!"},
		{after: 5 * hour, warned: true, want: "recovered!"},
		{after: 25 * hour, warned: true, want: "warned!"},
		{after: 26 * hour, want: ""}, // is remembered, and not told
		{after: 27 * hour, warned: true, want: "warned!"},
		{after: 28 * hour, poll: fetch.Summary{Class: person, Err: errors.New("no")}, want: "needs-person!"},
		{after: 29 * hour, warned: true, want: "warned!recovered!"},
		{after: 365 * day, warned: true, want: "warned!"}, // by a clock that is ahead
		{after: 30 * hour, warned: true, want: "warned!"},
		{after: 31 * hour, warned: true},
	} {
		var warned []fetch.Warned
		if p.warned {
			warned = []fetch.Warned{{Account: "work", Text: "postpoll: exit status 5"}}
		}
		got := seen(t, store, start.Add(p.after), warned, p.poll, func(n notify.News) string { return string(n.Kind) })
		if got != p.want {
			t.Errorf("poll %d: %q, want %q", i, got, p.want)
		}
	}
}

// That a server would not delete mail is told once a day for as long as that lasts,
// beside what else there is to tell, and at once if it comes again. It is over once a
// poll deleted all that it was to: one that failed, or had nothing to delete, shows
// nothing.
func TestWatchUndeleted(t *testing.T) {
	store, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state"))
	check(t, err)
	defer store.Close()
	no, failed := errors.New("read only"), errors.New("no")
	for i, p := range []struct {
		after time.Duration
		poll  fetch.Summary
		want  string
	}{
		{after: 0, poll: fetch.Summary{NotDeleted: no}, want: "work: its server would not delete mail!"},
		{after: hour, poll: fetch.Summary{NotDeleted: no, Deleted: 1}},
		{after: 2 * hour, poll: fetch.Summary{Class: person, Err: failed}, want: "work fails and needs a person!"},
		{after: 3 * hour, poll: fetch.Summary{}, want: "work works again!"},
		{after: 4 * hour, poll: fetch.Summary{NotDeleted: no}},
		{after: day, poll: fetch.Summary{NotDeleted: no}, want: "work: its server would not delete mail!"},
		{after: 25 * hour, poll: fetch.Summary{Deleted: 1}},
		{after: 26 * hour, poll: fetch.Summary{NotDeleted: no}, want: "work: its server would not delete mail!"},
		{after: 27 * hour, poll: fetch.Summary{Class: person, Err: failed}, want: "work fails and needs a person!"},
		{after: 51 * hour, poll: fetch.Summary{NotDeleted: no}, want: "work: its server would not delete mail!work works again!"},
		{after: 52 * hour, poll: fetch.Summary{NotDeleted: no}},
	} {
		got := seen(t, store, start.Add(p.after), nil, p.poll, notify.News.String)
		if got != p.want {
			t.Errorf("poll %d: %q, want %q", i, got, p.want)
		}
	}
}
