package fetch_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// adopt adopts all, and returns what there was.
func (r *rig) adopt() (found fetch.Adoption) {
	r.t.Helper()
	check(r.t, r.account.Adopt(r.t.Context(), r.opts, time.Time{}, func(a fetch.Adoption) error {
		found = a
		return r.store.Adopt(r.t.Context(), "work", a.New)
	}))
	return found
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

// What mailhaul has dealt with before stays as it is.
func TestAdoptLeavesWhatIsRemembered(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep.For = time.Hour
	r.drop.Add("landed", []byte(message(1)))
	r.succeed()
	r.drop.Add("refused", []byte(message(2)))
	check(t, r.store.Refuse(t.Context(), "work", []state.Refusal{{UID: "refused", NextTry: noon.Add(time.Minute).Unix()}}))
	r.drop.Add("new", []byte(message(3)))
	if found := r.adopt(); found.Listed != 3 || len(found.New) != 1 || found.New[0].Size == 0 {
		t.Errorf("found %+v, want one new of three", found)
	}
	r.later(2 * time.Hour)
	r.succeed()
	r.expect(message(1), message(2))
	r.later(2 * time.Hour)
	r.succeed()
	if left := r.left(); len(left) != 1 {
		t.Errorf("left %q, want the adopted one", left)
	}
}

func TestAdoptCanBeDeclined(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.drop.Add("a", []byte(message(1)))
	no := errors.New("no")
	err := r.account.Adopt(t.Context(), r.opts, time.Time{}, func(fetch.Adoption) error {
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
	r.succeed()
	r.expect(message(2))

	r = newRig(t, pop3test.Behaviour{Without: []string{"TOP", "UIDL"}})
	r.drop.Add("a", []byte(message(1)))
	if r.account.Adopt(t.Context(), r.opts, time.Time{}, func(fetch.Adoption) error { return nil }) == nil {
		t.Error("a message that cannot be told from others was adopted")
	}
}
