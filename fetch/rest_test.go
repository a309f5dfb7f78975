package fetch_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// readCounter is a state that counts how often rows and rowStates are read.
type readCounter struct {
	*state.Store
	rowStates, rows atomic.Int32
}

func (l *readCounter) RowStates(ctx context.Context, account string) ([]state.RowState, error) {
	if ctx.Err() == nil {
		l.rowStates.Add(1)
	}
	return l.Store.RowStates(ctx, account)
}

func (l *readCounter) Rows(ctx context.Context, account string) ([]state.Row, error) {
	l.rows.Add(1)
	return l.Store.Rows(ctx, account)
}

// A maildrop in which nothing has changed is not compared with its rows again. Whatever
// may change what is to be done about it has it compared.
func TestUnchangedMaildropIsNotCompared(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep = fetch.Keep{For: 14 * day}
	look := &readCounter{Store: r.store}
	r.opts.State = look
	want := r.fill(3)
	expect := func(what string, rowStates, rows int32, fetched, deleted int) {
		t.Helper()
		look.rowStates.Store(0)
		look.rows.Store(0)
		s := r.mustPoll()
		if g, n := look.rowStates.Load(), look.rows.Load(); g != rowStates || n != rows || s.Fetched != fetched || s.Deleted != deleted {
			t.Errorf("%s: %d rowStates and %d looks at rows, %d fetched, %d deleted; want %d, %d, %d, %d",
				what, g, n, s.Fetched, s.Deleted, rowStates, rows, fetched, deleted)
		}
	}
	rest := func(what string) {
		t.Helper()
		expect(what, 1, 0, 0, 0)
		expect(what+", and again", 0, 0, 0, 0)
	}
	expect("the first poll", 1, 1, 3, 0)
	rest("nothing new")
	want = append(want, message(4))
	r.drop.Add("u4", []byte(message(4)))
	expect("a new message", 1, 1, 1, 0)
	rest("nothing new again")

	r.account.Keep.For = 13 * day
	rest("kept for less long")
	check(t, r.store.Keep(t.Context(), "work", 1, state.Housekeeping{Forget: []string{"u2"}}))
	expect("what was forgotten", 1, 1, 1, 0)
	want = append(want, message(2))
	rest("it is remembered")
	r.drop.Remove("u3")
	expect("one was deleted by others", 1, 1, 0, 0)
	rest("its row has gone missing")

	r.advance(13*day - time.Second)
	expect("a second before they are due", 0, 0, 0, 0)
	r.advance(time.Second)
	expect("they are due", 1, 1, 0, 3)
	r.expectDelivered(want...)
}

// The rest ends when the first message is due, when the first row is to be forgotten, and
// when kept mail is no longer to be kept.
func TestRestEnds(t *testing.T) {
	for _, uids := range [][]string{{"a", "b"}, {"b", "a"}} {
		r := newRig(t, pop3test.Behaviour{})
		r.account.Keep = fetch.Keep{For: 5 * day}
		deleted := 0
		for n, uid := range uids {
			r.drop.Add(uid, []byte(message(n)))
			r.mustPoll()
			r.advance(2 * day)
		}
		for range 2 { // both find nothing to do
			deleted += r.mustPoll().Deleted
		}
		r.advance(day)
		if s := r.mustPoll(); deleted != 0 || s.Deleted != 1 {
			t.Errorf("%q: deleted %d in time, %d before", uids, s.Deleted, deleted)
		}
	}

	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep = fetch.Keep{Forever: true}
	r.fill(3)
	r.mustPoll()
	for _, uid := range []string{"u1", "u3"} {
		r.drop.Remove(uid)
		for range 2 {
			r.mustPoll()
		}
		r.advance(day)
	}
	r.advance(fetch.Remembered - 2*day)
	if r.mustPoll(); len(r.rows()) != 3 {
		t.Errorf("%d rows, before any is to be forgotten", len(r.rows()))
	}
	for left := 2; left > 0; left-- {
		r.advance(time.Second)
		if r.mustPoll(); len(r.rows()) != left {
			t.Errorf("%d rows, want %d", len(r.rows()), left)
		}
		r.advance(day - time.Second)
	}
	for range 2 {
		r.mustPoll()
	}
	r.account.Keep = fetch.Keep{}
	r.mustPoll()
	r.expectMaildropEmpty()
}

// A listing whose unique-ids are the same letters, divided otherwise, is another one.
func TestRestOfSimilarListing(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep = fetch.Keep{Forever: true}
	r.drop.Add("ab", []byte(message(1)))
	r.drop.Add("c", []byte(message(2)))
	for range 3 {
		r.mustPoll()
	}
	r.drop.Remove("ab")
	r.drop.Remove("c")
	r.drop.Add("a", []byte(message(3)))
	r.drop.Add("bc", []byte(message(4)))
	r.mustPoll()
	r.expectDelivered(message(1), message(2), message(3), message(4))
}
