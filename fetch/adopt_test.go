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

// adopt adopts all, and returns what there was.
func (r *rig) adopt() (found fetch.Adoption) {
	r.t.Helper()
	check(r.t, r.account.Adopt(r.t.Context(), r.opts, fetch.Old{}, func(a fetch.Adoption) error {
		found = a
		return r.remember(a)
	}))
	return found
}

// remember does with an adoption what its caller is to do.
func (r *rig) remember(a fetch.Adoption) error {
	ctx := r.t.Context()
	return errors.Join(r.store.Keep(ctx, "work", r.clock.Unix(), a.Learned), r.store.Adopt(ctx, "work", a.New))
}

// Whatever their unique-ids are like, adopted messages are never downloaded
// and never deleted, and those that come later are.
func TestAdopt(t *testing.T) {
	for _, test := range oddUIDs {
		for _, without := range [][]string{nil, {"UIDL"}} {
			t.Run(fmt.Sprint(test.name, " without ", without), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, pop3test.Behaviour{Without: without})
				for i, uid := range test.uids {
					r.drop.Add(uid, []byte(message(i)))
				}
				n := len(test.uids)
				if found := r.adopt(); found.Listed != n || len(found.New) != n || found.Nameless != 0 {
					t.Errorf("found %+v, want %d new", found, n)
				}
				r.succeed()
				r.drop.Add("new", []byte(message(99)))
				r.succeed()
				r.later(100 * day)
				r.succeed()
				r.expect(message(99))
				r.expectRetrieved(1)
				if left := r.left(); len(left) != n {
					t.Errorf("left %q", left)
				}
			})
		}
	}
}

// Where unique-ids are but numbers, those of adopted messages that somebody else
// deletes go to new ones, which are fetched, or adopted as any others.
func TestAdoptedUIDReuse(t *testing.T) {
	for _, again := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{})
		r.fill(9)
		r.adopt()
		for _, uid := range r.left()[5:] {
			r.drop.Remove(uid)
		}
		r.succeed()
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
		// A listing that lacks them for a time makes none of the others new.
		r.drop.Order(pop3test.EmptyListing().Session(r.drop.Sessions() + 3))
		sight, err := r.account.Look(r.t.Context(), r.opts, nil)
		check(t, err)
		for _, p := range sight.Messages {
			if p.Fate == fetch.FateFetch && p.Row != nil {
				t.Errorf("new mail counts as %+v", p.Row)
			}
		}
		for range 4 {
			r.succeed()
			r.expect(want...)
		}
		if left := len(r.left()) + len(want); left != 8 {
			t.Errorf("left %q", r.left())
		}
		r.expectRetrieved(len(want))
	}
}

// What somebody else has deleted long ago is not looked for among new mail, and
// messages without a name do not hold up those that have one.
func TestAdoptedAndDeleted(t *testing.T) {
	for _, test := range []struct {
		name     string
		left     int           // of the adopted messages
		uids     []string      // of new ones
		later    time.Duration // they come
		class    fetch.Class
		says     string
		sessions int
		fetched  int
	}{
		{name: "as many new ones come soon", later: time.Hour, uids: []string{"a", "b", "c"},
			class: fetch.ClassOperator, says: "new unique-ids", sessions: 1},
		{name: "as many new ones come later", later: 2 * day, uids: []string{"a", "b", "c"}, sessions: 2, fetched: 3},
		{name: "one has no name, soon", left: 2, later: time.Hour, uids: []string{"", "a", "b", "c"},
			class: fetch.ClassRetry, says: "1 message has no unique-id", sessions: 2, fetched: 3},
		{name: "one has no name, later", left: 2, later: 2 * day, uids: []string{"", "a", "b", "c"}, sessions: 2, fetched: 4},
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
			r.succeed()
			for i, uid := range test.uids {
				r.drop.Add(uid, []byte(message(i+10)))
			}
			r.later(test.later)
			s := r.poll()
			if s.Class != test.class || !strings.Contains(r.said(s), test.says) {
				t.Errorf("%v, and it says %q", s.Class, r.said(s))
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

// What mailhaul has dealt with before stays as it is.
func TestAdoptLeavesWhatIsRemembered(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep.For = time.Hour
	r.drop.Add("landed", []byte(message(1)))
	r.succeed()
	r.drop.Add("refused", []byte(message(2)))
	check(t, r.store.Refuse(t.Context(), "work", []state.Refusal{{UID: "refused", NextTry: noon.Add(time.Minute).Unix()}}))
	r.drop.Add("due", []byte(message(4)))
	check(t, r.store.Refuse(t.Context(), "work", []state.Refusal{{UID: "due", NextTry: noon.Unix()}}))
	r.drop.Add("new", []byte(message(3)))
	if found := r.adopt(); found.Listed != 4 || len(found.New) != 1 || found.New[0].Size == 0 {
		t.Errorf("found %+v, want one new of four", found)
	}
	r.later(2 * time.Hour)
	r.succeed()
	r.expect(message(1), message(2), message(4))
	r.later(2 * time.Hour)
	r.succeed()
	if left := r.left(); len(left) != 1 {
		t.Errorf("left %q, want the adopted one", left)
	}
}

// All that is there is adopted: what is too large for now, and what may be another
// message by another name, or the first of many.
func TestAdoptAll(t *testing.T) {
	for _, without := range [][]string{nil, {"TOP"}} {
		t.Run(fmt.Sprint("without ", without), func(t *testing.T) { testAdoptAll(t, without) })
	}
}

func testAdoptAll(t *testing.T, without []string) {
	r := newRig(t, pop3test.Behaviour{Without: without})
	r.account.Keep.Forever = true
	r.fill(1)
	r.succeed()
	r.drop.Remove("u1")
	same := strings.Replace(message(1), "number 1", "number 2", 1) // of its size
	for uid, raw := range map[string]string{"alike": same, "alike too": same, "large": message(3) + strings.Repeat("all work\n", 2000)} {
		r.drop.Add(uid, []byte(raw))
	}
	r.account.MaxSize, r.account.MaxMessages = 10_000, 1
	if found := r.adopt(); found.Listed != 3 || len(found.New) != 3 {
		t.Errorf("found %+v, want three new", found)
	}
	r.account.MaxSize = 0
	r.later(day)
	r.succeed()
	r.expect(message(1))
}

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
	r.succeed()
	r.expect(message(1))
}

// Where nothing tells messages apart, there is nothing to remember them by.
func TestAdoptWithoutNames(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.drop.Add("a", []byte(message(1)))
	r.drop.Add("", []byte(message(2)))
	if found := r.adopt(); len(found.New) != 1 || found.Nameless != 1 {
		t.Errorf("found %+v, want one new and one nameless", found)
	}
	// Where mail is kept, it is not even fetched.
	r.account.Keep.Forever = true
	if found := r.adopt(); found.Nameless != 0 || found.Unclear != 1 {
		t.Errorf("found %+v, want one that is left alone", found)
	}
	if s := r.poll(); s.Class != fetch.ClassOperator || s.Listed != 2 {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
	r.expect()
	r.account.Keep.Forever = false
	r.succeed()
	r.expect(message(2))
	// Nor is it where it may be what was adopted.
	r.drop.Remove("a")
	r.drop.Add("", []byte(message(3)))
	if found := r.adopt(); found.Nameless != 0 || found.Unclear != 1 {
		t.Errorf("found %+v, want one that is left alone", found)
	}
	sight, err := r.account.Look(t.Context(), r.opts, nil)
	check(t, err)
	if sight.Unclear != 1 || sight.Fetch != 0 {
		t.Errorf("a poll would do %+v", sight.Outlook)
	}
	r.poll()
	r.expect(message(2))

	r = newRig(t, pop3test.Behaviour{Without: []string{"TOP", "UIDL"}})
	r.drop.Add("a", []byte(message(1)))
	if r.account.Adopt(t.Context(), r.opts, fetch.Old{}, func(fetch.Adoption) error { return nil }) == nil {
		t.Error("a message that cannot be told from others was adopted")
	}
}

// A message that was adopted without a unique-id, and gets one while most others keep
// theirs, is no new one.
func TestAdoptedGetsAName(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.fill(3)
	r.drop.Add("", []byte(message(4)))
	r.adopt()
	r.succeed()
	r.drop.SetUIDs(func(i int, old string) string { return cmp.Or(old, "late") })
	r.later(time.Hour)
	for range 2 {
		r.succeed()
	}
	r.expect()
	if left := r.left(); len(left) != 4 {
		t.Errorf("left %q", left)
	}
}

// A server whose unique-ids fail, are not all there, or have all changed has
// none of the adopted mail fetched or deleted, and new mail is fetched as soon
// as it can be told from it.
func TestAdoptedWithoutNames(t *testing.T) {
	renamed := func(r *rig) {
		r.drop.SetUIDs(func(_ int, old string) string { return "moved-" + old })
	}
	for _, test := range []struct {
		name    string
		without []string
		disturb func(r *rig) // before the first poll
		first   fetch.Class  // of it
		says    string
		new     bool // the new message is fetched by it
		stays   bool // so it stays until somebody adopts again
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
			name: "UIDL is short", new: true,
			disturb: func(r *rig) { r.drop.Order(pop3test.Replace("UIDL", "+OK\r\n1 u1\r\n3 u3\r\n6 new\r\n.\r\n")) },
		},
		{
			name: "UIDL is short, and headers do not tell", without: []string{"TOP"},
			first: fetch.ClassRetry, says: "3 messages have no unique-id now", new: true,
			disturb: func(r *rig) { r.drop.Order(pop3test.Replace("UIDL", "+OK\r\n1 u1\r\n3 u3\r\n6 new\r\n.\r\n")) },
		},
		{name: "all changed", disturb: renamed, new: true},
		{
			name: "all changed, and headers do not tell", disturb: renamed, without: []string{"TOP"},
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
			if s.Class != test.first || !strings.Contains(r.said(s), test.says) {
				t.Errorf("%v, and it says %q", s.Class, r.said(s))
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
				r.succeed()
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

// A message that has the unique-id of one that was deleted is adopted like any
// other.
func TestAdoptReusedUID(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.drop.Add("1", []byte(message(1)))
	r.succeed()
	r.later(day)
	r.drop.Add("1", []byte(message(2)))
	if found := r.adopt(); len(found.New) != 1 {
		t.Fatalf("adopted %d messages", len(found.New))
	}
	if found := r.adopt(); len(found.New) != 0 {
		t.Errorf("adopted %d of them again", len(found.New))
	}
	for range 2 {
		r.later(day)
		r.succeed()
		r.expect(message(1))
		if left := r.left(); len(left) != 1 {
			t.Fatalf("left %q", left)
		}
	}
}
