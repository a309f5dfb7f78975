package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// lost deletes, and nobody hears of it.
var lost = pop3test.LoseReply("QUIT", pop3test.Reset)

// forgetful fails to note what became of a deletion, as a process does that finds
// the disk full, or one that is killed once the server has confirmed it.
type forgetful struct {
	*state.Store
	killed bool // nothing is noted at all
}

var errForgot = errors.New("nobody noted it")

func (s *forgetful) Undelete(context.Context, string) error { return errForgot }

func (s *forgetful) SavePoll(ctx context.Context, account string, p state.Poll) error {
	if s.killed {
		return errForgot
	}
	return s.Store.SavePoll(ctx, account, p)
}

// What was deleted and not noted stays in doubt, whatever the next polls come to.
func TestUIDReuseAfterCrash(t *testing.T) {
	for _, test := range []struct {
		name  string
		keep  fetch.Keep
		saved bool         // the poll that deleted it is on record, but the server did not confirm it
		next  func(r *rig) // the poll after it
	}{
		{name: "the next poll fetches it", next: func(*rig) {}},
		{name: "the next poll finds no listing", next: func(r *rig) {
			r.drop.Order(pop3test.Ignore("STAT", pop3test.HangUp).Session(2))
			r.poll()
		}},
		{name: "the next poll is not to fetch it", next: func(r *rig) {
			r.account.MaxSize = 10
			r.poll()
			r.account.MaxSize = 0
		}},
		{name: "only the database was in trouble", saved: true, next: func(*rig) {}},
		{name: "it was kept for a time", keep: fetch.Keep{For: 14 * day}, next: func(*rig) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pop3test.Behaviour{})
			r.account.Keep = test.keep
			r.drop.Add("u", []byte(message(1)))
			if test.keep.For > 0 {
				r.succeed()
				r.later(test.keep.For)
			}
			if test.saved {
				r.drop.Order(lost.Session(1))
			}
			r.opts.State = &forgetful{r.store, !test.saved}
			if s := r.poll(); !errors.Is(s.Err, errForgot) || len(r.left()) > 0 {
				t.Fatalf("%v, left %q", s.Err, r.left())
			}
			r.opts.State = r.store
			r.drop.Add("u", []byte(message(2)))
			r.later(time.Hour)
			test.next(r)
			r.later(time.Hour)
			r.succeed()
			r.expect(message(1), message(2))
			r.later(test.keep.For)
			r.succeed()
			r.expectEmpty()
		})
	}
}

// What was in doubt when a poll was killed is looked at as the next poll will.
func TestLookInDoubt(t *testing.T) {
	killed := func(n int) (r *rig, want []string) {
		r = newRig(t, pop3test.Behaviour{})
		want = r.fill(n)
		r.drop.Order(pop3test.Ignore("DELE", pop3test.Reset).Session(1))
		r.opts.State = &forgetful{r.store, true}
		r.poll()
		r.opts.State = r.store
		return r, want
	}
	r, want := killed(2)
	sight, err := r.account.Look(t.Context(), r.opts, nil)
	check(t, err)
	for _, m := range sight.Messages {
		if m.Fate != fetch.FateDelete {
			t.Errorf("%q: %v", m.UID, m.Fate)
		}
	}
	r.succeed()
	r.expect(want...)
	r.expectRetrieved(2)
	r.expectEmpty()

	r, want = killed(4)
	r.drop.SetUIDs(func(_ int, old string) string { return "new-" + old })
	if found := r.adopt(); len(found.New) > 0 {
		t.Errorf("adopted %d messages that had landed", len(found.New))
	}
	r.succeed()
	r.expect(want...)
	r.expectEmpty()
}

// mortal is killed after some landings.
type mortal struct {
	*state.Store
	landings int
}

func (m *mortal) Land(ctx context.Context, account string, at int64, ls []state.Landing) error {
	if m.landings--; m.landings < 0 {
		return errForgot
	}
	return m.Store.Land(ctx, account, at, ls)
}

func (m *mortal) SavePoll(context.Context, string, state.Poll) error { return errForgot }

// What the server has confirmed stays so if a later session of the poll is killed.
func TestConfirmedBySession(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.MaxMessages = 2
	want := r.fill(4)
	r.opts.State = &mortal{r.store, 1}
	if s := r.poll(); !errors.Is(s.Err, errForgot) || s.Deleted != 2 {
		t.Fatalf("%v, deleted %d", s.Err, s.Deleted)
	}
	r.opts.State = r.store
	r.succeed()
	r.expect(want...)
	r.expectEmpty()
	for _, row := range r.rows() {
		if row.Phase != state.Deleted || row.Missing != 0 {
			t.Errorf("%q is %v, missing %d", row.UID, row.Phase, row.Missing)
		}
	}
}

// A program's messages may differ in nothing but their bodies. One that has the
// unique-id of one that was deleted is not deleted unseen.
func TestUIDReuseUnderOneHeader(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	first, second := "Message-ID: <cron@host>\nSubject: job\n\none\n", "Message-ID: <cron@host>\nSubject: job\n\nanother\n"
	r.drop.Add("1", []byte(first))
	r.succeed()
	r.later(day)
	r.drop.Add("1", []byte(second))
	r.succeed()
	r.expect(first, second)
	r.later(day)
	r.succeed()
	r.expectEmpty()
}

// What is downloaded to be compared is told of, unless nothing is.
func TestTellsOfComparison(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.fill(1)
	r.succeed()
	r.drop.Add("u1", []byte(message(2)))
	told := func() (n int) {
		for _, e := range eventsOf[fetch.Noticed](r) {
			if strings.Contains(e.Text, "downloaded to be compared (1)") {
				n++
			}
		}
		return n
	}
	r.opts.DryRun = true
	r.poll()
	if n := told(); n != 0 {
		t.Errorf("a dry run told %d times of downloads", n)
	}
	r.opts.DryRun = false
	r.poll()
	if n := told(); n != 1 {
		t.Errorf("told %d times", n)
	}
}

// A server that lets nobody delete has its mail compared no more than once.
func TestDeletionsRefused(t *testing.T) {
	for _, without := range [][]string{nil, {"TOP"}} {
		r := newRig(t, pop3test.Behaviour{Without: without})
		r.account.Keep, r.account.MaxMessages = fetch.Keep{For: 3 * day}, 2
		want := r.fill(4)
		r.succeed()
		r.later(4 * day)
		r.drop.Order(pop3test.ReplyErr("DELE", "the mailbox is read-only"))
		for range 3 {
			if s := r.poll(); s.Sessions > 3 || s.Deleted != 0 {
				t.Errorf("without %q: %d sessions, %d deleted", without, s.Sessions, s.Deleted)
			}
			r.expectRetrieved(4)
			r.later(day)
		}
		r.drop.ClearFaults()
		r.succeed()
		r.expect(want...)
		r.expectEmpty()
	}
}

// A message that may be one which is gone, and is another, waits as long as its own tries
// say, and nothing is remembered of it twice.
func TestComparedPoisonWaits(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	sink := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = picky{sink, false}
	r.account.Keep.Forever = true
	r.drop.Add("gone", []byte("Subject: was fine\n\n"))
	r.succeed()
	r.drop.Remove("gone")
	r.drop.Add("bad", []byte("Subject: a poison\n\n"))
	r.drop.Order(pop3test.ReplyErr("RETR", "no").UID("bad").Session(2))
	for tries, pause := range []time.Duration{15 * time.Minute, time.Hour} {
		r.poll()
		if rows := r.rows(); len(rows) != 2 || rows[0].UID != "bad" || rows[0].Tries != tries+1 ||
			rows[0].NextTry != r.opts.Now().Add(pause).Unix() {
			t.Errorf("after try %d: %+v", tries+1, rows)
		}
		r.later(pause)
	}
	r.account.Deliver[0].Sink = sink
	r.succeed()
	r.expect("Subject: a poison\n\n", "Subject: was fine\n\n")
}

// What the server would not delete is still here, and the rest is not.
func TestOneDeletionRefused(t *testing.T) {
	for refused := range 3 {
		r := newRig(t, pop3test.Behaviour{})
		want := r.fill(3)
		r.drop.Order(pop3test.ReplyErr("DELE", "no").Nth(refused + 1).Session(1))
		if s := r.succeed(); s.Deleted != 2 || s.Waiting != 1 || s.NotDeleted == nil {
			t.Errorf("%d deleted, %d wait: %v", s.Deleted, s.Waiting, s.NotDeleted)
		}
		for i, row := range r.rows() {
			if landed := row.Phase == state.Landed; landed != (i == refused) {
				t.Errorf("message %d of 3 was refused, and %q is %v", refused+1, row.UID, row.Phase)
			}
		}
		r.succeed()
		r.expect(want...)
		r.expectEmpty()
	}
}

// Nor is all mail compared again with each try at one that is not to be had.
func TestDoubtOverWhatIsRefused(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.account.Keep = fetch.Keep{For: 10 * day}
	r.fill(1)
	r.succeed()
	r.later(9 * day)
	for i := range 4 {
		r.drop.Add(fmt.Sprint("v", i), []byte(message(10+i)))
	}
	r.succeed()
	r.later(day)
	r.drop.Order(pop3test.ReplyErr("QUIT", "nothing was deleted").Session(r.drop.Sessions() + 1))
	r.poll()
	r.drop.Order(pop3test.ReplyErr("RETR", "no").UID("u1"))
	before := r.retrieved()
	for range 5 {
		r.later(day)
		r.poll()
	}
	if n := r.retrieved() - before; n > 4+5 {
		t.Errorf("%d downloads to compare four messages once, and one that is not to be had five times", n)
	}
}

// Messages that one of two sinks refuses are known by their headers when the server
// numbers its mail anew, though their pause is not over.
func TestRenumberedInPause(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	archive, _ := r.another("archive")
	archive.Sink = picky{archive.Sink, false}
	r.account.Deliver = append(r.account.Deliver, archive)
	var want []string
	add := func(more string) {
		n := len(want) + 1
		want = append(want, message(n)+more)
		r.drop.Add(strconv.Itoa(n), []byte(want[n-1]))
	}
	for _, more := range []string{"", "poison\n", "", "", "poison\n"} {
		add(more)
	}
	for range 6 { // until the pauses are long
		r.later(day)
		r.poll()
	}
	for range 3 {
		add("")
	}
	r.drop.SetUIDs(func(i int, _ string) string { return strconv.Itoa(i + 1) })
	for range 3 {
		r.later(20 * time.Minute)
		r.poll()
	}
	r.expect(want...)
	if left := r.left(); len(left) != 2 {
		t.Errorf("%q are left, not the two that are refused", left)
	}
}

// What was compared before the poll was called off is not compared again.
func TestComparingIsCalledOff(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP", "PIPELINING"}})
	r.account.Keep = fetch.Keep{Forever: true}
	want := r.fill(4)
	r.succeed()
	r.drop.SetUIDs(func(i int, _ string) string { return fmt.Sprint("new", i) })
	ctx, cancel := context.WithCancel(t.Context())
	r.drop.Order(pop3test.On("RETR", func(x *pop3test.Exchange) {
		cancel()
		x.Reply = strings.NewReader("")
	}).Nth(3).Session(r.drop.Sessions() + 1))
	r.account.Poll(ctx, r.opts)
	before := r.retrieved()
	r.patient = true
	r.succeed()
	r.expect(want...)
	if n := r.retrieved() - before; n != 2 {
		t.Errorf("%d messages were compared again, want the 2 that were not", n)
	}
}

// A copy of which a sink has yet to say whether it has it is not sent again, by
// whatever name it is listed now.
func TestComparedWithUnanswered(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	home := r.account.Deliver[0].Sink
	want := r.fill(2)
	r.account.Deliver[0].Sink = &batched{home, func(b deliver.Batch) deliver.Batch {
		return reliant{b, func(func(deliver.Receipt) error) error {
			check(t, b.Commit(t.Context(), func(deliver.Receipt) error { return nil }))
			return errSilent
		}}
	}}
	r.poll()
	r.later(day)
	r.drop.SetUIDs(func(i int, _ string) string { return fmt.Sprint("new", i) })
	r.account.Deliver[0].Sink = unasked{home}
	r.poll()
	r.later(day)
	r.account.Deliver[0].Sink = home
	for range 3 {
		r.poll()
		r.later(day)
	}
	r.expect(want...)
	r.expectEmpty()
}

// unasked is a sink that cannot say what it has.
type unasked struct{ deliver.Sink }

func (unasked) Settle(context.Context, string) (deliver.Verdict, error) { return 0, errSilent }
