package fetch_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// A poll fetches all messages, deletes them from the server, and leaves nothing for the
// next poll to do.
func TestFetchAndDelete(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(200)
	s := r.mustPoll()
	r.expectDelivered(want...)
	if s.Fetched != 200 || s.Deleted != 200 || s.ToDelete != 0 || len(r.left()) != 0 {
		t.Errorf("fetched %d, deleted %d, waiting %d, %d left", s.Fetched, s.Deleted, s.ToDelete, len(r.left()))
	}
	s = r.mustPoll()
	if s.Fetched != 0 || s.Deleted != 0 {
		t.Errorf("second poll: fetched %d, deleted %d", s.Fetched, s.Deleted)
	}
	r.expectDelivered(want...)
}

// A message stays on the server for as long as Keep says, counted from when it landed.
func TestKeepForDays(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep = fetch.Keep{For: 14 * day}
	want := r.fill(3)
	r.mustPoll()
	r.advance(10 * day)
	r.drop.Add("young", []byte("Subject: young\n\nyoung\n"))
	r.mustPoll()
	r.advance(4 * day)
	s := r.mustPoll()
	if got := r.left(); s.Deleted != 3 || !slices.Equal(got, []string{"young"}) {
		t.Errorf("deleted %d, left %q", s.Deleted, got)
	}
	r.expectDelivered(append(want, "Subject: young\n\nyoung\n")...)
}

// Keep.Due returns the time until which messages must have landed to be deleted now.
// Without Keep it is after every landing, also one that a clock ahead of time has noted.
func TestKeepDue(t *testing.T) {
	now := time.Unix(100*24*60*60, 0)
	const young, old, ahead = 99 * 24 * 60 * 60, 50 * 24 * 60 * 60, 1000 * 24 * 60 * 60
	for _, tc := range []struct {
		keep fetch.Keep
		due  []int64
	}{
		{fetch.Keep{}, []int64{old, young, ahead}},
		{fetch.Keep{For: 50 * day}, []int64{old}},
		{fetch.Keep{Forever: true}, nil},
	} {
		var due []int64
		for _, landed := range []int64{old, young, ahead} {
			if landed <= tc.keep.Due(now) {
				due = append(due, landed)
			}
		}
		if !slices.Equal(due, tc.due) {
			t.Errorf("%+v: due are %d, want %d", tc.keep, due, tc.due)
		}
	}
}

// No session takes more than MaxMessages; a poll runs as many sessions as it needs.
func TestSessionsAreCapped(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.MaxMessages = 7
	want := r.fill(20)
	s := r.mustPoll()
	r.expectDelivered(want...)
	if s.Sessions != 3 || s.Deleted != 20 {
		t.Errorf("%d sessions, deleted %d", s.Sessions, s.Deleted)
	}
}

// A dry run says what would be fetched, and changes nothing.
func TestDryRunChangesNothing(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.fill(3)
	r.opts.DryRun = true
	s := r.mustPoll()
	if w := s.Would; w == nil || w.Fetch != 3 || w.FetchOctets == 0 || s.Fetched != 0 {
		t.Errorf("would have been done: %+v, fetched %d", w, s.Fetched)
	}
	if _, err := os.Stat(r.dir); err == nil || len(r.rows()) != 0 || len(r.left()) != 3 {
		t.Errorf("something was changed: rows %v, left %q, %v", r.rows(), r.left(), err)
	}
	if st, err := r.store.Status(t.Context(), "work", 0); err != nil || st.Last != nil {
		t.Errorf("a poll was recorded: %+v, %v", st.Last, err)
	}
}

// Return-Path, Delivered-To and Received are added in front of a message. A Return-Path
// that it has stays the only one.
func TestAddedHeaders(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Deliver[0].Sink = hooked(r.account.Deliver[0].Sink, hooks{
		stage: func(ctx context.Context, b deliver.Batch, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
			defer r.advance(time.Second) // so that each message is received at another time
			return b.Stage(ctx, mail, body)
		},
	})
	r.account.Headers = fetch.Headers{Received: true, DeliveredTo: "me@home.example", ReturnPath: true}
	r.drop.Add("u", []byte("From: Bob <bob@example.net>\n\nhi\n"))
	r.drop.Add("v", []byte("Return-Path: <>\nFrom: <eve@example.net>\n\nho\n"))
	r.drop.Add("w", []byte("From: <carol@example.net>\n\nhum\n"))
	r.drop.Add("x", []byte("From: <dan@example.net>\n\nha\n"))
	r.mustPoll()
	wants := map[string]struct{ returnPath, time string }{
		"hi": {"Return-Path: <bob@example.net>\n", "12:00:00"}, "ho": {"Return-Path: <>\n", "12:00:01"},
		"hum": {"Return-Path: <carol@example.net>\n", "12:00:02"}, "ha": {"Return-Path: <dan@example.net>\n", "12:00:03"},
	}
	for _, got := range r.mail() {
		head, rest, _ := strings.Cut(got, "From: ")
		_, body, _ := strings.Cut(rest, "\n\n")
		want := wants[strings.TrimSpace(body)]
		for _, want := range []string{
			"Delivered-To: me@home.example\n",
			"Received: from [127.0.0.1] by here.example.org with POP3 (mailhaul account\n" +
				"\twork) for <alice@example.org>; Sun, 22 Nov 2026 " + want.time + " +0000\n",
			want.returnPath,
		} {
			if !strings.Contains(head, want) || strings.Count(head, "Return-Path") != 1 {
				t.Errorf("the message lacks %q, or has two Return-Paths:\n%s", want, got)
			}
		}
	}
	r.expectMaildropEmpty()
}

// Accounts that fail do not keep the others from being polled.
func TestOnceAccountsAreIndependent(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(3)
	wrong := *r.account
	wrong.Name, wrong.Secret = "wrong", func(context.Context) (string, error) { return "nope", nil }
	dead := *r.account
	dead.Name = "dead"
	dead.Server.Port = 1
	got := fetch.Once(t.Context(), fetch.Setup{Accounts: []*fetch.Account{&wrong, r.account, &dead}, Options: r.opts, Parallel: 2, PerHost: 2})
	r.expectDelivered(want...)
	for i, class := range []fetch.Class{fetch.ClassOperator, fetch.ClassFine, fetch.ClassRetry} {
		if got[i].Class != class {
			t.Errorf("account %s: %v (%v), want %v", got[i].Account, got[i].Class, got[i].Err, class)
		}
	}
	if err := got[0].Err; bytes.Contains([]byte(err.Error()), []byte("nope")) {
		t.Errorf("the error tells the password: %v", err)
	}
}

// A poll is skipped while another process holds the account's lease.
func TestOverlappingPollIsSkipped(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	lease, err := r.store.Lease(t.Context(), "work")
	check(t, err)
	s := r.poll()
	if !s.Skipped || s.Class != fetch.ClassFine || s.Sessions != 0 {
		t.Errorf("skipped %v, class %v, %d sessions", s.Skipped, s.Class, s.Sessions)
	}
	check(t, lease.Release())
	r.mustPoll()
}

// A poll that is drained commits and deletes what it has begun, and is recorded as cut
// short but not as a failure.
func TestDrainFinishesBatch(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Server.Window = 32
	r.fill(300)
	drain := make(chan struct{})
	r.opts.Drain = drain
	observe, once := r.opts.Observer, sync.Once{}
	r.opts.Observer = func(e fetch.Event) {
		observe(e)
		if _, ok := e.(fetch.Landed); ok {
			once.Do(func() { close(drain) })
		}
	}
	s := r.mustPoll()
	if s.Fetched == 0 || s.Fetched == 300 || s.Deleted != s.Fetched || len(r.left()) != 300-s.Fetched {
		t.Errorf("fetched %d, deleted %d, %d left", s.Fetched, s.Deleted, len(r.left()))
	}
	st, err := r.store.Status(t.Context(), "work", 0)
	check(t, err)
	if st.Last.Result != fetch.ClassRetry.String() || st.Last.Error != fetch.ErrCutShort.Error() || st.Schedule.Failures != 0 {
		t.Errorf("recorded was %+v; %d failures", st.Last, st.Schedule.Failures)
	}
}

// A poll that is cancelled once its plan is made fetches nothing, with or without mail.
func TestCancelBeforeFetching(t *testing.T) {
	for _, n := range []int{0, 3} {
		r := newRig(t, pop3test.Behaviour{})
		r.fill(n)
		ctx, hangUp := context.WithCancel(t.Context())
		r.opts.Observer = func(e fetch.Event) {
			if _, ok := e.(fetch.Planned); ok {
				hangUp()
			}
		}
		if s := r.account.Poll(ctx, r.opts); s.Class != fetch.ClassRetry || s.Fetched != 0 {
			t.Errorf("%d messages: %v: %v", n, s.Class, s.Err)
		}
	}
}
