package fetch_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// expires has the server announce EXPIRE 0, and do what that means (RFC 2449 §6.7): what
// a session has retrieved is gone once it has quit.
func (r *rig) expires() {
	r.drop.Behave(pop3test.Behaviour{CapabilitiesAfter: []string{"UIDL", "TOP", "EXPIRE 0"}})
	var mu sync.Mutex
	retrieved := map[int][]string{} // by the session
	r.drop.Order(
		pop3test.On("RETR", func(x *pop3test.Exchange) {
			x.Act()
			mu.Lock()
			defer mu.Unlock()
			retrieved[x.Session] = append(retrieved[x.Session], x.UID)
		}),
		pop3test.On("QUIT", func(x *pop3test.Exchange) {
			x.Act()
			mu.Lock()
			defer mu.Unlock()
			for _, uid := range retrieved[x.Session] {
				r.drop.Remove(uid)
			}
		}))
}

// A message that a sink does not take stays on a server that deletes, at QUIT, whatever
// was retrieved, and holds up no other: nor the deletion of others, though each poll tries
// it, or has to compare it since nothing else tells it.
func TestExpireZero(t *testing.T) {
	for _, late := range []bool{false, true} {
		for _, most := range []int{0, 1} {
			for _, names := range []bool{true, false} {
				testExpireZero(t, late, most, names)
			}
		}
	}
}

func testExpireZero(t *testing.T, late bool, most int, names bool) {
	r, good, poison := poisoned(t, late)
	r.account.MaxMessages = most
	r.expires()
	if !names {
		r.drop.Behave(pop3test.Behaviour{Without: []string{"UIDL"}, CapabilitiesAfter: []string{"TOP", "EXPIRE 0"}})
	}
	for i := range 4 {
		if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 || s.Deleted != s.Fetched || s.Waiting > 0 {
			t.Errorf("%d fetched, %d deleted, %d wait, %d refused: %v", s.Fetched, s.Deleted, s.Waiting, s.Refused, s.Err)
		}
		r.expect(good...)
		if left := r.left(); !slices.Equal(left, []string{"u2"}) {
			t.Fatalf("late %v, %d messages in a session, names %v: left %q", late, most, names, left)
		}
		r.later(day)
		more := message(4 + i)
		r.drop.Add(fmt.Sprint("more", i), []byte(more))
		good = append(good, more)
	}
	r.account.Deliver[0].Sink = r.account.Deliver[0].Sink.(picky).Sink
	r.succeed()
	r.expect(append(good, poison)...)
	r.expectEmpty()
}

// What every sink has that is still wanted was delivered, though it was never taken by
// the one that is not.
func TestExpireZeroComplete(t *testing.T) {
	for _, late := range []bool{false, true} {
		r, good, poison := poisoned(t, late)
		archive, archived := r.another("archive")
		r.account.Deliver = append(r.account.Deliver, archive)
		r.expires()
		r.poll()
		r.account.Deliver = []fetch.Target{archive}
		r.later(day)
		if s := r.succeed(); s.Waiting > 0 {
			t.Errorf("late %v: %d wait", late, s.Waiting)
		}
		r.expectEmpty()
		expectMail(t, "the archive", archived(), append(good, poison)...)
	}
}
