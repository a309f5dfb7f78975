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

// lostQuit has the server delete at QUIT and the connection die before the reply.
var lostQuit = pop3test.LoseReply("QUIT", pop3test.Reset)

// A deletion of which nothing was recorded stays in doubt, whatever the next polls come
// to: a new message with the unique-id of the deleted one is fetched.
func TestUIDReuseAfterCrash(t *testing.T) {
	for _, test := range []struct {
		name  string
		keep  fetch.Keep
		saved bool         // the end of the poll is recorded, but not that its deletions were unconfirmed
		next  func(r *rig) // polls after that, or not
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
				r.mustPoll()
				r.advance(test.keep.For)
			}
			if test.saved {
				r.drop.Order(lostQuit.Session(1))
			}
			r.opts.State = &unrecorded{r.store, !test.saved}
			if s := r.poll(); !errors.Is(s.Err, errNotRecorded) || len(r.left()) > 0 {
				t.Fatalf("%v, left %q", s.Err, r.left())
			}
			r.opts.State = r.store
			r.drop.Add("u", []byte(message(2)))
			r.advance(time.Hour)
			test.next(r)
			r.advance(time.Hour)
			r.mustPoll()
			r.expectDelivered(message(1), message(2))
			r.advance(test.keep.For)
			r.mustPoll()
			r.expectMaildropEmpty()
		})
	}
}

// Look and Adopt see deletions that are in doubt after a crash as the next poll will.
func TestLookInDoubt(t *testing.T) {
	killed := func(n int) (r *rig, want []string) {
		r = newRig(t, pop3test.Behaviour{})
		want = r.fill(n)
		r.drop.Order(pop3test.Ignore("DELE", pop3test.Reset).Session(1))
		r.pollKilledAtQuit()
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
	r.mustPoll()
	r.expectDelivered(want...)
	r.expectRetrieved(2)
	r.expectMaildropEmpty()

	r, want = killed(4)
	r.renameUIDs()
	if found := r.adopt(); len(found.New) > 0 {
		t.Errorf("adopted %d messages that had landed", len(found.New))
	}
	r.mustPoll()
	r.expectDelivered(want...)
	r.expectMaildropEmpty()
}

// Deletions that the server has confirmed stay confirmed if a later session of the poll is
// killed.
func TestConfirmedDeletionsStayConfirmed(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.MaxMessages = 2
	want := r.fill(4)
	r.opts.State = &killedAfterLandings{r.store, 1}
	if s := r.poll(); !errors.Is(s.Err, errNotRecorded) || s.Deleted != 2 {
		t.Fatalf("%v, deleted %d", s.Err, s.Deleted)
	}
	r.opts.State = r.store
	r.mustPoll()
	r.expectDelivered(want...)
	r.expectMaildropEmpty()
	for _, row := range r.rows() {
		if row.Phase != state.Deleted || row.Missing != 0 {
			t.Errorf("%q is %v, missing %d", row.UID, row.Phase, row.Missing)
		}
	}
}

// A new message with the unique-id and the header of a deleted one, as programs send them,
// is not deleted unseen.
func TestUIDReuseWithSameHeader(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	first, second := "Message-ID: <cron@host>\nSubject: job\n\none\n", "Message-ID: <cron@host>\nSubject: job\n\nanother\n"
	r.drop.Add("1", []byte(first))
	r.mustPoll()
	r.advance(day)
	r.drop.Add("1", []byte(second))
	r.mustPoll()
	r.expectDelivered(first, second)
	r.advance(day)
	r.mustPoll()
	r.expectMaildropEmpty()
}

// Downloads that are made to compare messages are reported, but not by a dry run, which
// makes none.
func TestComparisonIsReported(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.fill(1)
	r.mustPoll()
	r.drop.Add("u1", []byte(message(2)))
	reports := func() (n int) {
		for _, e := range eventsOf[fetch.Noticed](r) {
			if strings.Contains(e.Text, "downloaded to be compared (1)") {
				n++
			}
		}
		return n
	}
	r.opts.DryRun = true
	r.poll()
	if n := reports(); n != 0 {
		t.Errorf("a dry run told %d times of downloads", n)
	}
	r.opts.DryRun = false
	r.poll()
	if n := reports(); n != 1 {
		t.Errorf("told %d times", n)
	}
}

// Where the server refuses all deletions, mail is not downloaded again to be compared.
func TestRefusedDeletionsCauseNoDownloads(t *testing.T) {
	for _, without := range [][]string{nil, {"TOP"}} {
		r := newRig(t, pop3test.Behaviour{Without: without})
		r.account.Keep, r.account.MaxMessages = fetch.Keep{For: 3 * day}, 2
		want := r.fill(4)
		r.mustPoll()
		r.advance(4 * day)
		r.drop.Order(pop3test.ReplyErr("DELE", "the mailbox is read-only"))
		for range 3 {
			if s := r.poll(); s.Sessions > 3 || s.Deleted != 0 {
				t.Errorf("without %q: %d sessions, %d deleted", without, s.Sessions, s.Deleted)
			}
			r.expectRetrieved(4)
			r.advance(day)
		}
		r.drop.ClearFaults()
		r.mustPoll()
		r.expectDelivered(want...)
		r.expectMaildropEmpty()
	}
}

// A new message that may be a known one has the pause of its own tries, and one row.
func TestComparedPoisonWaits(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	sink := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = poisonRefuser{sink, false}
	r.account.Keep.Forever = true
	r.drop.Add("gone", []byte("Subject: was fine\n\n"))
	r.mustPoll()
	r.drop.Remove("gone")
	r.drop.Add("bad", []byte("Subject: a poison\n\n"))
	r.drop.Order(pop3test.ReplyErr("RETR", "no").UID("bad").Session(2))
	for tries, pause := range []time.Duration{15 * time.Minute, time.Hour} {
		r.poll()
		if rows := r.rows(); len(rows) != 2 || rows[0].UID != "bad" || rows[0].Tries != tries+1 ||
			rows[0].NextTry != r.opts.Now().Add(pause).Unix() {
			t.Errorf("after try %d: %+v", tries+1, rows)
		}
		r.advance(pause)
	}
	r.account.Deliver[0].Sink = sink
	r.mustPoll()
	r.expectDelivered("Subject: a poison\n\n", "Subject: was fine\n\n")
}

// A message whose DELE was refused is still there; the others are deleted.
func TestOneDeletionRefused(t *testing.T) {
	for refused := range 3 {
		r := newRig(t, pop3test.Behaviour{})
		want := r.fill(3)
		r.drop.Order(pop3test.ReplyErr("DELE", "no").Nth(refused + 1).Session(1))
		if s := r.mustPoll(); s.Deleted != 2 || s.ToDelete != 1 || s.NotDeleted == nil {
			t.Errorf("%d deleted, %d wait: %v", s.Deleted, s.ToDelete, s.NotDeleted)
		}
		for i, row := range r.rows() {
			if landed := row.Phase == state.Landed; landed != (i == refused) {
				t.Errorf("message %d of 3 was refused, and %q is %v", refused+1, row.UID, row.Phase)
			}
		}
		r.mustPoll()
		r.expectDelivered(want...)
		r.expectMaildropEmpty()
	}
}

// A message that cannot be downloaded to be compared does not have the others compared
// again with each try.
func TestFailedComparisonRepeatsNoOther(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.account.Keep = fetch.Keep{For: 10 * day}
	r.fill(1)
	r.mustPoll()
	r.advance(9 * day)
	for i := range 4 {
		r.drop.Add(fmt.Sprint("v", i), []byte(message(10+i)))
	}
	r.mustPoll()
	r.advance(day)
	r.drop.Order(pop3test.ReplyErr("QUIT", "nothing was deleted").Session(r.drop.Sessions() + 1))
	r.poll()
	r.drop.Order(pop3test.ReplyErr("RETR", "no").UID("u1"))
	before := r.retrievals()
	for range 5 {
		r.advance(day)
		r.poll()
	}
	if n := r.retrievals() - before; n > 4+5 {
		t.Errorf("%d downloads to compare four messages once, and one that is not to be had five times", n)
	}
}

// Messages that one of two sinks refuses are known by their headers after the server has
// renumbered its mail, while their pause is not over.
func TestRenumberedInPause(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	archive, _ := r.newMaildir("archive")
	archive.Sink = poisonRefuser{archive.Sink, false}
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
	for range 6 { // the pauses grow meanwhile
		r.advance(day)
		r.poll()
	}
	for range 3 {
		add("")
	}
	r.numberUIDs()
	for range 3 {
		r.advance(20 * time.Minute)
		r.poll()
	}
	r.expectDelivered(want...)
	if left := r.left(); len(left) != 2 {
		t.Errorf("%q are left, not the two that are refused", left)
	}
}

// What was compared before the poll was cancelled is not compared again.
func TestComparingGoesOnAfterCancel(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP", "PIPELINING"}})
	r.account.Keep = fetch.Keep{Forever: true}
	want := r.fill(4)
	r.mustPoll()
	r.drop.SetUIDs(func(i int, _ string) string { return fmt.Sprint("new", i) })
	ctx, cancel := context.WithCancel(t.Context())
	r.drop.Order(pop3test.On("RETR", func(x *pop3test.Exchange) {
		cancel()
		x.Reply = strings.NewReader("")
	}).Nth(3).Session(r.drop.Sessions() + 1))
	r.account.Poll(ctx, r.opts)
	before := r.retrievals()
	r.retryInUse = true
	r.mustPoll()
	r.expectDelivered(want...)
	if n := r.retrievals() - before; n != 2 {
		t.Errorf("%d messages were compared again, want the 2 that were not", n)
	}
}

// A message whose delivery is not settled is not sent again, whatever unique-id it has by
// then.
func TestComparedWithUnsettled(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	home := r.account.Deliver[0].Sink
	want := r.fill(2)
	r.account.Deliver[0].Sink = unreported(home)
	r.poll()
	r.advance(day)
	r.drop.SetUIDs(func(i int, _ string) string { return fmt.Sprint("new", i) })
	r.account.Deliver[0].Sink = unsettling{home}
	r.poll()
	r.advance(day)
	r.account.Deliver[0].Sink = home
	for range 3 {
		r.poll()
		r.advance(day)
	}
	r.expectDelivered(want...)
	r.expectMaildropEmpty()
}

// unsettling is a sink that cannot settle its promises.
type unsettling struct{ deliver.Sink }

func (unsettling) Settle(context.Context, string) (deliver.Verdict, error) { return 0, errNoAnswer }
