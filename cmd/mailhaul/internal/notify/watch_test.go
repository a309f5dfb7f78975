package notify_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/notify"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

var start = time.Unix(1_700_000_000, 0)

// poll is a poll of the account work, and the alerts that it must cause.
type poll struct {
	after     time.Duration // since start
	class     fetch.Class
	err       error // nil is "no answer" if class is worse than fetch.ClassRefused
	skipped   bool
	refused   []string // UIDs
	again     []string // UIDs that an earlier poll refused, too
	unwatched bool     // by a process without a Watch
	waiting   int      // messages that were refused before, and are not tried
	fetched   int
	want      string // the kinds of the alerts, with ! if they are urgent
}

const (
	minute = time.Minute
	hour   = time.Hour
	day    = 24 * time.Hour
	retry  = fetch.ClassRetry
	person = fetch.ClassOperator
	disk   = fetch.ClassMachine
)

// Errors that need a person. The first two have one cause, and differ in the text of
// the server.
var (
	rejected      = &pop3proto.ReplyError{Verb: "PASS", Code: pop3proto.CodeAuth, Text: "no, session 1"}
	rejectedAgain = &pop3proto.ReplyError{Verb: "PASS", Code: pop3proto.CodeAuth, Text: "no, session 2"}

	expired  = x509.CertificateInvalidError{Reason: x509.Expired}
	full     = &deliver.Error{Target: "imap://archive", Err: errors.New("quota"), Hint: "make room"}
	alsoFull = &deliver.Error{Target: "imap://second", Err: errors.New("quota"), Hint: "make room"}
)

// dead is a sink that cannot be reached.
var dead = &deliver.Error{Target: "imap://archive", Op: "connect", Err: errors.New("refused")}

// summaryOf returns the summary of a poll of the account work.
func summaryOf(at time.Time, class fetch.Class) fetch.Summary {
	s := fetch.Summary{Account: "work", Started: at, Ended: at, Class: class}
	if class == person {
		s.Err = errors.New("no")
	}
	return s
}

func TestWatch(t *testing.T) {
	for name, polls := range map[string][]poll{
		"no trouble": {{}, {after: minute}},
		"short trouble is not urgent": {
			{}, {after: hour, class: retry, want: "failing"}, {after: hour + minute, class: retry},
			{after: 2 * hour, want: "recovered since 1h0m0s"},
		},
		"trouble that lasts for days": {
			{}, {after: hour, class: retry, want: "failing"}, {after: 23 * hour, class: retry},
			{after: day + minute, class: retry, want: "still-failing!"}, {after: day + hour, class: retry},
			{after: 2*day + minute, class: retry, want: "still-failing!"},
			{after: 2*day + hour, want: "recovered! since 1h0m0s"}, {after: 2*day + 2*hour},
		},
		"no poll ever succeeded": {
			{class: retry, want: "failing!"}, {after: hour, class: retry},
			{after: day, class: retry, want: "still-failing!"}, {after: day + minute, want: "recovered! since 0s"},
		},
		"polled once a week": {{}, {after: 7 * day, class: retry, want: "failing!"}},
		"a failing sink that not all polls try": {
			{}, {after: hour, class: retry, err: dead, want: "failing"}, {after: hour + minute, waiting: 1},
			{after: 2 * hour, class: retry, err: dead, waiting: 1}, {after: day, waiting: 1},
			{after: day + 2*hour, class: retry, err: dead, waiting: 1, want: "still-failing!"}, {after: day + 3*hour, waiting: 1},
			{after: 2 * day, waiting: 1, fetched: 2, want: "recovered! since 1h0m0s"}, {after: 2*day + hour, waiting: 1},
		},
		"a failing sink that needs a person": {
			{}, {after: hour, class: person, err: dead, want: "needs-person!"}, {after: hour + minute, waiting: 1},
			{after: 2 * hour, class: person, err: dead, waiting: 1}, {after: 3 * hour, waiting: 1}, {after: 4 * hour, want: "recovered! since 1h0m0s"},
		},
		"a sink that never worked": {{class: retry, err: dead, want: "failing!"}, {after: minute, waiting: 1}, {after: hour, class: retry, err: dead}},
		"first the server fails, then a sink": {
			{}, {after: hour, class: retry, want: "failing"}, {after: hour + minute, class: retry, err: dead, waiting: 1},
			{after: 2 * hour, waiting: 1}, {after: 3 * hour, class: retry, err: dead, waiting: 1},
			{after: 4 * hour, fetched: 1, want: "recovered since 1h0m0s"},
		},
		"the server fails while refused messages wait": {
			{}, {after: hour, class: person, waiting: 1, want: "needs-person!"}, {after: 2 * hour, waiting: 1, want: "recovered! since 1h0m0s"},
		},
		"needs a person": {
			{}, {after: hour, class: person, want: "needs-person!"}, {after: 2 * hour, class: person},
			{after: 3 * hour, class: disk}, {after: 4 * hour, class: retry},
			{after: 25 * hour, class: person, want: "still-failing!"}, {after: 26 * hour, want: "recovered! since 1h0m0s"},
		},
		"first temporary, then needs a person": {
			{}, {after: hour, class: retry, want: "failing"}, {after: 2 * hour, class: person, want: "needs-person!"},
			{after: 3 * hour, class: retry}, {after: 27 * hour, class: retry, want: "still-failing!"},
		},
		"needs a person for several causes": {
			{}, {after: hour, class: person, err: rejected, want: "needs-person!"}, {after: 2 * hour, class: person, err: rejectedAgain},
			{after: 3 * hour, class: retry}, {after: 4 * hour, class: person, err: expired, want: "needs-person!"},
			{after: 5 * hour, class: person, err: expired}, {after: 6 * hour, class: person, err: rejected},
			{after: 27 * hour, class: person, err: rejected}, {after: 28 * hour, class: person, err: rejectedAgain, want: "still-failing!"},
			{after: 29 * hour, class: person, err: expired, want: "needs-person!"}, {after: 30 * hour, class: person, err: rejected},
			{after: 31 * hour, want: "recovered! since 1h0m0s"}, {after: 32 * hour, class: person, err: expired, want: "needs-person!"},
		},
		"needs a person for several sinks": {
			{}, {after: hour, class: person, err: full, want: "needs-person!"}, {after: 2 * hour, class: person, err: alsoFull, want: "needs-person!"},
			{after: 3 * hour, class: person, err: full}, {after: 4 * hour, waiting: 1}, {after: 5 * hour, class: person, err: alsoFull},
		},
		"needs a person, and a day later temporary": {
			{}, {after: hour, class: person, err: rejected, want: "needs-person!"}, {after: 25 * hour, class: retry, want: "still-failing!"},
			{after: 26 * hour, class: person, err: rejected},
		},
		"trouble comes back": {
			{}, {after: hour, class: person, want: "needs-person!"}, {after: 2 * hour, want: "recovered! since 1h0m0s"},
			{after: 3 * hour, class: person, want: "needs-person!"},
		},
		"trouble comes back after an unwatched success": {
			{}, {after: hour, class: person, want: "needs-person!"}, {after: 2 * hour, unwatched: true},
			{after: 3 * hour, class: person, want: "needs-person!"}, {after: 4 * hour, want: "recovered! since 3h0m0s"},
		},
		"an unwatched failure changes nothing": {
			{}, {after: hour, class: person, want: "needs-person!"}, {after: 2 * hour, class: person, unwatched: true}, {after: 3 * hour, class: person},
		},
		"inconclusive polls": {
			{}, {after: hour, class: person, want: "needs-person!"},
			{after: 2 * hour, err: &state.HeldError{}, skipped: true},
			{after: 3 * hour, class: retry, err: fmt.Errorf("hung up: %w", context.Canceled)},
			{after: 4 * hour, want: "recovered! since 1h0m0s"},
		},
		"last success by a clock that was ahead": {
			{after: 30 * day}, {after: hour, class: retry, want: "failing"}, {after: 2 * hour, class: retry},
			{after: 26 * hour, class: retry, want: "still-failing!"}, {after: 27 * hour, want: "recovered! since 1h0m0s"},
		},
		"last alert by a clock that was ahead": {
			{}, {after: hour, class: person, want: "needs-person!"}, {after: 365 * day, class: person, want: "still-failing!"},
			{after: 2 * hour, class: person, want: "still-failing!"}, {after: 3 * hour, class: person},
		},
		"trouble began by a clock that was ahead": {
			{}, {after: 365 * day, class: person, want: "needs-person!"}, {after: hour, class: person, want: "needs-person!"},
			{after: 2 * hour, class: person}, {after: 3 * hour, want: "recovered! since 1h0m0s"},
		},
		"a poll that the user stops": {
			{}, {after: hour, class: retry, err: fetch.ErrCutShort}, {after: 2 * hour},
		},
		"each refused message once": {
			{refused: []string{"a"}, class: fetch.ClassRefused, want: "refused! a"},
			{after: hour, again: []string{"a"}, class: fetch.ClassRefused},
			{after: 2 * hour, again: []string{"a"}, refused: []string{"b", "c"}, class: fetch.ClassRefused, want: "refused! b c"},
			{after: 3 * hour, refused: []string{"d"}, class: retry, want: "failing; refused! d"},
			{after: 4 * hour, refused: []string{"e"}, class: fetch.ClassRefused, want: "recovered since 3h0m0s; refused! e"},
			{after: 5 * hour, refused: []string{"", ""}, class: fetch.ClassRefused, want: "refused! "},
		},
	} {
		// The daemon watches all polls with one Watch; cron starts a process for each.
		for _, mode := range []string{"daemon", "cron"} {
			if mode == "daemon" && slices.ContainsFunc(polls, func(p poll) bool { return p.unwatched }) {
				continue // without fetch.Started it does not look for what other processes did
			}
			t.Run(name+"/"+mode, func(t *testing.T) {
				now, store := start, openStore(t)
				newWatch := func() *notify.Watch {
					w, err := notify.NewWatch(t.Context(), store, func() time.Time { return now })
					check(t, err)
					return w
				}
				w := newWatch()
				for i, p := range polls {
					now = start.Add(p.after)
					if mode == "cron" {
						w = newWatch()
					}
					if got := p.run(t, store, w, now); got != p.want {
						t.Errorf("poll %d: %q, want %q", i, got, p.want)
					}
				}
			})
		}
	}
}

// run passes the events of the poll to w, and records the poll in the state. It
// returns the kinds of the alerts and saves them.
func (p poll) run(t *testing.T, store *state.Store, w *notify.Watch, now time.Time) string {
	t.Helper()
	s := fetch.Summary{
		Account: "work", Started: now, Ended: now, Class: p.class, Err: p.err, Skipped: p.skipped, Refused: p.waiting, Fetched: p.fetched,
	}
	if p.class > fetch.ClassRefused && p.err == nil {
		s.Err = errors.New("no answer")
	}
	text := ""
	collect := func(alerts []notify.Alert) {
		for _, a := range alerts {
			if text != "" {
				text += "; "
			}
			text += string(a.Kind)
			if a.Urgent() {
				text += "!"
			}
			for _, r := range a.Refused {
				text += " " + r.UID
			}
			if a.Kind == notify.Recovered {
				text += " since " + a.Since.Sub(start).String()
			}
			if a.Remember {
				check(t, store.SaveTrouble(t.Context(), "work", a.Trouble))
			}
		}
	}
	for _, uid := range p.refused {
		collect(w.Observe(fetch.Refused{Account: "work", UID: uid, Reason: "bad"}))
	}
	for _, uid := range p.again {
		collect(w.Observe(fetch.Refused{Account: "work", UID: uid, Reason: "bad", Again: true}))
	}
	if !p.unwatched {
		collect(w.Observe(fetch.Finished{Summary: s}))
	}
	if !p.skipped {
		savePoll(t, store, s)
	}
	return text
}

// savePoll records the end of a poll of the account work, as fetch does.
func savePoll(t *testing.T, store *state.Store, s fetch.Summary) {
	t.Helper()
	record := state.Poll{Started: s.Started.Unix(), Ended: s.Ended.Unix(), Result: s.Class.String()}
	if s.Err != nil {
		record.Error = s.Err.Error()
	}
	check(t, store.SavePoll(t.Context(), "work", record))
}

func openStore(t *testing.T) *state.Store {
	t.Helper()
	store, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state"))
	check(t, err)
	t.Cleanup(func() { store.Close() })
	return store
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// However many causes the trouble has, the alerts of a day are few.
func TestWatchManyCauses(t *testing.T) {
	store := openStore(t)
	w, err := notify.NewWatch(t.Context(), store, func() time.Time { return start })
	check(t, err)
	alerts := 0
	for i := range 100 {
		s := summaryOf(start, person)
		s.Err = &deliver.Error{Target: fmt.Sprint("imap://", i), Hint: "make room"}
		alerts += len(w.Observe(fetch.Finished{Summary: s}))
	}
	if alerts != 8 {
		t.Errorf("%d alerts, want 8", alerts)
	}
}

// A poll that did not begin causes no alert. An account that the state does not know,
// since a reload of the configuration added it, does.
func TestWatchNewAccount(t *testing.T) {
	store := openStore(t)
	w, err := notify.NewWatch(t.Context(), store, func() time.Time { return start })
	check(t, err)
	s := fetch.Summary{Account: "new", Err: errors.New("not polled"), Class: retry}
	if got := w.Observe(fetch.Finished{Summary: s}); got != nil {
		t.Errorf("a poll that did not begin: %v", got)
	}
	s.Started, s.Ended = start, start
	want := []notify.Alert{{
		Kind: notify.Failing, Summary: s, Since: start, Level: notify.LevelLasting, Remember: true,
		Trouble: state.Trouble{Since: start.Unix(), Alerted: start.Unix(), Level: notify.LevelLasting},
	}}
	if diff := cmp.Diff(want, w.Observe(fetch.Finished{Summary: s}), cmpopts.IgnoreUnexported(fetch.Summary{}), cmp.Comparer(func(a, b error) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

// A daemon and the runs of other processes beside it send no alert twice: what one of
// them has sent, the other knows at its next poll. An alert that still waits to be
// sent counts, too.
func TestWatchBesideOthers(t *testing.T) {
	store := openStore(t)
	now := start
	newWatch := func() *notify.Watch {
		w, err := notify.NewWatch(t.Context(), store, func() time.Time { return now })
		check(t, err)
		return w
	}
	daemon := newWatch()
	var unmarked []notify.Alert
	for i, p := range []struct {
		daemon bool
		class  fetch.Class
		slow   bool // the alerts are marked only after the next poll
		want   string
	}{
		{daemon: true},
		{class: person, want: "needs-person"}, {daemon: true, class: person},
		{want: "recovered"}, {daemon: true},
		{daemon: true, class: person, want: "needs-person"}, {class: person},
		{daemon: true, want: "recovered"}, {},
		{class: person, want: "needs-person"}, {want: "recovered"}, {daemon: true, class: person, want: "needs-person"},
		{daemon: true, slow: true, want: "recovered"}, {daemon: true},
		{daemon: true, class: person, want: "needs-person"}, {daemon: true, class: person},
	} {
		now = now.Add(minute)
		w := daemon
		if !p.daemon {
			w = newWatch()
		}
		s := summaryOf(now, p.class)
		w.Observe(fetch.Started{Account: "work"})
		savePoll(t, store, s)
		got, sent := "", unmarked
		unmarked = nil
		for _, a := range w.Observe(fetch.Finished{Summary: s}) {
			got += string(a.Kind)
			if p.slow {
				unmarked = append(unmarked, a)
			} else {
				sent = append(sent, a)
			}
		}
		for _, a := range sent {
			check(t, w.MarkSent(a))
		}
		if got != p.want {
			t.Errorf("poll %d: %q, want %q", i, got, p.want)
		}
	}
}

// failingStore is a state that saves nothing while err is set.
type failingStore struct {
	*state.Store
	err error
}

func (s *failingStore) SaveTrouble(ctx context.Context, account string, t state.Trouble) error {
	if s.err != nil {
		return s.err
	}
	return s.Store.SaveTrouble(ctx, account, t)
}

// Alerts that were sent while the disk was full are recorded once it has room. From
// then on the Watch reads again what other processes have sent.
func TestWatchAfterFullDisk(t *testing.T) {
	store := openStore(t)
	now, failing := start, &failingStore{Store: store}
	newWatch := func() *notify.Watch {
		w, err := notify.NewWatch(t.Context(), failing, func() time.Time { return now })
		check(t, err)
		return w
	}
	daemon := newWatch()
	full := errors.New("the disk is full")
	for i, p := range []struct {
		daemon bool
		class  fetch.Class
		full   error
		want   string
	}{
		{daemon: true},
		{daemon: true, class: person, full: full, want: "needs-person"},
		{daemon: true, class: person, full: full},
		{daemon: true, class: person}, {class: person},
		{want: "recovered"}, {daemon: true},
	} {
		now = now.Add(minute)
		failing.err = p.full
		w := daemon
		if !p.daemon {
			w = newWatch()
		}
		s := summaryOf(now, p.class)
		got := ""
		for _, a := range slices.Concat(w.Observe(fetch.Started{Account: "work"}), w.Observe(fetch.Finished{Summary: s})) {
			got += string(a.Kind)
			if err := w.MarkSent(a); err != p.full {
				t.Errorf("poll %d: %v, want %v", i, err, p.full)
			}
		}
		if got != p.want {
			t.Errorf("poll %d: %q, want %q", i, got, p.want)
		}
	}
}
