package notify_test

import (
	"errors"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/notify"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// watchPoll passes the warnings of a poll of the account work and its end to a new
// Watch, as a process of its own does. It returns the alerts as describe words them, and
// saves what is to be remembered.
func watchPoll(t *testing.T, store *state.Store, now time.Time, warnings []fetch.Warned, s fetch.Summary, describe func(notify.Alert) string) string {
	t.Helper()
	w, err := notify.NewWatch(t.Context(), store, func() time.Time { return now })
	check(t, err)
	var alerts []notify.Alert
	for _, e := range warnings {
		alerts = append(alerts, w.Observe(e)...)
	}
	s.Account, s.Started, s.Ended = "work", now, now
	alerts = append(alerts, w.Observe(fetch.Finished{Summary: s})...)
	text := ""
	for _, a := range alerts {
		if a.Kind != "" {
			text += describe(a) + "!"
		}
		if a.Remember {
			check(t, store.SaveTrouble(t.Context(), "work", a.Trouble))
		}
	}
	return text
}

// A warning of the postpoll command and one of the filter do not hide each other. Only
// a poll in which the filter let mail through shows that the filter works.
func TestWatchUnfiltered(t *testing.T) {
	now := start
	store := openStore(t)
	command := fetch.Warned{Account: "work", Text: "postpoll: exit status 5"}
	filter := fetch.Warned{Account: "work", Text: "a message went on unfiltered", Filter: true}
	for i, p := range []struct {
		warned  []fetch.Warned
		summary fetch.Summary
		want    string
	}{
		{warned: []fetch.Warned{command}, want: "work: its postpoll fails!"},
		{warned: []fetch.Warned{filter, command}, summary: fetch.Summary{Fetched: 1}, want: "work: mail went on unfiltered!"},
		{warned: []fetch.Warned{command}},
		{summary: fetch.Summary{Fetched: 1, Quarantined: 1}},
		{warned: []fetch.Warned{filter, command}, summary: fetch.Summary{Fetched: 2}, want: "work: its postpoll fails!"},
		{warned: []fetch.Warned{command}, summary: fetch.Summary{Dropped: 1}},
		{warned: []fetch.Warned{filter, command}, summary: fetch.Summary{Fetched: 2}, want: "work: mail went on unfiltered!"},
		{summary: fetch.Summary{Class: person, Err: errors.New("no")}, want: "work fails and needs a person!"},
		{warned: []fetch.Warned{filter}, summary: fetch.Summary{Fetched: 2}, want: "work works again!"},
		{warned: []fetch.Warned{filter, command}, want: "work: its postpoll fails!"},
	} {
		now = now.Add(hour)
		if got := watchPoll(t, store, now, p.warned, p.summary, notify.Alert.String); got != p.want {
			t.Errorf("poll %d: %q, want %q", i, got, p.want)
		}
	}
}

// While each poll has the same warning, the alert is sent once a day, whether the polls
// succeed or not and whichever process watches them. After a poll without the warning,
// the next one is sent at once.
func TestWatchWarnings(t *testing.T) {
	store := openStore(t)
	for i, p := range []struct {
		after   time.Duration
		warned  bool
		summary fetch.Summary
		want    string
	}{
		{after: 0, warned: true, want: "warned!"},
		{after: hour, warned: true},
		{after: 2 * hour, summary: fetch.Summary{Skipped: true}}, // nothing was run
		{after: 2 * hour, summary: fetch.Summary{Would: new(fetch.Outlook)}},
		{after: 3 * hour, warned: true},
		{after: 4 * hour, warned: true, summary: fetch.Summary{Class: person, Err: errors.New("no")}, want: "needs-person!"},
		{after: 5 * hour, warned: true, want: "recovered!"},
		{after: 25 * hour, warned: true, want: "warned!"},
		{after: 26 * hour, want: ""}, // is remembered without an alert
		{after: 27 * hour, warned: true, want: "warned!"},
		{after: 28 * hour, summary: fetch.Summary{Class: person, Err: errors.New("no")}, want: "needs-person!"},
		{after: 29 * hour, warned: true, want: "warned!recovered!"},
		{after: 365 * day, warned: true, want: "warned!"}, // by a clock that is ahead
		{after: 30 * hour, warned: true, want: "warned!"},
		{after: 31 * hour, warned: true},
	} {
		var warned []fetch.Warned
		if p.warned {
			warned = []fetch.Warned{{Account: "work", Text: "postpoll: exit status 5"}}
		}
		got := watchPoll(t, store, start.Add(p.after), warned, p.summary, func(a notify.Alert) string { return string(a.Kind) })
		if got != p.want {
			t.Errorf("poll %d: %q, want %q", i, got, p.want)
		}
	}
}

// While the server does not delete mail, the alert is sent once a day, beside other
// alerts. It is over after a poll that deleted all that it was to delete; a poll that
// failed or had nothing to delete shows nothing.
func TestWatchUndeleted(t *testing.T) {
	store := openStore(t)
	readOnly, failed := errors.New("read only"), errors.New("no")
	for i, p := range []struct {
		after   time.Duration
		summary fetch.Summary
		want    string
	}{
		{after: 0, summary: fetch.Summary{NotDeleted: readOnly}, want: "work: its server would not delete mail!"},
		{after: hour, summary: fetch.Summary{NotDeleted: readOnly, Deleted: 1}},
		{after: 2 * hour, summary: fetch.Summary{Class: person, Err: failed}, want: "work fails and needs a person!"},
		{after: 3 * hour, summary: fetch.Summary{}, want: "work works again!"},
		{after: 4 * hour, summary: fetch.Summary{NotDeleted: readOnly}},
		{after: day, summary: fetch.Summary{NotDeleted: readOnly}, want: "work: its server would not delete mail!"},
		{after: 25 * hour, summary: fetch.Summary{Deleted: 1}},
		{after: 26 * hour, summary: fetch.Summary{NotDeleted: readOnly}, want: "work: its server would not delete mail!"},
		{after: 27 * hour, summary: fetch.Summary{Class: person, Err: failed}, want: "work fails and needs a person!"},
		{after: 51 * hour, summary: fetch.Summary{NotDeleted: readOnly}, want: "work: its server would not delete mail!work works again!"},
		{after: 52 * hour, summary: fetch.Summary{NotDeleted: readOnly}},
	} {
		got := watchPoll(t, store, start.Add(p.after), nil, p.summary, notify.Alert.String)
		if got != p.want {
			t.Errorf("poll %d: %q, want %q", i, got, p.want)
		}
	}
}
