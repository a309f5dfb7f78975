package fetch_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// announceExpireZero has the server announce EXPIRE 0, and do what it means (RFC 2449
// §6.7): what a session has retrieved is deleted at QUIT.
func (r *rig) announceExpireZero() {
	r.drop.Behave(pop3test.Behaviour{CapabilitiesAfter: []string{"UIDL", "TOP", "EXPIRE 0"}})
	var mu sync.Mutex
	retrieved := map[int][]string{} // unique-ids, by session
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

// A server that deletes at QUIT whatever was retrieved keeps a message that its sink has
// refused. That message holds up neither the others nor their deletion.
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
	r, good, poison := newPoisonRig(t, late)
	r.account.MaxMessages = most
	r.announceExpireZero()
	if !names {
		r.drop.Behave(pop3test.Behaviour{Without: []string{"UIDL"}, CapabilitiesAfter: []string{"TOP", "EXPIRE 0"}})
	}
	for i := range 4 {
		if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 || s.Deleted != s.Fetched || s.ToDelete > 0 {
			t.Errorf("%d fetched, %d deleted, %d wait, %d refused: %v", s.Fetched, s.Deleted, s.ToDelete, s.Refused, s.Err)
		}
		r.expectDelivered(good...)
		if left := r.left(); !slices.Equal(left, []string{"u2"}) {
			t.Fatalf("late %v, %d messages in a session, names %v: left %q", late, most, names, left)
		}
		r.advance(day)
		more := message(4 + i)
		r.drop.Add(fmt.Sprint("more", i), []byte(more))
		good = append(good, more)
	}
	r.acceptPoison()
	r.mustPoll()
	r.expectDelivered(append(good, poison)...)
	r.expectMaildropEmpty()
}

// A message counts as delivered once all sinks of the account have it, even if one that
// refused it is no longer among them.
func TestExpireZeroSinkRemoved(t *testing.T) {
	for _, late := range []bool{false, true} {
		r, good, poison := newPoisonRig(t, late)
		archive, archived := r.newMaildir("archive")
		r.account.Deliver = append(r.account.Deliver, archive)
		r.announceExpireZero()
		r.poll()
		r.account.Deliver = []fetch.Target{archive}
		r.advance(day)
		if s := r.mustPoll(); s.ToDelete > 0 {
			t.Errorf("late %v: %d wait", late, s.ToDelete)
		}
		r.expectMaildropEmpty()
		expectMail(t, "the archive", archived(), append(good, poison)...)
	}
}

// EXPIRE 0 counts also if it was announced before the login and CAPA fails after it.
// "EXPIRE 0 USER" says that it depends on the user, and so nothing of this one.
func TestExpireZeroBeforeLogin(t *testing.T) {
	for expire, sessions := range map[string]int{"EXPIRE 0": 2, "EXPIRE 0 USER": 1} {
		r := newRig(t, pop3test.Behaviour{Capabilities: []string{"USER", "UIDL", "TOP", expire}})
		r.account.Deliver[0].Sink = poisonRefuser{r.account.Deliver[0].Sink, false}
		r.fill(1)
		r.drop.Add("u2", []byte("Subject: poison\n\npoison\n"))
		r.server.Order(pop3test.ReplyErr("CAPA", "not now").Nth(2))
		if s := r.poll(); s.Sessions != sessions || !slices.Equal(r.left(), []string{"u2"}) {
			t.Errorf("%s: %d sessions, left %q, want %d", expire, s.Sessions, r.left(), sessions)
		}
	}
}

// A refused message stays also if the server announces EXPIRE 0 only since the
// capabilities were remembered, which is good for a day.
func TestExpireZeroIsNew(t *testing.T) {
	for _, late := range []bool{false, true} {
		r, good, poison := newPoisonRig(t, late)
		r.drop.Remove("u2")
		r.mustPoll()
		r.announceExpireZero()
		r.drop.Add("u2", []byte(poison))
		r.drop.Add("u4", []byte(message(4)))
		r.poll()
		r.expectDelivered(append(good, message(4))...)
		if left := r.left(); !slices.Equal(left, []string{"u2"}) {
			t.Errorf("late %v: left %q", late, left)
		}
	}
}

// A refused message stays also if EXPIRE 0 was announced to an earlier session and CAPA
// fails now.
func TestExpireZeroRemembered(t *testing.T) {
	r, good, poison := newPoisonRig(t, false)
	r.drop.Remove("u2")
	r.announceExpireZero()
	r.mustPoll()
	r.drop.Add("u2", []byte(poison))
	r.server.Order(pop3test.ReplyErr("CAPA", "not now"))
	r.poll()
	r.expectDelivered(good...)
	if left := r.left(); !slices.Equal(left, []string{"u2"}) {
		t.Errorf("left %q", left)
	}
}

// A server that is known to fail over CAPA is not asked again over a message that was not
// delivered: it might hang up.
func TestExpireZeroNotAskedWithoutCAPA(t *testing.T) {
	for _, fault := range []pop3test.Fault{pop3test.Ignore("CAPA", pop3test.HangUp), pop3test.ReplyErr("CAPA", "what?")} {
		r, good, poison := newPoisonRig(t, false)
		r.account.Auth = []string{"user"}
		r.drop.Remove("u2")
		r.server.Order(fault)
		r.mustPoll()
		r.newCommands()
		r.drop.Add("u2", []byte(poison))
		r.drop.Add("u4", []byte(message(4)))
		if s := r.poll(); s.Class != fetch.ClassRefused || s.Sessions != 1 || s.Deleted != 1 {
			t.Errorf("%d sessions, %d deleted: %v", s.Sessions, s.Deleted, s.Err)
		}
		if log := r.newCommands(); slices.Contains(log, "CAPA") {
			t.Errorf("said %q", log)
		}
		r.expectDelivered(append(good, message(4))...)
	}
}
