package fetch_test

import (
	"context"
	"testing"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// What landed is counted and reported once: by the poll that knew of it, or by the next
// one if that poll was killed before it could.
func TestLandingsOfKilledPollAreCountedOnce(t *testing.T) {
	const n = 100
	// expect polls, and compares what is reported and what is recorded.
	expect := func(r *rig, fetched int) {
		t.Helper()
		s := r.mustPoll()
		polls, err := r.store.Polls(t.Context(), "work", 1)
		check(t, err)
		if s.Fetched != fetched || polls[0].Fetched != fetched || (s.Octets > 0) != (fetched > 0) || polls[0].Octets != s.Octets {
			t.Errorf("fetched %d, %d bytes, noted %+v, want %d", s.Fetched, s.Octets, polls[0], fetched)
		}
	}
	expectReported := func(r *rig) (octets int64) {
		uids := map[string]bool{}
		for _, e := range eventsOf[fetch.Landed](r) {
			if uids[e.UID] || e.Where == "" || e.Sink != "home" {
				t.Errorf("told %+v, again %v", e, uids[e.UID])
			}
			uids[e.UID] = true
			octets += e.Octets
		}
		if len(uids) != n {
			t.Errorf("told of %d messages", len(uids))
		}
		return octets
	}

	t.Run("crash after the promise", func(t *testing.T) {
		r := newRig(t, pop3test.Behaviour{})
		home := r.account.Deliver[0].Sink
		r.account.Deliver[0].Sink = unreported(home)
		want := r.fill(n)
		first := r.poll()
		if first.Class != fetch.ClassRetry || first.Fetched != 0 {
			t.Errorf("%v, fetched %d: %v", first.Class, first.Fetched, first.Err)
		}
		r.account.Deliver[0].Sink = home
		expect(r, n)
		if s := r.poll(); s.Fetched != 0 {
			t.Errorf("fetched %d again", s.Fetched)
		}
		r.expectDelivered(want...)
		r.expectMaildropEmpty()
		expectReported(r)
	})
	for batches := range 3 {
		r := newRig(t, pop3test.Behaviour{})
		want := r.fill(n)
		r.opts.State = &killedAfterLandings{r.store, batches}
		r.poll()
		r.opts.State = r.store
		var octets int64
		r.account.Postpoll = func(_ context.Context, s fetch.Summary) error { octets += s.Octets; return nil }
		expect(r, n)
		expect(r, 0)
		r.expectDelivered(want...)
		r.expectMaildropEmpty()
		if all := expectReported(r); octets != all {
			t.Errorf("killed after %d batches: %d octets were told of, not %d", batches, octets, all)
		}
	}
}

// A message counts as fetched once all sinks have it.
func TestCountedOnceAllSinksHaveIt(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	archive, archived := r.newMaildir("archive")
	up := archive.Sink
	archive.Sink = unanswering{up}
	home := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = unreported(home)
	r.account.Deliver = append(r.account.Deliver, archive)
	want := r.fill(3)
	r.poll()
	r.account.Deliver[0].Sink = home
	if s := r.poll(); s.Fetched != 0 || s.Octets != 0 {
		t.Errorf("fetched %d, %d bytes, though the archive has none of it", s.Fetched, s.Octets)
	}
	r.account.Deliver[1].Sink = up
	r.advance(day)
	if s := r.mustPoll(); s.Fetched != 3 {
		t.Errorf("fetched %d", s.Fetched)
	}
	r.expectDelivered(want...)
	expectMail(t, "the archive", archived(), want...)
	r.expectMaildropEmpty()
}

// A message that one of two sinks has counts as fetched once the other one is removed from
// the account.
func TestCountedOnceMissingSinkIsRemoved(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	second, _ := r.newMaildir("second")
	r.account.Deliver = append(r.account.Deliver, fetch.Target{Name: second.Name, Sink: poisonRefuser{second.Sink, false}})
	poison := "Subject: poison\n\npoison\n"
	r.drop.Add("u", []byte(poison))
	if s := r.poll(); s.Fetched != 0 || s.Refused != 1 {
		t.Errorf("%d fetched, %d refused", s.Fetched, s.Refused)
	}
	r.account.Deliver = r.account.Deliver[:1]
	r.advance(day)
	if s := r.mustPoll(); s.Fetched != 1 || s.Octets == 0 {
		t.Errorf("%d fetched, of %d octets", s.Fetched, s.Octets)
	}
	standing, err := r.store.Standing(t.Context(), "work")
	check(t, err)
	if standing.Unreported != 0 || standing.UnreportedBytes != 0 {
		t.Errorf("unreported: %d, %d octets", standing.Unreported, standing.UnreportedBytes)
	}
	r.expectDelivered(poison)
}
