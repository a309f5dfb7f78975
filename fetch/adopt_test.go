package fetch_test

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// adopt adopts every message of the maildrop, and returns what was found.
func (r *rig) adopt() (found fetch.Adoption) {
	r.t.Helper()
	check(r.t, r.account.Adopt(r.t.Context(), r.opts, fetch.Old{}, func(a fetch.Adoption) error {
		found = a
		return r.remember(a)
	}))
	return found
}

// remember records an adoption, as the caller of Adopt must.
func (r *rig) remember(a fetch.Adoption) error {
	ctx := r.t.Context()
	return errors.Join(r.store.Keep(ctx, "work", r.clock.Unix(), a.Learned), r.store.Adopt(ctx, "work", a.New))
}

// Adopted messages are never downloaded and never deleted, whatever their unique-ids are
// like. Messages that come later are fetched.
func TestAdoptedMailIsLeftAlone(t *testing.T) {
	for _, test := range oddUIDs {
		for _, without := range [][]string{nil, {"UIDL"}} {
			t.Run(fmt.Sprint(test.name, " without ", without), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, pop3test.Behaviour{Without: without})
				for i, uid := range test.uids {
					r.drop.Add(uid, []byte(message(i)))
				}
				n := len(test.uids)
				if found := r.adopt(); found.Listed != n || len(found.New) != n || found.Keyless != 0 {
					t.Errorf("found %+v, want %d new", found, n)
				}
				r.mustPoll()
				r.drop.Add("new", []byte(message(99)))
				r.mustPoll()
				r.advance(100 * day)
				r.mustPoll()
				r.expectDelivered(message(99))
				r.expectRetrieved(1)
				if left := r.left(); len(left) != n {
					t.Errorf("left %q", left)
				}
			})
		}
	}
}

// A new message may get the unique-id of an adopted one that somebody else has deleted. It
// is fetched, or adopted if Adopt is called again.
func TestAdoptedUIDReuse(t *testing.T) {
	for _, again := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{})
		r.fill(9)
		r.adopt()
		for _, uid := range r.left()[5:] {
			r.drop.Remove(uid)
		}
		r.mustPoll()
		var want []string
		for i := 6; i < 9; i++ {
			r.drop.Add(fmt.Sprint("u", i), []byte(message(i+10)))
			want = append(want, message(i+10))
		}
		if again {
			if found := r.adopt(); len(found.New) != len(want) {
				t.Errorf("found %+v, want %d new", found, len(want))
			}
			want = nil
		}
		// An empty listing makes none of the other messages new.
		r.drop.Order(pop3test.EmptyListing().Session(r.drop.Sessions() + 3))
		sight, err := r.account.Look(r.t.Context(), r.opts, nil)
		check(t, err)
		for _, p := range sight.Messages {
			if p.Fate == fetch.FateFetch && p.Row != nil {
				t.Errorf("new mail counts as %+v", p.Row)
			}
		}
		for range 4 {
			r.mustPoll()
			r.expectDelivered(want...)
		}
		if left := len(r.left()) + len(want); left != 8 {
			t.Errorf("left %q", r.left())
		}
		r.expectRetrieved(len(want))
	}
}

// Adopted messages that were deleted by others a day ago or more are not looked for among
// new mail. Soon after the deletion, new mail may be adopted mail under another unique-id:
// then a message without a unique-id has to wait, and those with one need not, unless all
// adopted mail is gone.
func TestNewMailAfterAdoptedIsDeleted(t *testing.T) {
	for _, test := range []struct {
		name     string
		left     int           // adopted messages that are still on the server
		uids     []string      // of the new messages
		later    time.Duration // the time from the deletions to the new messages
		class    fetch.Class
		says     string
		sessions int
		fetched  int
	}{
		{name: "as many new ones come soon", later: time.Hour, uids: []string{"a", "b", "c"},
			class: fetch.ClassOperator, says: "new unique-ids", sessions: 1},
		{name: "as many new ones come later", later: 2 * day, uids: []string{"a", "b", "c"}, sessions: 2, fetched: 3},
		{name: "one without a unique-id, soon", left: 2, later: time.Hour, uids: []string{"", "a", "b", "c"},
			class: fetch.ClassRetry, says: "1 message has no unique-id", sessions: 2, fetched: 3},
		{name: "one without a unique-id, later", left: 2, later: 2 * day, uids: []string{"", "a", "b", "c"}, sessions: 2, fetched: 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
			r.account.MaxMessages = 2
			r.fill(3)
			r.adopt()
			for _, uid := range r.left()[test.left:] {
				r.drop.Remove(uid)
			}
			r.mustPoll()
			for i, uid := range test.uids {
				r.drop.Add(uid, []byte(message(i+10)))
			}
			r.advance(test.later)
			s := r.poll()
			if s.Class != test.class || !strings.Contains(r.reportText(s), test.says) {
				t.Errorf("%v, and it says %q", s.Class, r.reportText(s))
			}
			if s.Sessions != test.sessions || s.Fetched != test.fetched {
				t.Errorf("%d sessions, fetched %d", s.Sessions, s.Fetched)
			}
			if n := s.Schedule.Failures; n > 0 && test.fetched > 0 {
				t.Errorf("%d failures are noted", n)
			}
		})
	}
}

// Adopt leaves the rows of messages that have landed or were refused as they are.
func TestAdoptLeavesWhatIsRemembered(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep.For = time.Hour
	r.drop.Add("landed", []byte(message(1)))
	r.mustPoll()
	r.drop.Add("refused", []byte(message(2)))
	check(t, r.store.Refuse(t.Context(), "work", []state.Refusal{{UID: "refused", NextTry: noon.Add(time.Minute).Unix()}}))
	r.drop.Add("due", []byte(message(4)))
	check(t, r.store.Refuse(t.Context(), "work", []state.Refusal{{UID: "due", NextTry: noon.Unix()}}))
	r.drop.Add("new", []byte(message(3)))
	if found := r.adopt(); found.Listed != 4 || len(found.New) != 1 || found.New[0].Size == 0 {
		t.Errorf("found %+v, want one new of four", found)
	}
	r.advance(2 * time.Hour)
	r.mustPoll()
	r.expectDelivered(message(1), message(2), message(4))
	r.advance(2 * time.Hour)
	r.mustPoll()
	if left := r.left(); len(left) != 1 {
		t.Errorf("left %q, want the adopted one", left)
	}
}

// Adopt adopts everything that a poll could fetch now or later: messages over max_size,
// messages that may be known ones under another unique-id, and more messages than one
// session takes.
func TestAdoptAll(t *testing.T) {
	for _, without := range [][]string{nil, {"TOP"}} {
		t.Run(fmt.Sprint("without ", without), func(t *testing.T) { testAdoptAll(t, without) })
	}
}

func testAdoptAll(t *testing.T, without []string) {
	r := newRig(t, pop3test.Behaviour{Without: without})
	r.account.Keep.Forever = true
	r.fill(1)
	r.mustPoll()
	r.drop.Remove("u1")
	same := strings.Replace(message(1), "number 1", "number 2", 1) // of the same size
	for uid, raw := range map[string]string{"alike": same, "alike too": same, "large": message(3) + strings.Repeat("all work\n", 2000)} {
		r.drop.Add(uid, []byte(raw))
	}
	r.account.MaxSize, r.account.MaxMessages = 10_000, 1
	if found := r.adopt(); found.Listed != 3 || len(found.New) != 3 {
		t.Errorf("found %+v, want three new", found)
	}
	r.account.MaxSize = 0
	r.advance(day)
	r.mustPoll()
	r.expectDelivered(message(1))
}

// An error of the func that Adopt calls is returned, and nothing is adopted. The account's
// lease is held while that func runs.
func TestAdoptCanBeDeclined(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.drop.Add("a", []byte(message(1)))
	no := errors.New("no")
	err := r.account.Adopt(t.Context(), r.opts, fetch.Old{}, func(fetch.Adoption) error {
		if _, err := r.store.Lease(t.Context(), "work"); err == nil {
			t.Error("the lease is free while a person is asked")
		}
		return no
	})
	if !errors.Is(err, no) {
		t.Errorf("error %v, want that of adopt", err)
	}
	r.mustPoll()
	r.expectDelivered(message(1))
}

// A message that has neither a unique-id nor a header to know it by cannot be adopted.
// Where it would be left alone anyway, it is counted as unclear and not as keyless.
func TestAdoptWithoutNames(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.drop.Add("a", []byte(message(1)))
	r.drop.Add("", []byte(message(2)))
	if found := r.adopt(); len(found.New) != 1 || found.Keyless != 1 {
		t.Errorf("found %+v, want one new and one keyless", found)
	}
	// Where mail is kept, such a message is not fetched anyway.
	r.account.Keep.Forever = true
	if found := r.adopt(); found.Keyless != 0 || found.Unclear != 1 {
		t.Errorf("found %+v, want one that is left alone", found)
	}
	if s := r.poll(); s.Class != fetch.ClassOperator || s.Listed != 2 {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
	r.expectDelivered()
	r.account.Keep.Forever = false
	r.mustPoll()
	r.expectDelivered(message(2))
	// Nor is it fetched where it may be an adopted one.
	r.drop.Remove("a")
	r.drop.Add("", []byte(message(3)))
	if found := r.adopt(); found.Keyless != 0 || found.Unclear != 1 {
		t.Errorf("found %+v, want one that is left alone", found)
	}
	sight, err := r.account.Look(t.Context(), r.opts, nil)
	check(t, err)
	if sight.Unclear != 1 || sight.Fetch != 0 {
		t.Errorf("a poll would do %+v", sight.Outlook)
	}
	r.poll()
	r.expectDelivered(message(2))

	r = newRig(t, pop3test.Behaviour{Without: []string{"TOP", "UIDL"}})
	r.drop.Add("a", []byte(message(1)))
	if r.account.Adopt(t.Context(), r.opts, fetch.Old{}, func(fetch.Adoption) error { return nil }) == nil {
		t.Error("a message that cannot be told from others was adopted")
	}
}

// A message that was adopted without a unique-id, and is listed with one later, is not
// taken for a new one.
func TestAdoptedGetsUID(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.fill(3)
	r.drop.Add("", []byte(message(4)))
	r.adopt()
	r.mustPoll()
	r.drop.SetUIDs(func(i int, old string) string { return cmp.Or(old, "late") })
	r.advance(time.Hour)
	for range 2 {
		r.mustPoll()
	}
	r.expectDelivered()
	if left := r.left(); len(left) != 4 {
		t.Errorf("left %q", left)
	}
}

// Where unique-ids fail, are missing in part, or have all changed, no adopted message is
// fetched or deleted. New mail is fetched as soon as it can be told from adopted mail.
func TestAdoptedWhenUIDsFail(t *testing.T) {
	renamed := func(r *rig) {
		r.renameUIDs()
	}
	for _, test := range []struct {
		name    string
		without []string
		disturb func(r *rig) // is called before the first poll
		first   fetch.Class  // the class of the first poll
		says    string
		new     bool // the first poll fetches the new message
		stays   bool // later polls do the same, until Adopt is called again
	}{
		{
			name: "UIDL fails", first: fetch.ClassRetry, says: "refuses UIDL",
			disturb: func(r *rig) { r.drop.Order(pop3test.ReplyErr("UIDL", "internal error")) },
		},
		{
			name: "UIDL and TOP fail", first: fetch.ClassRetry, says: "refuses UIDL",
			disturb: func(r *rig) {
				r.drop.Order(pop3test.ReplyErr("UIDL", "internal error"), pop3test.ReplyErr("TOP", "internal error"))
			},
		},
		{
			name: "UIDL fails once", new: true,
			disturb: func(r *rig) { r.drop.Order(pop3test.ReplyErr("UIDL", "internal error").Nth(1)) },
		},
		{
			name: "UIDL lists only some", new: true,
			disturb: func(r *rig) { r.drop.Order(pop3test.Replace("UIDL", "+OK\r\n1 u1\r\n3 u3\r\n6 new\r\n.\r\n")) },
		},
		{
			name: "UIDL lists only some, and no TOP", without: []string{"TOP"},
			first: fetch.ClassRetry, says: "3 messages have no unique-id now", new: true,
			disturb: func(r *rig) { r.drop.Order(pop3test.Replace("UIDL", "+OK\r\n1 u1\r\n3 u3\r\n6 new\r\n.\r\n")) },
		},
		{name: "all unique-ids have changed", disturb: renamed, new: true},
		{
			name: "all unique-ids have changed, and no TOP", disturb: renamed, without: []string{"TOP"},
			first: fetch.ClassOperator, says: "new unique-ids", stays: true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pop3test.Behaviour{Without: test.without})
			r.fill(5)
			r.adopt()
			r.drop.Add("new", []byte(message(9)))
			test.disturb(r)
			s := r.poll()
			if s.Class != test.first || !strings.Contains(r.reportText(s), test.says) {
				t.Errorf("%v, and it says %q", s.Class, r.reportText(s))
			}
			if s.Fetched == 1 != test.new {
				t.Errorf("fetched %d", s.Fetched)
			}
			if strings.Contains(fetch.Hint(s.Err), "keep: false") {
				t.Errorf("the hint is %q", fetch.Hint(s.Err))
			}
			r.drop.ClearFaults()
			if test.stays {
				if s := r.poll(); s.Class != test.first {
					t.Errorf("then %v: %v", s.Class, s.Err)
				}
				r.expectRetrieved(0)
				r.adopt()
			}
			for range 2 {
				r.mustPoll()
			}
			if left := r.left(); len(left) != 5 && !test.stays {
				t.Errorf("left %q", left)
			}
			for _, uid := range r.left() {
				if n := r.drop.Retrieved(uid); n > 0 {
					t.Errorf("%s was fetched", uid)
				}
			}
		})
	}
}

// A new message that has the unique-id of a deleted one can be adopted.
func TestAdoptReusedUID(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.drop.Add("1", []byte(message(1)))
	r.mustPoll()
	r.advance(day)
	r.drop.Add("1", []byte(message(2)))
	if found := r.adopt(); len(found.New) != 1 {
		t.Fatalf("adopted %d messages", len(found.New))
	}
	if found := r.adopt(); len(found.New) != 0 {
		t.Errorf("adopted %d of them again", len(found.New))
	}
	for range 2 {
		r.advance(day)
		r.mustPoll()
		r.expectDelivered(message(1))
		if left := r.left(); len(left) != 1 {
			t.Fatalf("left %q", left)
		}
	}
}
