package fetch_test

import (
	"context"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// speechless commits and reports nothing, as if the process ended right then.
type speechless struct{ deliver.Batch }

func (s speechless) Commit(ctx context.Context, _ func(deliver.Receipt) error) error {
	_ = s.Batch.Commit(ctx, func(deliver.Receipt) error { return nil })
	return errSilent
}

// cutOff is a state that is written no more once so many batches have landed, as
// that of a process which is killed.
type cutOff struct {
	*state.Store
	batches int
}

func (c *cutOff) Land(ctx context.Context, account string, at int64, ls []state.Landing) error {
	if c.batches == 0 {
		return errForgot
	}
	c.batches--
	return c.Store.Land(ctx, account, at, ls)
}

func (c *cutOff) SavePoll(context.Context, string, state.Poll) error { return errForgot }

// What landed is counted once, by the poll that knew of it: by the next one if
// the first was cut off before.
func TestUntoldIsToldByTheNextPoll(t *testing.T) {
	const n = 100
	// what a poll tells of, to its observer, to postpoll and to the history
	expect := func(r *rig, fetched int) {
		t.Helper()
		s := r.succeed()
		polls, err := r.store.Polls(t.Context(), "work", 1)
		check(t, err)
		if s.Fetched != fetched || polls[0].Fetched != fetched || (s.Bytes > 0) != (fetched > 0) || polls[0].Bytes != s.Bytes {
			t.Errorf("fetched %d, %d bytes, noted %+v, want %d", s.Fetched, s.Bytes, polls[0], fetched)
		}
	}
	told := func(r *rig) (octets int64) {
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
		r.account.Deliver[0].Sink = &batched{home, func(b deliver.Batch) deliver.Batch { return speechless{b} }}
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
		r.expect(want...)
		r.expectEmpty()
		told(r)
	})
	for batches := range 3 {
		r := newRig(t, pop3test.Behaviour{})
		want := r.fill(n)
		r.opts.State = &cutOff{r.store, batches}
		r.poll()
		r.opts.State = r.store
		var octets int64
		r.account.Postpoll = func(_ context.Context, s fetch.Summary) error { octets += s.Bytes; return nil }
		expect(r, n)
		expect(r, 0)
		r.expect(want...)
		r.expectEmpty()
		if all := told(r); octets != all {
			t.Errorf("killed after %d batches: %d octets were told of, not %d", batches, octets, all)
		}
	}
}

// A message that a sink is still owed is counted when that has it.
func TestUntoldIsOwed(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	archive, archived := r.another("archive")
	up := archive.Sink
	archive.Sink = silent{up}
	home := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = &batched{home, func(b deliver.Batch) deliver.Batch { return speechless{b} }}
	r.account.Deliver = append(r.account.Deliver, archive)
	want := r.fill(3)
	r.poll()
	r.account.Deliver[0].Sink = home
	if s := r.poll(); s.Fetched != 0 || s.Bytes != 0 {
		t.Errorf("fetched %d, %d bytes, though the archive has none of it", s.Fetched, s.Bytes)
	}
	r.account.Deliver[1].Sink = up
	r.later(day)
	if s := r.succeed(); s.Fetched != 3 {
		t.Errorf("fetched %d", s.Fetched)
	}
	r.expect(want...)
	expectMail(t, "the archive", archived(), want...)
	r.expectEmpty()
}

// A message that a sink took counts once nobody else is to have it.
func TestCompleteIsTold(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	second, _ := r.another("second")
	r.account.Deliver = append(r.account.Deliver, fetch.Target{Name: second.Name, Sink: picky{second.Sink, false}})
	poison := "Subject: poison\n\npoison\n"
	r.drop.Add("u", []byte(poison))
	if s := r.poll(); s.Fetched != 0 || s.Refused != 1 {
		t.Errorf("%d fetched, %d refused", s.Fetched, s.Refused)
	}
	r.account.Deliver = r.account.Deliver[:1]
	r.later(day)
	if s := r.succeed(); s.Fetched != 1 || s.Bytes == 0 {
		t.Errorf("%d fetched, of %d octets", s.Fetched, s.Bytes)
	}
	standing, err := r.store.Standing(t.Context(), "work")
	check(t, err)
	if standing.Unreported != 0 || standing.UnreportedBytes != 0 {
		t.Errorf("unreported: %d, %d octets", standing.Unreported, standing.UnreportedBytes)
	}
	r.expect(poison)
}
