package fetch_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// elsewhere has the account go to another server, with mail of its own.
func (r *rig) elsewhere(b pop3test.Behaviour) {
	other := pop3test.New(pop3test.Options{Behaviour: b})
	check(r.t, other.Start())
	r.t.Cleanup(func() { other.Close() })
	r.use(other)
}

// move has all that is remembered go to another state folder.
func (r *rig) move() {
	m, err := r.store.Export(r.t.Context(), r.account.Name)
	check(r.t, err)
	next, err := state.Open(context.Background(), filepath.Join(r.t.TempDir(), "state"))
	check(r.t, err)
	r.t.Cleanup(func() { next.Close() })
	_, err = next.Import(r.t.Context(), []state.Export{m})
	check(r.t, err)
	r.store, r.opts.State = next, next
}

// Unique-ids of another maildrop say nothing, though they may be the same; nor do
// they if what is remembered has moved meanwhile.
func TestOtherMaildropAfterMove(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep = fetch.Keep{For: 14 * day}
	want := r.fill(3)
	r.succeed()
	r.later(20 * day)
	r.move()
	r.elsewhere(pop3test.Behaviour{})
	for i := range 3 {
		r.drop.Add(fmt.Sprint("u", i+1), []byte(message(11+i)))
		want = append(want, message(11+i))
	}
	r.succeed()
	r.expect(want...)
}

// expectOthers has the maildrop hold three other messages by the unique-ids of fill(3),
// which are to come beside those of before.
func (r *rig) expectOthers(before []string) {
	r.t.Helper()
	for i := range 3 {
		r.drop.Add(fmt.Sprint("u", i+1), []byte(message(11+i)))
		before = append(before, message(11+i))
	}
	r.later(day)
	r.succeed()
	r.expect(before...)
}

// They say nothing, either, if none of what is remembered comes from a poll that came
// to its end.
func TestOtherMaildropBeforeFirstPoll(t *testing.T) {
	for name, begin := range map[string]func(r *rig){
		"adopted": func(r *rig) { r.adopt() },
		"killed": func(r *rig) {
			r.opts.State = &forgetful{r.store, true}
			r.poll()
			r.opts.State = r.store
		},
	} {
		for kept, keep := range map[string]fetch.Keep{"deleted": {}, "kept": {Forever: true}} {
			t.Run(name+", "+kept, func(t *testing.T) {
				r := newRig(t, pop3test.Behaviour{})
				r.account.Keep = keep
				r.fill(3)
				begin(r)
				want := r.mail()
				r.elsewhere(pop3test.Behaviour{})
				r.expectOthers(want)
			})
		}
	}
}

// Whoever adopts what is in another maildrop does not vouch for what was in the first.
func TestAdoptInAnotherMaildrop(t *testing.T) {
	for kept, keep := range map[string]fetch.Keep{"deleted": {}, "kept": {Forever: true}} {
		t.Run(kept, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{})
			r.account.Keep = fetch.Keep{Forever: true}
			want := r.fill(3)
			r.succeed()
			r.elsewhere(pop3test.Behaviour{})
			r.drop.Add("adopted", []byte(message(9)))
			r.adopt()
			r.account.Keep = keep
			r.expectOthers(want)
		})
	}
}

// A poll that was not let in does not make it forgotten whose maildrop it was.
func TestOtherMaildropAfterRefusal(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep = fetch.Keep{Forever: true}
	want := r.fill(3)
	r.succeed()
	r.server.Order(pop3test.ReplyErr(pop3test.Login, "[AUTH] no"))
	if s := r.poll(); s.Err == nil {
		t.Fatal("the server let it in")
	}
	r.elsewhere(pop3test.Behaviour{})
	r.expectOthers(want)
}

// Nor do they if the account goes back to where it was.
func TestBackFromAnotherMaildrop(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep = fetch.Keep{Forever: true}
	r.succeed()
	first := r.server
	r.elsewhere(pop3test.Behaviour{})
	want := r.fill(3)
	r.opts.State = &forgetful{r.store, true}
	r.poll()
	r.opts.State = r.store
	r.expect(want...)
	r.use(first)
	r.expectOthers(want)
}

// What moves to where another maildrop was polled says nothing of its unique-ids.
func TestMoveToAnotherMaildrop(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep = fetch.Keep{Forever: true}
	want := r.fill(3)
	r.succeed()
	m, err := r.store.Export(t.Context(), r.account.Name)
	check(t, err)
	check(t, r.store.Forget(t.Context(), r.account.Name))

	r.account.Keep = fetch.Keep{}
	r.elsewhere(pop3test.Behaviour{})
	r.succeed()
	_, err = r.store.Import(t.Context(), []state.Export{m})
	check(t, err)
	r.expectOthers(want)
}

// Unique-ids of another maildrop say nothing, though they may be the same.
func TestOtherMaildrop(t *testing.T) {
	for name, b := range map[string]pop3test.Behaviour{"headers tell": {}, "contents tell": {Without: []string{"TOP"}}} {
		for kept, keep := range map[string]fetch.Keep{"deleted": {}, "kept for a time": {For: 14 * day}, "kept": {Forever: true}} {
			t.Run(name+", "+kept, func(t *testing.T) {
				r := newRig(t, b)
				r.account.Keep = keep
				var want []string
				add := func(from int) {
					for i := range 3 {
						r.drop.Add(fmt.Sprint(i+1), []byte(message(from+i)))
						want = append(want, message(from+i))
					}
				}
				add(1)
				r.succeed()
				r.elsewhere(b)
				add(11)
				if keep.Forever {
					if o := r.outlook(); o["1"] == "keep" || o["2"] == "keep" || o["3"] == "keep" {
						t.Errorf("the outlook is %v", o)
					}
				}
				for range 3 {
					r.later(day)
					r.succeed()
				}
				r.expect(want...)
				if !keep.Forever {
					r.later(15 * day)
					r.succeed()
					r.expectEmpty()
				}
			})
		}
	}
}

// That there was nothing to do in one maildrop says nothing of the other.
func TestOtherMaildropAfterRest(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep = fetch.Keep{Forever: true}
	want := r.fill(3)
	for range 2 { // the second finds nothing to do
		r.succeed()
	}
	r.elsewhere(pop3test.Behaviour{})
	r.expectOthers(want)
}

// The same maildrop by another name is looked at once, and nothing of it comes
// again.
func TestSameMaildrop(t *testing.T) {
	for name, b := range map[string]pop3test.Behaviour{"headers tell": {}, "contents tell": {Without: []string{"TOP"}}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, b)
			r.account.Keep = fetch.Keep{Forever: true}
			want := r.fill(3)
			r.succeed()
			r.elsewhere(b)
			r.fill(3)
			r.later(day)
			r.succeed()
			r.commands()
			r.later(day)
			r.succeed()
			r.expect(want...)
			again := func(line string) bool { return strings.HasPrefix(line, "TOP") || strings.HasPrefix(line, "RETR") }
			if all := r.commands(); slices.ContainsFunc(all, again) {
				t.Errorf("it was looked at again: %q", all)
			}
		})
	}
}

// That a login worked at one server, and the pause that it wants, say nothing of
// another.
func TestOtherServer(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{CapabilitiesAfter: []string{"UIDL", "TOP", "LOGIN-DELAY 36000"}})
	r.succeed()
	r.elsewhere(pop3test.Behaviour{})
	r.drop.Order(pop3test.ReplyErr(pop3test.Login, "[AUTH] no"))
	if s := r.poll(); s.Skipped || s.Class != fetch.ClassOperator {
		t.Errorf("skipped %v, %v: %v", s.Skipped, s.Class, s.Err)
	}
	r.drop.ClearFaults()
	r.drop.Order(pop3test.ReplyErr(pop3test.Login, "[IN-USE] locked"))
	r.patient = false
	if s := r.poll(); s.Skipped || s.Class != fetch.ClassRetry {
		t.Errorf("skipped %v, %v: %v", s.Skipped, s.Class, s.Err)
	}
	r.drop.ClearFaults()
	if s := r.poll(); !s.Skipped { // that pause is its own
		t.Errorf("not skipped: %v: %v", s.Class, s.Err)
	}
	r.later(day)
	want := r.fill(2)
	r.succeed()
	r.expect(want...)
}
