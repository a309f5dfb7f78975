package state_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/fetch/state"
)

func ok(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// open opens a state folder within dir until the test ends.
func open(tb testing.TB, dir string) *state.Store {
	tb.Helper()
	s, err := state.Open(tb.Context(), filepath.Join(dir, "state"))
	ok(tb, err)
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// rows returns the rows of an account, without Seen, which differs in each run. It
// checks that Seen is set.
func rows(tb testing.TB, s *state.Store, account string) []state.Row {
	tb.Helper()
	all, err := s.Rows(tb.Context(), account)
	ok(tb, err)
	for i := range all {
		if all[i].Seen == 0 {
			tb.Errorf("message %.80q was never seen", all[i].UID)
		}
		all[i].Seen = 0
	}
	return all
}

func names(tb testing.TB, s *state.Store) (names []string) {
	tb.Helper()
	all, err := s.Accounts(tb.Context())
	ok(tb, err)
	for _, a := range all {
		names = append(names, a.Name)
	}
	return names
}

func row(tb testing.TB, s *state.Store, uid string) state.Row {
	tb.Helper()
	for _, r := range rows(tb, s, "work") {
		if r.UID == uid {
			return r
		}
	}
	return state.Row{}
}

func promise(uid, sink string) state.Promise {
	return state.Promise{UID: uid, Sink: sink, Token: "token of " + uid, Size: 10,
		Header: state.Sum{1}, Content: state.Sum{2}}
}

func refusal(uid string) state.Refusal {
	return state.Refusal{UID: uid, Size: 7, NextTry: 500, Reason: "too large", Header: state.Sum{9}}
}

// step is one write to the account work.
type step func(t *testing.T, s *state.Store) error

// apply runs steps in order, and fails the test if one of them fails.
func apply(t *testing.T, s *state.Store, steps ...step) {
	t.Helper()
	for _, do := range steps {
		ok(t, do(t, s))
	}
}

func doPromise(ps ...state.Promise) step {
	return func(t *testing.T, s *state.Store) error { return s.Promise(t.Context(), "work", ps) }
}

func doLand(at int64, uid, sink string) step {
	return func(t *testing.T, s *state.Store) error {
		return s.Land(t.Context(), "work", at, []state.Landing{{UID: uid, Sink: sink, Where: "there"}})
	}
}

func promised(uid string, size int64) step {
	return doPromise(state.Promise{UID: uid, Sink: "home", Token: uid, Size: size})
}

func landed(uid string, size int64) step {
	return func(t *testing.T, s *state.Store) error {
		apply(t, s, promised(uid, size))
		return doLand(100, uid, "home")(t, s)
	}
}

func doRetract(uid, sink string) step {
	return func(t *testing.T, s *state.Store) error {
		return s.Retract(t.Context(), "work", []state.Promise{promise(uid, sink)})
	}
}

func doSuspect(at int64, uid, sink string) step {
	return func(t *testing.T, s *state.Store) error {
		return s.Suspect(t.Context(), "work", at, "suspect", []state.Promise{promise(uid, sink)})
	}
}

func doRefuse(r state.Refusal) step {
	return func(t *testing.T, s *state.Store) error {
		return s.Refuse(t.Context(), "work", []state.Refusal{r})
	}
}

func doDeleteUnconfirmed(at int64, uids ...string) step {
	return func(t *testing.T, s *state.Store) error { return s.Delete(t.Context(), "work", at, uids) }
}

// doDelete is doDeleteUnconfirmed, and the server confirms the deletion.
func doDelete(at int64, uids ...string) step {
	return func(t *testing.T, s *state.Store) error {
		return errors.Join(doDeleteUnconfirmed(at, uids...)(t, s), s.Confirm(t.Context(), "work"))
	}
}

func doUndelete(t *testing.T, s *state.Store) error { return s.Undelete(t.Context(), "work") }

func doSave(p state.Poll) step {
	return func(t *testing.T, s *state.Store) error { return s.SavePoll(t.Context(), "work", p) }
}

func doKeep(at int64, h state.Housekeeping) step {
	return func(t *testing.T, s *state.Store) error { return s.Keep(t.Context(), "work", at, h) }
}

// TestRowAfterSteps checks the row of the message "u" after each sequence of writes that
// a poll may make.
func TestRowAfterSteps(t *testing.T) {
	base := state.Row{UID: "u", Size: 10, Header: state.Sum{1}, Content: state.Sum{2}}
	with := func(f func(*state.Row)) state.Row { r := base; f(&r); return r }
	u, v := promise("u", "home"), promise("u", "archive")

	for name, test := range map[string]struct {
		steps []step
		want  state.Row // zero: the row is gone
		open  int
	}{
		"promised": {
			steps: []step{doPromise(u)},
			want:  with(func(r *state.Row) { r.Phase = state.Promised }), open: 1,
		},
		"landed": {
			steps: []step{doPromise(u), doLand(100, "u", "home")},
			want:  with(func(r *state.Row) { r.Phase, r.Landed = state.Landed, 100 }),
		},
		"deleted and restored by the server": {
			steps: []step{doPromise(u), doLand(100, "u", "home"), doDelete(200, "u"),
				doKeep(300, state.Housekeeping{Restored: []string{"u"}})},
			want: with(func(r *state.Row) { r.Phase, r.Landed = state.Landed, 100 }),
		},
		"landed twice": {
			steps: []step{doPromise(u), doLand(100, "u", "home"), doLand(200, "u", "home")},
			want:  with(func(r *state.Row) { r.Phase, r.Landed = state.Landed, 100 }),
		},
		"landed in one sink of two": {
			steps: []step{doPromise(u, v), doLand(100, "u", "home")},
			want:  with(func(r *state.Row) { r.Phase = state.Promised }), open: 1,
		},
		"landed in one sink, the other no longer configured": {
			steps: []step{doPromise(u, v), doLand(100, "u", "home"), doRetract("u", "archive"),
				doKeep(200, state.Housekeeping{Complete: []string{"u"}})},
			want: with(func(r *state.Row) { r.Phase, r.Landed = state.Landed, 200 }),
		},
		"landed in one sink, refused by the other, which is no longer configured": {
			steps: []step{doPromise(u, v), doLand(100, "u", "home"), doRetract("u", "archive"),
				doRefuse(refusal("u")), doKeep(200, state.Housekeeping{Complete: []string{"u"}})},
			want: with(func(r *state.Row) {
				r.Phase, r.Landed, r.Size, r.Header = state.Landed, 200, refusal("u").Size, refusal("u").Header
			}),
		},
		"landed in one sink, open in the other, completed": {
			steps: []step{doPromise(u, v), doLand(100, "u", "home"), doKeep(200, state.Housekeeping{Complete: []string{"u"}})},
			want:  with(func(r *state.Row) { r.Phase = state.Promised }), open: 1,
		},
		"landed in no sink, completed": {
			steps: []step{doPromise(u, v), doKeep(200, state.Housekeeping{Complete: []string{"u"}})},
			want:  with(func(r *state.Row) { r.Phase = state.Promised }), open: 2,
		},
		"landed in both": {
			steps: []step{doPromise(u, v), doLand(100, "u", "home"), doLand(101, "u", "archive")},
			want:  with(func(r *state.Row) { r.Phase, r.Landed = state.Landed, 101 }),
		},
		"deleted": {
			steps: []step{doPromise(u), doLand(100, "u", "home"), doDelete(200, "u")},
			want:  with(func(r *state.Row) { r.Phase, r.Landed, r.Deleted = state.Deleted, 100, 200 }),
		},
		"deleted again": {
			steps: []step{doPromise(u), doLand(100, "u", "home"), doDelete(200, "u"), doDelete(300, "u")},
			want:  with(func(r *state.Row) { r.Phase, r.Landed, r.Deleted = state.Deleted, 100, 300 }),
		},
		"not retrieved for a comparison, then deleted": {
			steps: []step{doPromise(u), doLand(100, "u", "home"), doRefuse(refusal("u")), doDelete(200, "u")},
			want:  with(func(r *state.Row) { r.Phase, r.Landed, r.Deleted = state.Deleted, 100, 200 }),
		},
		"deletion of what has not landed": {
			steps: []step{doPromise(u), doDelete(200, "u")},
			want:  with(func(r *state.Row) { r.Phase = state.Promised }), open: 1,
		},
		"retracted": {
			steps: []step{doPromise(u), doRetract("u", "home")},
		},
		"retracted after landing": {
			steps: []step{doPromise(u), doLand(100, "u", "home"), doRetract("u", "home")},
			want:  with(func(r *state.Row) { r.Phase, r.Landed = state.Landed, 100 }),
		},
		"retracted from one sink, landed in the other": {
			steps: []step{doPromise(u, v), doLand(100, "u", "home"), doRetract("u", "archive")},
			want:  with(func(r *state.Row) { r.Phase = state.Refused }),
		},
		"retracted from one sink, open in the other": {
			steps: []step{doPromise(u, v), doRetract("u", "home")},
			want:  with(func(r *state.Row) { r.Phase = state.Promised }), open: 1,
		},
		"refused, then retracted from one sink, open in the other": {
			steps: []step{doRefuse(refusal("u")), doPromise(u, v), doRetract("u", "home")},
			want: with(func(r *state.Row) {
				r.Phase, r.Tries, r.NextTry, r.Reason = state.Promised, 1, refusal("u").NextTry, refusal("u").Reason
			}), open: 1,
		},
		"retracted from one sink, then landed in the other": {
			steps: []step{doPromise(u, v), doRetract("u", "archive"), doLand(100, "u", "home")},
			want:  with(func(r *state.Row) { r.Phase = state.Refused }),
		},
		"retracted from both": {
			steps: []step{doPromise(u, v), doRetract("u", "archive"), doRetract("u", "home")},
		},
		"retracted from one sink, then promised to it anew and landed": {
			steps: []step{doPromise(u, v), doRetract("u", "archive"), doLand(100, "u", "home"),
				doPromise(v), doLand(200, "u", "archive")},
			want: with(func(r *state.Row) { r.Phase, r.Landed = state.Landed, 200 }),
		},
		"retracted from a sink that is no longer configured": {
			steps: []step{doPromise(u, v), doRetract("u", "archive"), doLand(100, "u", "home"),
				doPromise(u), doLand(200, "u", "home")},
			want: with(func(r *state.Row) { r.Phase, r.Landed = state.Landed, 200 }),
		},
		"suspected": {
			steps: []step{doPromise(u), doSuspect(100, "u", "home")},
			want:  with(func(r *state.Row) { r.Phase, r.NextTry, r.Reason = state.Promised, 100, "suspect" }),
		},
		"suspected, then landed": {
			steps: []step{doPromise(u), doSuspect(100, "u", "home"), doPromise(u), doLand(200, "u", "home")},
			want:  with(func(r *state.Row) { r.Phase, r.Landed = state.Landed, 200 }),
		},
		"suspected once more": {
			steps: []step{doPromise(u), doSuspect(100, "u", "home"), doPromise(u), doSuspect(200, "u", "home")},
			want:  with(func(r *state.Row) { r.Phase, r.NextTry, r.Reason = state.Promised, 200, "suspect" }),
		},
		"suspected once more, for another reason": {
			steps: []step{doPromise(u), func(t *testing.T, s *state.Store) error {
				return s.Suspect(t.Context(), "work", 100, "the first", []state.Promise{u})
			}, doPromise(u), doSuspect(200, "u", "home")},
			want: with(func(r *state.Row) { r.Phase, r.NextTry, r.Reason = state.Promised, 200, "suspect" }),
		},
		"suspected of one sink, open in the other": {
			steps: []step{doPromise(u, v), doSuspect(100, "u", "home")},
			want:  with(func(r *state.Row) { r.Phase = state.Promised }), open: 1,
		},
		"suspected of one sink, landed in the other": {
			steps: []step{doPromise(u, v), doLand(100, "u", "archive"), doSuspect(200, "u", "home"), doPromise(u), doLand(300, "u", "home")},
			want:  with(func(r *state.Row) { r.Phase, r.Landed = state.Landed, 300 }),
		},
		"suspected of one sink, landed in the other, completed": {
			steps: []step{doPromise(u, v), doLand(100, "u", "archive"), doSuspect(200, "u", "home"),
				doKeep(300, state.Housekeeping{Complete: []string{"u"}})},
			want: with(func(r *state.Row) { r.Phase, r.Landed = state.Landed, 300 }),
		},
		"refused while the promise was open": {
			steps: []step{doPromise(u), doRefuse(refusal("u")), doSuspect(100, "u", "home")},
			want: with(func(r *state.Row) {
				r.Phase, r.Tries, r.NextTry, r.Reason = state.Promised, 1, 500, "too large"
			}),
		},
		"suspected, then its promise retracted and refused": {
			steps: []step{doPromise(u), doSuspect(100, "u", "home"), doPromise(u), doRetract("u", "home"), doRefuse(refusal("u"))},
			want: with(func(r *state.Row) {
				r.Phase, r.Size, r.Header, r.Tries, r.NextTry, r.Reason = state.Refused, 7, state.Sum{9}, 1, 500, "too large"
			}),
		},
		"suspected, then not tried": {
			steps: []step{doPromise(u), doSuspect(100, "u", "home"), doRefuse(refusal("u"))},
			want: with(func(r *state.Row) {
				r.Phase, r.Tries, r.NextTry, r.Reason = state.Promised, 1, 500, "too large"
			}),
		},
		"refused, its pause over, and suspected": {
			steps: []step{doRefuse(refusal("u")), doPromise(u), doSuspect(600, "u", "home")},
			want: with(func(r *state.Row) {
				r.Phase, r.Tries, r.NextTry, r.Reason = state.Promised, 1, 600, "too large"
			}),
		},
		"refused": {
			steps: []step{doRefuse(refusal("u"))},
			want: state.Row{UID: "u", Phase: state.Refused, Size: 7, Header: state.Sum{9},
				Tries: 1, NextTry: 500, Reason: "too large"},
		},
		"refused again without its sums": {
			steps: []step{doRefuse(refusal("u")), doRefuse(state.Refusal{UID: "u", Size: 8, NextTry: 600, Reason: "busy"})},
			want: state.Row{UID: "u", Phase: state.Refused, Size: 8, Header: state.Sum{9},
				Tries: 2, NextTry: 600, Reason: "busy"},
		},
		"refused, then landed": {
			steps: []step{doRefuse(refusal("u")), doPromise(u), doLand(100, "u", "home")},
			want:  with(func(r *state.Row) { r.Phase, r.Landed = state.Landed, 100 }),
		},
		"refused, then promised and retracted": {
			steps: []step{doRefuse(refusal("u")), doPromise(u), doRetract("u", "home")},
			want: with(func(r *state.Row) {
				r.Phase, r.Tries, r.NextTry, r.Reason = state.Refused, 1, 500, "too large"
			}),
		},
		"retracted, then refused": {
			steps: []step{doPromise(u), doRetract("u", "home"), doRefuse(refusal("u"))},
			want: state.Row{UID: "u", Phase: state.Refused, Size: 7, Header: state.Sum{9},
				Tries: 1, NextTry: 500, Reason: "too large"},
		},
		"refused while promised, then retracted": {
			steps: []step{doPromise(u), doRefuse(refusal("u")), doRetract("u", "home")},
			want: with(func(r *state.Row) {
				r.Phase, r.Tries, r.NextTry, r.Reason = state.Refused, 1, 500, "too large"
			}),
		},
		"refused while promised": {
			steps: []step{doPromise(u), doRefuse(refusal("u"))},
			want: with(func(r *state.Row) {
				r.Phase, r.Tries, r.NextTry, r.Reason = state.Promised, 1, 500, "too large"
			}), open: 1,
		},
		"refused after deletion": {
			steps: []step{doPromise(u), doLand(100, "u", "home"), doDelete(200, "u"), doRefuse(refusal("u"))},
			want: with(func(r *state.Row) {
				r.Phase, r.Landed, r.Deleted = state.Deleted, 100, 200
				r.Tries, r.NextTry, r.Reason = 1, 500, "too large"
			}),
		},
		"promised anew after deletion": {
			steps: []step{doPromise(u), doLand(100, "u", "home"), doDelete(200, "u"), doPromise(u)},
			want:  with(func(r *state.Row) { r.Phase = state.Promised }), open: 1,
		},
		"promised anew after deletion, for fewer sinks, then retracted": {
			steps: []step{doPromise(u, v), doLand(100, "u", "home"), doLand(100, "u", "archive"), doDelete(200, "u"),
				doPromise(u), doRetract("u", "home")},
		},
		"missing and deleted": {
			steps: []step{doPromise(u), doLand(100, "u", "home"), doKeep(200, state.Housekeeping{Missing: []string{"u"}}), doDelete(200, "u")},
			want:  with(func(r *state.Row) { r.Phase, r.Landed, r.Deleted = state.Deleted, 100, 200 }),
		},
		"not deleted": {
			steps: []step{doPromise(u), doLand(100, "u", "home"), doDeleteUnconfirmed(200, "u"), doUndelete},
			want:  with(func(r *state.Row) { r.Phase, r.Landed, r.Deleted, r.Missing = state.Landed, 100, 200, 200 }),
		},
		"not deleted, which the poll did not note": {
			steps: []step{doPromise(u), doLand(100, "u", "home"), doDeleteUnconfirmed(200, "u"), doSave(state.Poll{Unconfirmed: true}), doUndelete},
			want:  with(func(r *state.Row) { r.Phase, r.Landed, r.Deleted, r.Missing = state.Landed, 100, 200, 200 }),
		},
		"not deleted, and found": {
			steps: []step{doPromise(u), doLand(100, "u", "home"), doDeleteUnconfirmed(200, "u"), doUndelete, doKeep(300, state.Housekeeping{Found: []string{"u"}})},
			want:  with(func(r *state.Row) { r.Phase, r.Landed = state.Landed, 100 }),
		},
		"in doubt": {
			steps: []step{doPromise(u), doLand(100, "u", "home"), doDeleteUnconfirmed(200, "u")},
			want:  with(func(r *state.Row) { r.Phase, r.Landed, r.Deleted, r.Missing = state.Landed, 100, 200, 200 }),
		},
		"deleted, and that was confirmed": {
			steps: []step{doPromise(u), doLand(100, "u", "home"), doDeleteUnconfirmed(200, "u"), doSave(state.Poll{}), doUndelete},
			want:  with(func(r *state.Row) { r.Phase, r.Landed, r.Deleted = state.Deleted, 100, 200 }),
		},
		"deleted before another that was not": {
			steps: []step{doPromise(u), doLand(100, "u", "home"), doDeleteUnconfirmed(200, "u"), doDeleteUnconfirmed(201, "v"), doUndelete},
			want:  with(func(r *state.Row) { r.Phase, r.Landed, r.Deleted = state.Deleted, 100, 200 }),
		},
		"deleted again, and not": {
			steps: []step{doPromise(u), doLand(100, "u", "home"), doDelete(200, "u"), doDeleteUnconfirmed(300, "u"), doUndelete},
			want:  with(func(r *state.Row) { r.Phase, r.Landed, r.Deleted, r.Missing = state.Landed, 100, 300, 300 }),
		},
		"missing": {
			steps: []step{doPromise(u), doLand(100, "u", "home"),
				doKeep(300, state.Housekeeping{Missing: []string{"u"}}), doKeep(400, state.Housekeeping{Missing: []string{"u"}})},
			want: with(func(r *state.Row) { r.Phase, r.Landed, r.Missing = state.Landed, 100, 300 }),
		},
		"refused, and promised as missing": {
			steps: []step{doRefuse(refusal("u")), doPromise(state.Promise{UID: "u", Sink: "home", Size: 10, Header: state.Sum{1}, Content: state.Sum{2}, Missing: 50}),
				doLand(100, "u", "home")},
			want: with(func(r *state.Row) { r.Phase, r.Landed, r.Missing = state.Landed, 100, 50 }),
		},
		"missing and found": {
			steps: []step{doPromise(u), doLand(100, "u", "home"),
				doKeep(300, state.Housekeeping{Missing: []string{"u"}}), doKeep(400, state.Housekeeping{Found: []string{"u"}})},
			want: with(func(r *state.Row) { r.Phase, r.Landed = state.Landed, 100 }),
		},
		"forgotten": {
			steps: []step{doPromise(u), doKeep(300, state.Housekeeping{Forget: []string{"u"}})},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			apply(t, s, doPromise(promise("other", "home")))
			apply(t, s, test.steps...)
			if diff := cmp.Diff(test.want, row(t, s, "u")); diff != "" {
				t.Errorf("row (-want +got):\n%s", diff)
			}
			ps, err := s.Promises(t.Context(), "work")
			ok(t, err)
			if got := len(ps) - 1; got != test.open {
				t.Errorf("%d open promises, want %d", got, test.open)
			}
			if got := row(t, s, "other").Phase; got != state.Promised {
				t.Errorf("another message is now %v", got)
			}
		})
	}
}

func TestPromisesOrder(t *testing.T) {
	s := open(t, t.TempDir())
	apply(t, s, doPromise(promise("c", "home"), promise("a", "home"), promise("b", "home")))
	apply(t, s, doLand(1, "b", "home"))
	again := promise("c", "home") // promised anew, so it is the latest now
	again.Token = "second"
	apply(t, s, doPromise(again))

	got, err := s.Promises(t.Context(), "work")
	ok(t, err)
	if diff := cmp.Diff([]state.Promise{promise("a", "home"), again}, got); diff != "" {
		t.Errorf("promises (-want +got):\n%s", diff)
	}
}

func TestDeliveries(t *testing.T) {
	s := open(t, t.TempDir())
	apply(t, s, doPromise(promise("u", "home"), promise("u", "archive"), promise("u", "third")))
	apply(t, s, doLand(100, "u", "archive"))
	apply(t, s, doRetract("u", "third"))
	got, err := s.Deliveries(t.Context(), "work", "u")
	ok(t, err)
	for i := range got {
		if got[i].Promised == 0 {
			t.Errorf("the delivery to %s was never promised", got[i].Sink)
		}
		got[i].Promised = 0
	}
	want := []state.Delivery{
		{Sink: "home", Token: "token of u", Open: true},
		{Sink: "archive", Token: "token of u", Where: "there", Landed: 100},
		{Sink: "third", Token: "token of u"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("deliveries (-want +got):\n%s", diff)
	}
}

func TestOddUIDsAndNames(t *testing.T) {
	uids := []string{"", "\x00", "\x00\x01abc", "a\x00b", "\xff\xfe", "  ", "a b", "../../etc/passwd", "'; DROP TABLE messages",
		strings.Repeat("x", 1024), strings.Repeat("x", 1023) + "y", "ü"}
	dir := t.TempDir()
	s := open(t, dir)
	for _, account := range []string{"", "work", "WORK", "Büro/\"1\"", "a\x00b", "a", strings.Repeat("n", 3000)} {
		var ps []state.Promise
		for _, uid := range uids {
			ps = append(ps, state.Promise{UID: uid, Sink: "s\x00k", Token: "t:" + account})
		}
		ok(t, s.Promise(t.Context(), account, ps))
		got, err := s.Promises(t.Context(), account)
		ok(t, err)
		if diff := cmp.Diff(ps, got); diff != "" {
			t.Errorf("promises of %.20q (-want +got):\n%s", account, diff)
		}
		l, err := s.Lease(t.Context(), account)
		ok(t, err)
		ok(t, l.Release())
	}
	names := names(t, s)
	if len(names) != 7 {
		t.Errorf("accounts %.80q, want 7", names)
	}
	for _, name := range names {
		if n := len(rows(t, s, name)); n != len(uids) {
			t.Errorf("%d rows of %.20q, want %d", n, name, len(uids))
		}
	}
}
