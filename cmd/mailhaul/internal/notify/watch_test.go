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

// poll is a poll that ends so long after the start.
type poll struct {
	after   time.Duration
	class   fetch.Class
	err     error // of a class without trouble
	skipped bool
	refused []string // UIDs
	again   []string // those of messages that an earlier poll refused, too
	plain   bool     // by a process that watches nothing
	waiting int      // messages that were refused before, and are not tried
	fetched int
	want    string // the news, with ! if they are urgent
}

const (
	minute = time.Minute
	hour   = time.Hour
	day    = 24 * time.Hour
	fine   = fetch.ClassFine
	retry  = fetch.ClassRetry
	person = fetch.ClassOperator
	disk   = fetch.ClassMachine
)

// What takes a person, in two ways, of which a server tells one in changing words.
var (
	rejected = &pop3proto.ReplyError{Verb: "PASS", Code: pop3proto.CodeAuth, Text: "no, session 1"}
	again    = &pop3proto.ReplyError{Verb: "PASS", Code: pop3proto.CodeAuth, Text: "no, session 2"}
	expired  = x509.CertificateInvalidError{Reason: x509.Expired}
	full     = &deliver.Error{Target: "imap://archive", Err: errors.New("quota"), Hint: "make room"}
	alsoFull = &deliver.Error{Target: "imap://second", Err: errors.New("quota"), Hint: "make room"}
)

var dead = &deliver.Error{Target: "imap://archive", Op: "connect", Err: errors.New("refused")}

// polled is a poll of the account work that ended so.
func polled(at time.Time, class fetch.Class) fetch.Summary {
	s := fetch.Summary{Account: "work", Started: at, Ended: at, Class: class}
	if class == person {
		s.Err = errors.New("no")
	}
	return s
}

func TestWatch(t *testing.T) {
	for name, polls := range map[string][]poll{
		"all well": {{}, {after: minute}},
		"short trouble is not urgent": {
			{}, {after: hour, class: retry, want: "failing"}, {after: hour + minute, class: retry},
			{after: 2 * hour, want: "recovered since 1h0m0s"},
		},
		"trouble that lasts": {
			{}, {after: hour, class: retry, want: "failing"}, {after: 23 * hour, class: retry},
			{after: day + minute, class: retry, want: "still-failing!"}, {after: day + hour, class: retry},
			{after: 2*day + minute, class: retry, want: "still-failing!"},
			{after: 2*day + hour, want: "recovered! since 1h0m0s"}, {after: 2*day + 2*hour},
		},
		"never well": {
			{class: retry, want: "failing!"}, {after: hour, class: retry},
			{after: day, class: retry, want: "still-failing!"}, {after: day + minute, want: "recovered! since 0s"},
		},
		"polled once a week": {{}, {after: 7 * day, class: retry, want: "failing!"}},
		"a sink of several, tried now and then": {
			{}, {after: hour, class: retry, err: dead, want: "failing"}, {after: hour + minute, waiting: 1},
			{after: 2 * hour, class: retry, err: dead, waiting: 1}, {after: day, waiting: 1},
			{after: day + 2*hour, class: retry, err: dead, waiting: 1, want: "still-failing!"}, {after: day + 3*hour, waiting: 1},
			{after: 2 * day, waiting: 1, fetched: 2, want: "recovered! since 1h0m0s"}, {after: 2*day + hour, waiting: 1},
		},
		"a sink that needs a person, and then none": {
			{}, {after: hour, class: person, err: dead, want: "needs-person!"}, {after: hour + minute, waiting: 1},
			{after: 2 * hour, class: person, err: dead, waiting: 1}, {after: 3 * hour, waiting: 1}, {after: 4 * hour, want: "recovered! since 1h0m0s"},
		},
		"a sink that never worked": {{class: retry, err: dead, want: "failing!"}, {after: minute, waiting: 1}, {after: hour, class: retry, err: dead}},
		"a server, and then a sink": {
			{}, {after: hour, class: retry, want: "failing"}, {after: hour + minute, class: retry, err: dead, waiting: 1},
			{after: 2 * hour, waiting: 1}, {after: 3 * hour, class: retry, err: dead, waiting: 1},
			{after: 4 * hour, fetched: 1, want: "recovered since 1h0m0s"},
		},
		"a server, while messages wait": {
			{}, {after: hour, class: person, waiting: 1, want: "needs-person!"}, {after: 2 * hour, waiting: 1, want: "recovered! since 1h0m0s"},
		},
		"a person": {
			{}, {after: hour, class: person, want: "needs-person!"}, {after: 2 * hour, class: person},
			{after: 3 * hour, class: disk}, {after: 4 * hour, class: retry},
			{after: 25 * hour, class: person, want: "still-failing!"}, {after: 26 * hour, want: "recovered! since 1h0m0s"},
		},
		"first it may pass, then it takes a person": {
			{}, {after: hour, class: retry, want: "failing"}, {after: 2 * hour, class: person, want: "needs-person!"},
			{after: 3 * hour, class: retry}, {after: 27 * hour, class: retry, want: "still-failing!"},
		},
		"a person, for one reason after the other": {
			{}, {after: hour, class: person, err: rejected, want: "needs-person!"}, {after: 2 * hour, class: person, err: again},
			{after: 3 * hour, class: retry}, {after: 4 * hour, class: person, err: expired, want: "needs-person!"},
			{after: 5 * hour, class: person, err: expired}, {after: 6 * hour, class: person, err: rejected},
			{after: 27 * hour, class: person, err: rejected}, {after: 28 * hour, class: person, err: again, want: "still-failing!"},
			{after: 29 * hour, class: person, err: expired, want: "needs-person!"}, {after: 30 * hour, class: person, err: rejected},
			{after: 31 * hour, want: "recovered! since 1h0m0s"}, {after: 32 * hour, class: person, err: expired, want: "needs-person!"},
		},
		"a person for one sink, and then for another": {
			{}, {after: hour, class: person, err: full, want: "needs-person!"}, {after: 2 * hour, class: person, err: alsoFull, want: "needs-person!"},
			{after: 3 * hour, class: person, err: full}, {after: 4 * hour, waiting: 1}, {after: 5 * hour, class: person, err: alsoFull},
		},
		"a person, and a day later it may pass": {
			{}, {after: hour, class: person, err: rejected, want: "needs-person!"}, {after: 25 * hour, class: retry, want: "still-failing!"},
			{after: 26 * hour, class: person, err: rejected},
		},
		"trouble anew": {
			{}, {after: hour, class: person, want: "needs-person!"}, {after: 2 * hour, want: "recovered! since 1h0m0s"},
			{after: 3 * hour, class: person, want: "needs-person!"},
		},
		"trouble anew, and nobody watched it pass": {
			{}, {after: hour, class: person, want: "needs-person!"}, {after: 2 * hour, plain: true},
			{after: 3 * hour, class: person, want: "needs-person!"}, {after: 4 * hour, want: "recovered! since 3h0m0s"},
		},
		"somebody looked meanwhile": {
			{}, {after: hour, class: person, want: "needs-person!"}, {after: 2 * hour, class: person, plain: true}, {after: 3 * hour, class: person},
		},
		"what says nothing": {
			{}, {after: hour, class: person, want: "needs-person!"},
			{after: 2 * hour, err: &state.HeldError{}, skipped: true},
			{after: 3 * hour, class: retry, err: fmt.Errorf("hung up: %w", context.Canceled)},
			{after: 4 * hour, want: "recovered! since 1h0m0s"},
		},
		"it did well by a clock that was ahead": {
			{after: 30 * day}, {after: hour, class: retry, want: "failing"}, {after: 2 * hour, class: retry},
			{after: 26 * hour, class: retry, want: "still-failing!"}, {after: 27 * hour, want: "recovered! since 1h0m0s"},
		},
		"it was told by a clock that was ahead": {
			{}, {after: hour, class: person, want: "needs-person!"}, {after: 365 * day, class: person, want: "still-failing!"},
			{after: 2 * hour, class: person, want: "still-failing!"}, {after: 3 * hour, class: person},
		},
		"it began by a clock that was ahead": {
			{}, {after: 365 * day, class: person, want: "needs-person!"}, {after: hour, class: person, want: "needs-person!"},
			{after: 2 * hour, class: person}, {after: 3 * hour, want: "recovered! since 1h0m0s"},
		},
		"a stop is nobody's fault": {
			{}, {after: hour, class: retry, err: fetch.ErrCutShort}, {after: 2 * hour},
		},
		"refused messages, each once": {
			{refused: []string{"a"}, class: fetch.ClassRefused, want: "refused! a"},
			{after: hour, again: []string{"a"}, class: fetch.ClassRefused},
			{after: 2 * hour, again: []string{"a"}, refused: []string{"b", "c"}, class: fetch.ClassRefused, want: "refused! b c"},
			{after: 3 * hour, refused: []string{"d"}, class: retry, want: "failing; refused! d"},
			{after: 4 * hour, refused: []string{"e"}, class: fetch.ClassRefused, want: "recovered since 3h0m0s; refused! e"},
			{after: 5 * hour, refused: []string{"", ""}, class: fetch.ClassRefused, want: "refused! "},
		},
	} {
		// One process may see all polls, or each may be another's.
		for _, mode := range []string{"daemon", "cron"} {
			if mode == "daemon" && slices.ContainsFunc(polls, func(p poll) bool { return p.plain }) {
				continue // it looks up only once what others have done
			}
			t.Run(name+"/"+mode, func(t *testing.T) {
				ctx, now := t.Context(), start
				store, err := state.Open(ctx, filepath.Join(t.TempDir(), "state"))
				if err != nil {
					t.Fatal(err)
				}
				defer store.Close()
				watch := func() *notify.Watch {
					w, err := notify.NewWatch(ctx, store, func() time.Time { return now })
					if err != nil {
						t.Fatal(err)
					}
					return w
				}
				w := watch()
				for i, p := range polls {
					if now = start.Add(p.after); mode == "cron" {
						w = watch()
					}
					if got := p.run(t, store, w, now); got != p.want {
						t.Errorf("poll %d: %q, want %q", i, got, p.want)
					}
				}
			})
		}
	}
}

// run has the poll seen, and recorded as a poll records itself.
func (p poll) run(t *testing.T, store *state.Store, w *notify.Watch, now time.Time) string {
	t.Helper()
	s := fetch.Summary{
		Account: "work", Started: now, Ended: now, Class: p.class, Err: p.err, Skipped: p.skipped, Refused: p.waiting, Fetched: p.fetched,
	}
	if p.class > fetch.ClassRefused && p.err == nil {
		s.Err = errors.New("no answer")
	}
	text := ""
	say := func(all []notify.News) {
		for _, n := range all {
			if text != "" {
				text += "; "
			}
			text += string(n.Kind)
			if n.Urgent() {
				text += "!"
			}
			for _, r := range n.Refused {
				text += " " + r.UID
			}
			if n.Kind == notify.Recovered {
				text += " since " + n.Since.Sub(start).String()
			}
			if n.Remember {
				check(t, store.SaveTrouble(t.Context(), "work", n.Trouble))
			}
		}
	}
	for _, uid := range p.refused {
		say(w.See(fetch.Refused{Account: "work", UID: uid, Reason: "bad"}))
	}
	for _, uid := range p.again {
		say(w.See(fetch.Refused{Account: "work", UID: uid, Reason: "bad", Again: true}))
	}
	if !p.plain {
		say(w.See(fetch.Finished{Summary: s}))
	}
	if !p.skipped {
		record := state.Poll{Started: now.Unix(), Ended: now.Unix(), Result: s.Class.String()}
		if s.Err != nil {
			record.Error = s.Err.Error()
		}
		check(t, store.SavePoll(t.Context(), "work", record))
	}
	return text
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// However many causes trouble has, a few of them are told of in a day.
func TestWatchManyCauses(t *testing.T) {
	store, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state"))
	check(t, err)
	defer store.Close()
	w, err := notify.NewWatch(t.Context(), store, func() time.Time { return start })
	check(t, err)
	told := 0
	for i := range 100 {
		s := polled(start, person)
		s.Err = &deliver.Error{Target: fmt.Sprint("imap://", i), Hint: "make room"}
		told += len(w.See(fetch.Finished{Summary: s}))
	}
	if told != 8 {
		t.Errorf("told of %d causes, want 8", told)
	}
}

// A poll that did not begin, and one of an account that a reload brought.
func TestWatchOdd(t *testing.T) {
	store, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state"))
	check(t, err)
	defer store.Close()
	w, err := notify.NewWatch(t.Context(), store, func() time.Time { return start })
	check(t, err)
	s := fetch.Summary{Account: "new", Err: errors.New("its turn did not come"), Class: retry}
	if got := w.See(fetch.Finished{Summary: s}); got != nil {
		t.Errorf("a poll that did not begin: %v", got)
	}
	s.Started, s.Ended = start, start
	want := []notify.News{{
		Kind: notify.Failing, Summary: s, Since: start, Level: notify.Lasting, Remember: true,
		Trouble: state.Trouble{Since: start.Unix(), Told: start.Unix(), Level: notify.Lasting},
	}}
	if diff := cmp.Diff(want, w.See(fetch.Finished{Summary: s}), cmpopts.IgnoreUnexported(fetch.Summary{}), cmp.Comparer(func(a, b error) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

// A daemon and the runs beside it tell nothing twice: what one of them has told, the
// other knows at its next poll. What is only about to be told counts, too.
func TestWatchBesideOthers(t *testing.T) {
	store, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state"))
	check(t, err)
	defer store.Close()
	now := start
	watch := func() *notify.Watch {
		w, err := notify.NewWatch(t.Context(), store, func() time.Time { return now })
		check(t, err)
		return w
	}
	daemon := watch()
	var waiting []notify.News
	for i, p := range []struct {
		daemon bool
		class  fetch.Class
		slow   bool // what is told is remembered only after the next poll
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
			w = watch()
		}
		s := polled(now, p.class)
		w.See(fetch.Started{Account: "work"})
		record := state.Poll{Started: now.Unix(), Ended: now.Unix(), Result: s.Class.String()}
		if s.Err != nil {
			record.Error = s.Err.Error()
		}
		check(t, store.SavePoll(t.Context(), "work", record))
		got := ""
		told := waiting
		waiting = nil
		for _, n := range w.See(fetch.Finished{Summary: s}) {
			got += string(n.Kind)
			if p.slow {
				waiting = append(waiting, n)
			} else {
				told = append(told, n)
			}
		}
		for _, n := range told {
			check(t, w.Told(n))
		}
		if got != p.want {
			t.Errorf("poll %d: %q, want %q", i, got, p.want)
		}
	}
}

// faltering is a state that takes nothing for a while.
type faltering struct {
	*state.Store
	err error
}

func (f *faltering) SaveTrouble(ctx context.Context, account string, t state.Trouble) error {
	if f.err != nil {
		return f.err
	}
	return f.Store.SaveTrouble(ctx, account, t)
}

// What was told while the state took nothing is remembered once it does, and from
// then on what others tell is known again.
func TestWatchAfterFullDisk(t *testing.T) {
	store, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state"))
	check(t, err)
	defer store.Close()
	now, disk := start, &faltering{Store: store}
	watch := func() *notify.Watch {
		w, err := notify.NewWatch(t.Context(), disk, func() time.Time { return now })
		check(t, err)
		return w
	}
	daemon := watch()
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
		disk.err = p.full
		w := daemon
		if !p.daemon {
			w = watch()
		}
		s := polled(now, p.class)
		got := ""
		for _, n := range slices.Concat(w.See(fetch.Started{Account: "work"}), w.See(fetch.Finished{Summary: s})) {
			got += string(n.Kind)
			if err := w.Told(n); err != p.full {
				t.Errorf("poll %d: %v, want %v", i, err, p.full)
			}
		}
		if got != p.want {
			t.Errorf("poll %d: %q, want %q", i, got, p.want)
		}
	}
}
