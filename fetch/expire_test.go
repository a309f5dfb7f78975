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

// Nor is a message lost on a server that announces it before the login, and answers CAPA
// no more after that. If it says that users differ, it has said nothing of this one.
func TestExpireZeroBefore(t *testing.T) {
	for expire, sessions := range map[string]int{"EXPIRE 0": 2, "EXPIRE 0 USER": 1} {
		r := newRig(t, pop3test.Behaviour{Capabilities: []string{"USER", "UIDL", "TOP", expire}})
		r.account.Deliver[0].Sink = picky{r.account.Deliver[0].Sink, false}
		r.fill(1)
		r.drop.Add("u2", []byte("Subject: poison\n\npoison\n"))
		r.server.Order(pop3test.ReplyErr("CAPA", "not now").Nth(2))
		if s := r.poll(); s.Sessions != sessions || !slices.Equal(r.left(), []string{"u2"}) {
			t.Errorf("%s: %d sessions, left %q, want %d", expire, s.Sessions, r.left(), sessions)
		}
	}
}

// Nor is a message lost where the server has announced something else to an earlier
// session, and that is what is believed for a day.
func TestExpireZeroSince(t *testing.T) {
	for _, late := range []bool{false, true} {
		r, good, poison := poisoned(t, late)
		r.drop.Remove("u2")
		r.succeed()
		r.expires()
		r.drop.Add("u2", []byte(poison))
		r.drop.Add("u4", []byte(message(4)))
		r.poll()
		r.expect(append(good, message(4))...)
		if left := r.left(); !slices.Equal(left, []string{"u2"}) {
			t.Errorf("late %v: left %q", late, left)
		}
	}
}

// Nor is a message lost where the server announced it to an earlier session, and will
// not be asked now.
func TestExpireZeroRefused(t *testing.T) {
	r, good, poison := poisoned(t, false)
	r.drop.Remove("u2")
	r.expires()
	r.succeed()
	r.drop.Add("u2", []byte(poison))
	r.server.Order(pop3test.ReplyErr("CAPA", "not now"))
	r.poll()
	r.expect(good...)
	if left := r.left(); !slices.Equal(left, []string{"u2"}) {
		t.Errorf("left %q", left)
	}
}

// Whoever is known to tell nothing is not asked, not even over a message that was not
// delivered: it may break off over that.
func TestExpireZeroUntold(t *testing.T) {
	for _, fault := range []pop3test.Fault{pop3test.Ignore("CAPA", pop3test.HangUp), pop3test.ReplyErr("CAPA", "what?")} {
		r, good, poison := poisoned(t, false)
		r.account.Auth = []string{"user"}
		r.drop.Remove("u2")
		r.server.Order(fault)
		r.succeed()
		r.commands()
		r.drop.Add("u2", []byte(poison))
		r.drop.Add("u4", []byte(message(4)))
		if s := r.poll(); s.Class != fetch.ClassRefused || s.Sessions != 1 || s.Deleted != 1 {
			t.Errorf("%d sessions, %d deleted: %v", s.Sessions, s.Deleted, s.Err)
		}
		if log := r.commands(); slices.Contains(log, "CAPA") {
			t.Errorf("said %q", log)
		}
		r.expect(append(good, message(4))...)
	}
}
