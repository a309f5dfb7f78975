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

// moveState moves all that is remembered to another state folder.
func (r *rig) moveState() {
	m, err := r.store.Export(r.t.Context(), r.account.Name)
	check(r.t, err)
	next, err := state.Open(context.Background(), filepath.Join(r.t.TempDir(), "state"))
	check(r.t, err)
	r.t.Cleanup(func() { next.Close() })
	_, err = next.Import(r.t.Context(), []state.Export{m})
	check(r.t, err)
	r.store, r.opts.State = next, next
}

// The state was moved, and then the account polls another maildrop with the same
// unique-ids: its messages are fetched.
func TestOtherMaildropAfterMove(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep = fetch.Keep{For: 14 * day}
	want := r.fill(3)
	r.mustPoll()
	r.advance(20 * day)
	r.moveState()
	r.switchServer(pop3test.Behaviour{})
	for i := range 3 {
		r.drop.Add(fmt.Sprint("u", i+1), []byte(message(11+i)))
		want = append(want, message(11+i))
	}
	r.mustPoll()
	r.expectDelivered(want...)
}

// expectNewMailUnderOldUIDs fills the maildrop with other messages under the unique-ids of
// fill(3), and fails the test unless they are delivered beside those of before.
func (r *rig) expectNewMailUnderOldUIDs(before []string) {
	r.t.Helper()
	for i := range 3 {
		r.drop.Add(fmt.Sprint("u", i+1), []byte(message(11+i)))
		before = append(before, message(11+i))
	}
	r.advance(day)
	r.mustPoll()
	r.expectDelivered(before...)
}

// Another maildrop is noticed although the first one was only adopted, or its poll was
// killed.
func TestOtherMaildropBeforeFirstPoll(t *testing.T) {
	for name, begin := range map[string]func(r *rig){
		"adopted": func(r *rig) { r.adopt() },
		"killed": func(r *rig) {
			r.pollKilledAtQuit()
		},
	} {
		for kept, keep := range map[string]fetch.Keep{"deleted": {}, "kept": {Forever: true}} {
			t.Run(name+", "+kept, func(t *testing.T) {
				r := newRig(t, pop3test.Behaviour{})
				r.account.Keep = keep
				r.fill(3)
				begin(r)
				want := r.mail()
				r.switchServer(pop3test.Behaviour{})
				r.expectNewMailUnderOldUIDs(want)
			})
		}
	}
}

// Another maildrop is noticed although messages in it were adopted first.
func TestAdoptInAnotherMaildrop(t *testing.T) {
	for kept, keep := range map[string]fetch.Keep{"deleted": {}, "kept": {Forever: true}} {
		t.Run(kept, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{})
			r.account.Keep = fetch.Keep{Forever: true}
			want := r.fill(3)
			r.mustPoll()
			r.switchServer(pop3test.Behaviour{})
			r.drop.Add("adopted", []byte(message(9)))
			r.adopt()
			r.account.Keep = keep
			r.expectNewMailUnderOldUIDs(want)
		})
	}
}

// Another maildrop is noticed although a login was refused in between.
func TestOtherMaildropAfterRefusal(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep = fetch.Keep{Forever: true}
	want := r.fill(3)
	r.mustPoll()
	r.server.Order(pop3test.ReplyErr(pop3test.Login, "[AUTH] no"))
	if s := r.poll(); s.Err == nil {
		t.Fatal("the server let it in")
	}
	r.switchServer(pop3test.Behaviour{})
	r.expectNewMailUnderOldUIDs(want)
}

// A maildrop is noticed as another one also if the account has polled it before, and then
// another.
func TestBackFromAnotherMaildrop(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep = fetch.Keep{Forever: true}
	r.mustPoll()
	first := r.server
	r.switchServer(pop3test.Behaviour{})
	want := r.fill(3)
	r.pollKilledAtQuit()
	r.expectDelivered(want...)
	r.useServer(first)
	r.expectNewMailUnderOldUIDs(want)
}

// What is remembered of one maildrop may be moved to a state in which another was polled.
// It says nothing of that one.
func TestMoveToAnotherMaildrop(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep = fetch.Keep{Forever: true}
	want := r.fill(3)
	r.mustPoll()
	m, err := r.store.Export(t.Context(), r.account.Name)
	check(t, err)
	check(t, r.store.Forget(t.Context(), r.account.Name))

	r.account.Keep = fetch.Keep{}
	r.switchServer(pop3test.Behaviour{})
	r.mustPoll()
	_, err = r.store.Import(t.Context(), []state.Export{m})
	check(t, err)
	r.expectNewMailUnderOldUIDs(want)
}

// The messages of another maildrop are fetched although they have remembered unique-ids,
// and deleted when they are due.
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
				r.mustPoll()
				r.switchServer(b)
				add(11)
				if keep.Forever {
					if o := r.fates(); o["1"] == "keep" || o["2"] == "keep" || o["3"] == "keep" {
						t.Errorf("the outlook is %v", o)
					}
				}
				for range 3 {
					r.advance(day)
					r.mustPoll()
				}
				r.expectDelivered(want...)
				if !keep.Forever {
					r.advance(15 * day)
					r.mustPoll()
					r.expectMaildropEmpty()
				}
			})
		}
	}
}

// Another maildrop is noticed although nothing had changed in the first one at the last
// poll.
func TestOtherMaildropAfterRest(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep = fetch.Keep{Forever: true}
	want := r.fill(3)
	for range 2 { // the second finds nothing to do
		r.mustPoll()
	}
	r.switchServer(pop3test.Behaviour{})
	r.expectNewMailUnderOldUIDs(want)
}

// The same maildrop at another address is compared once, and nothing is delivered again.
func TestSameMaildropAtOtherAddress(t *testing.T) {
	for name, b := range map[string]pop3test.Behaviour{"headers tell": {}, "contents tell": {Without: []string{"TOP"}}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, b)
			r.account.Keep = fetch.Keep{Forever: true}
			want := r.fill(3)
			r.mustPoll()
			r.switchServer(b)
			r.fill(3)
			r.advance(day)
			r.mustPoll()
			r.newCommands()
			r.advance(day)
			r.mustPoll()
			r.expectDelivered(want...)
			again := func(line string) bool { return strings.HasPrefix(line, "TOP") || strings.HasPrefix(line, "RETR") }
			if all := r.newCommands(); slices.ContainsFunc(all, again) {
				t.Errorf("it was looked at again: %q", all)
			}
		})
	}
}

// A login that worked at one server, and the pause that it asked for, say nothing of
// another server.
func TestOtherServer(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{CapabilitiesAfter: []string{"UIDL", "TOP", "LOGIN-DELAY 36000"}})
	r.mustPoll()
	r.switchServer(pop3test.Behaviour{})
	r.drop.Order(pop3test.ReplyErr(pop3test.Login, "[AUTH] no"))
	if s := r.poll(); s.Skipped || s.Class != fetch.ClassOperator {
		t.Errorf("skipped %v, %v: %v", s.Skipped, s.Class, s.Err)
	}
	r.drop.ClearFaults()
	r.drop.Order(pop3test.ReplyErr(pop3test.Login, "[IN-USE] locked"))
	r.retryInUse = false
	if s := r.poll(); s.Skipped || s.Class != fetch.ClassRetry {
		t.Errorf("skipped %v, %v: %v", s.Skipped, s.Class, s.Err)
	}
	r.drop.ClearFaults()
	if s := r.poll(); !s.Skipped { // the pause is the second server's
		t.Errorf("not skipped: %v: %v", s.Class, s.Err)
	}
	r.advance(day)
	want := r.fill(2)
	r.mustPoll()
	r.expectDelivered(want...)
}
