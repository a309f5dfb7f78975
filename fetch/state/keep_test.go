package state_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mailhaul/mailhaul/fetch/state"
)

func TestRekey(t *testing.T) {
	for name, test := range map[string]struct {
		steps []step
		keys  []state.Rekey
		// want is the size of each row, by which they are told apart, by its key.
		want map[string]int64
	}{
		"to a new key": {
			steps: []step{landed("a", 1)},
			keys:  []state.Rekey{{From: "a", To: "b"}},
			want:  map[string]int64{"b": 1},
		},
		"renumbered": {
			steps: []step{landed("1", 1), landed("2", 2), landed("3", 3)},
			keys:  []state.Rekey{{From: "1", To: "2"}, {From: "2", To: "3"}, {From: "3", To: "4"}},
			want:  map[string]int64{"2": 1, "3": 2, "4": 3},
		},
		"swapped": {
			steps: []step{landed("1", 1), landed("2", 2)},
			keys:  []state.Rekey{{From: "1", To: "2"}, {From: "2", To: "1"}},
			want:  map[string]int64{"2": 1, "1": 2},
		},
		"onto one that is promised": {
			steps: []step{landed("a", 1), promised("b", 2)},
			keys:  []state.Rekey{{From: "a", To: "b"}},
			want:  map[string]int64{"b": 1},
		},
		"a promised one onto one that landed": {
			steps: []step{promised("a", 1), landed("b", 2)},
			keys:  []state.Rekey{{From: "a", To: "b"}},
			want:  map[string]int64{"b": 2},
		},
		"a promised one onto one that is refused by another sink": {
			steps: []step{promised("a", 1), promised("b", 2), doRefuse(refusal("b")), doRetract("b", "home")},
			keys:  []state.Rekey{{From: "a", To: "b"}},
			want:  map[string]int64{"b": 2},
		},
		"one that landed onto one that was deleted": {
			steps: []step{landed("a", 1), landed("b", 2), doDelete(200, "b")},
			keys:  []state.Rekey{{From: "a", To: "b"}},
			want:  map[string]int64{"b": 2},
		},
		"a deleted one onto one that is promised": {
			steps: []step{landed("a", 1), doDelete(200, "a"), promised("b", 2)},
			keys:  []state.Rekey{{From: "a", To: "b"}},
			want:  map[string]int64{"b": 1},
		},
		"both landed": {
			steps: []step{landed("a", 1), landed("b", 2)},
			keys:  []state.Rekey{{From: "a", To: "b"}},
			want:  map[string]int64{"b": 2},
		},
		"two onto one": {
			steps: []step{landed("a", 1), landed("b", 2)},
			keys:  []state.Rekey{{From: "a", To: "c"}, {From: "b", To: "c"}},
			want:  map[string]int64{"c": 1},
		},
		"onto itself": {
			steps: []step{landed("a", 1)},
			keys:  []state.Rekey{{From: "a", To: "a"}},
			want:  map[string]int64{"a": 1},
		},
		"unknown": {
			steps: []step{landed("a", 1)},
			keys:  []state.Rekey{{From: "x", To: "a"}},
			want:  map[string]int64{"a": 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			apply(t, s, test.steps...)
			ok(t, s.Keep(t.Context(), "work", 1, state.Housekeeping{Rekey: test.keys}))
			got := make(map[string]int64)
			for _, r := range rows(t, s, "work") {
				got[r.UID] = r.Size
				ds, err := s.Deliveries(t.Context(), "work", r.UID)
				ok(t, err)
				if len(ds) != 1 {
					t.Errorf("%q has %d deliveries, want the one that followed it", r.UID, len(ds))
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
		})
	}
}

// Keep applies its other fields to the new keys.
func TestKeepByNewKeys(t *testing.T) {
	s := open(t, t.TempDir())
	apply(t, s, landed("1", 1), landed("2", 2), landed("3", 3), doDelete(5, "3"))
	apply(t, s, doKeep(9, state.Housekeeping{
		Rekey:   []state.Rekey{{From: "1", To: "2"}, {From: "2", To: "3"}, {From: "3", To: "4"}},
		Missing: []string{"2"}, Restored: []string{"4"}, Forget: []string{"3"},
	}))
	var got []state.Row
	for _, r := range rows(t, s, "work") {
		got = append(got, state.Row{UID: r.UID, Size: r.Size, Phase: r.Phase, Missing: r.Missing})
	}
	want := []state.Row{{UID: "2", Size: 1, Phase: state.Landed, Missing: 9}, {UID: "4", Size: 3, Phase: state.Landed}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
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

func TestPollsAndStatus(t *testing.T) {
	s := open(t, t.TempDir())
	st, err := s.Status(t.Context(), "work", 0)
	ok(t, err)
	if diff := cmp.Diff(state.Status{Account: "work"}, st); diff != "" {
		t.Errorf("status of an account never seen (-want +got):\n%s", diff)
	}

	apply(t, s,
		landed("due", 1), landed("due and missing", 1), landed("deleted", 1),
		doPromise(promise("young", "home")), doLand(900, "young", "home"),
		doDelete(300, "deleted"), doPromise(promise("open", "home"), promise("open", "archive")),
		doRefuse(refusal("z")), doRefuse(refusal("b")),
		doKeep(300, state.Housekeeping{Missing: []string{"due and missing"}}),
	)
	good := state.Poll{Started: 1, Ended: 2, Result: "fine", Fetched: 3, Deleted: 4, Listed: 5, Bytes: 1 << 40}
	bad := state.Poll{Started: 11, Ended: 12, Result: "retry", Error: "no route to host", Hint: "try later"}
	ok(t, s.SavePoll(t.Context(), "work", good))
	ok(t, s.SavePoll(t.Context(), "work", bad))
	ok(t, s.SavePoll(t.Context(), "home", good))

	st, err = s.Status(t.Context(), "work", 100)
	ok(t, err)
	refused := func(uid string) state.Row {
		return state.Row{UID: uid, Phase: state.Refused, Size: 7, Header: state.Sum{9}, Tries: 1, NextTry: 500, Reason: "too large"}
	}
	want := state.Status{Account: "work", Last: &bad, Schedule: state.Schedule{LastSuccess: 2}, Fetched: 4, Waiting: 1, Kept: 1, Open: 1,
		Refused: []state.Row{refused("b"), refused("z")}}
	if diff := cmp.Diff(want, st, cmpopts.IgnoreFields(state.Row{}, "Seen")); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	polls, err := s.Polls(t.Context(), "work", 10)
	ok(t, err)
	if diff := cmp.Diff([]state.Poll{bad, good}, polls); diff != "" {
		t.Errorf("polls (-want +got):\n%s", diff)
	}
}

func TestSavePollDropsOldPolls(t *testing.T) {
	s := open(t, t.TempDir())
	for i := range int64(1010) {
		ok(t, s.SavePoll(t.Context(), "work", state.Poll{Started: i}))
	}
	polls, err := s.Polls(t.Context(), "work", 2000)
	ok(t, err)
	if len(polls) != 1000 || polls[0].Started != 1009 || polls[999].Started != 10 {
		t.Errorf("%d polls from %d to %d, want 1000 from 1009 to 10", len(polls), polls[0].Started, polls[len(polls)-1].Started)
	}
}

func TestForget(t *testing.T) {
	s := open(t, t.TempDir())
	apply(t, s, landed("u", 1))
	ok(t, s.SavePoll(t.Context(), "work", state.Poll{Started: 1}))
	ok(t, s.Promise(t.Context(), "other", []state.Promise{promise("u", "home")}))
	ok(t, s.Forget(t.Context(), "work"))

	if diff := cmp.Diff([]string{"other"}, names(t, s)); diff != "" {
		t.Errorf("accounts (-want +got):\n%s", diff)
	}
	ok(t, s.SavePoll(t.Context(), "work", state.Poll{Started: 2}))
	polls, err := s.Polls(t.Context(), "work", 9)
	ok(t, err)
	ds, err := s.Deliveries(t.Context(), "work", "u")
	ok(t, err)
	if len(rows(t, s, "work")) != 0 || len(polls) != 1 || len(ds) != 0 {
		t.Error("something of the account was remembered")
	}
	if len(rows(t, s, "other")) != 1 {
		t.Error("another account was forgotten too")
	}
}

// Keep without a maildrop keeps the stored one.
func TestKeepMaildrop(t *testing.T) {
	s := open(t, t.TempDir())
	for _, test := range []struct {
		step step
		want string
	}{
		{doSave(state.Poll{Maildrop: "here"}), "here"},
		{doKeep(1, state.Housekeeping{Found: []string{"u"}}), "here"},
		{doKeep(2, state.Housekeeping{Maildrop: "there"}), "there"},
	} {
		apply(t, s, test.step)
		st, err := s.Standing(t.Context(), "work")
		ok(t, err)
		if st.Maildrop != test.want {
			t.Errorf("the maildrop is %q, want %q", st.Maildrop, test.want)
		}
	}
}

// Retry ends the pauses of refused messages, and forgets nothing else of them.
func TestRetry(t *testing.T) {
	s := open(t, t.TempDir())
	large := refusal("large")
	large.NextTry = 0
	apply(t, s,
		doPromise(promise("partly", "home"), promise("partly", "archive")), doLand(100, "partly", "home"), doRetract("partly", "archive"), doRefuse(refusal("partly")),
		doRefuse(refusal("poison")), doRefuse(refusal("poison")), doRefuse(large),
		landed("deleted again", 1), doDelete(200, "deleted again"), doRefuse(refusal("deleted again")),
		landed("restored", 1), doRefuse(refusal("restored")), landed("compared", 1), doRefuse(refusal("compared")), doKeep(1, state.Housekeeping{Missing: []string{"compared"}}),
	)
	ok(t, s.Refuse(t.Context(), "other", []state.Refusal{refusal("poison")}))
	retry := func(want int64, uids ...string) {
		t.Helper()
		n, err := s.Retry(t.Context(), "work", 300, uids)
		ok(t, err)
		if n != want {
			t.Errorf("%d messages, want %d", n, want)
		}
	}
	expect := func(want map[string][2]int64) {
		t.Helper()
		got := map[string][2]int64{}
		for _, r := range rows(t, s, "work") {
			got[r.UID] = [2]int64{int64(r.Tries), r.NextTry}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("tries and times of the next (-want +got):\n%s", diff)
		}
	}
	before, err := s.Deliveries(t.Context(), "work", "partly")
	ok(t, err)

	retry(0, "large", "restored", "unknown")
	retry(1, "large", "partly")
	expect(map[string][2]int64{"large": {1, 0}, "partly": {0, 300}, "poison": {2, 500}, "deleted again": {1, 500}, "restored": {1, 500}, "compared": {1, 500}})
	retry(4) // one of them is due already
	expect(map[string][2]int64{"large": {1, 0}, "partly": {0, 300}, "poison": {0, 300}, "deleted again": {1, 300}, "restored": {1, 500}, "compared": {1, 300}})
	retry(2)

	after, err := s.Deliveries(t.Context(), "work", "partly")
	ok(t, err)
	if diff := cmp.Diff(before, after); diff != "" || len(after) != 2 {
		t.Errorf("%d deliveries (-before +after):\n%s", len(after), diff)
	}
	if r := rows(t, s, "other")[0]; r.Tries != 1 || r.NextTry != 500 {
		t.Errorf("of another account: %+v", r)
	}
}

// A message that the server would not send for a comparison counts as refused during its
// pause.
func TestStatusOfFailedComparison(t *testing.T) {
	s := open(t, t.TempDir())
	later := func(uid string) state.Refusal {
		r := refusal(uid)
		r.NextTry = time.Now().Add(time.Hour).Unix()
		return r
	}
	apply(t, s,
		landed("landed", 1), doRefuse(later("landed")), landed("deleted", 1), doDelete(200, "deleted"), doRefuse(later("deleted")),
		landed("listed", 1), doRefuse(later("listed")), landed("over", 1), doRefuse(refusal("over")),
		doKeep(300, state.Housekeeping{Missing: []string{"landed", "over"}}),
	)
	ok(t, s.Adopt(t.Context(), "work", []state.Adoption{{UID: "adopted"}}))
	ok(t, s.Refuse(t.Context(), "work", []state.Refusal{later("adopted")}))
	st, err := s.Status(t.Context(), "work", 0)
	ok(t, err)
	var got []string
	for _, r := range st.Refused {
		got = append(got, r.UID+" "+r.Phase.String())
	}
	if diff := cmp.Diff([]string{"adopted adopted", "deleted deleted", "landed landed"}, got); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
}

// A refused message that is gone from the server no longer counts as refused. During its
// pause it still does, as it may only be missing from one listing.
func TestStatusOfRefusedAndGone(t *testing.T) {
	s := open(t, t.TempDir())
	waits := refusal("waits")
	waits.NextTry = time.Now().Add(time.Hour).Unix()
	apply(t, s,
		doRefuse(refusal("there")), doRefuse(refusal("gone")), doRefuse(waits),
		doPromise(promise("suspect", "home")), doSuspect(100, "suspect", "home"), doRefuse(refusal("suspect")),
		doKeep(300, state.Housekeeping{Missing: []string{"gone", "waits", "suspect"}}),
	)
	for _, want := range [][]string{{"there", "waits"}, {"gone", "suspect", "there", "waits"}} {
		st, err := s.Status(t.Context(), "work", 0)
		ok(t, err)
		var got []string
		for _, r := range st.Refused {
			got = append(got, r.UID)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("refused (-want +got):\n%s", diff)
		}
		accounts, err := s.Accounts(t.Context())
		ok(t, err)
		if n := accounts[0].Refused; n != len(want) {
			t.Errorf("%d refused of %q", n, want)
		}
		apply(t, s, doKeep(400, state.Housekeeping{Found: []string{"gone", "waits", "suspect"}}))
	}
}

// Keep replaces landings after sinks were renamed, also if the names were exchanged and
// one is the name in a withdrawn promise.
func TestKeepLanded(t *testing.T) {
	s := open(t, t.TempDir())
	ctx := t.Context()
	of := func(sink string) state.Promise {
		p := promise("u", sink)
		p.Token = "made by " + sink
		return p
	}
	ps := []state.Promise{of("a"), of("b"), of("c")}
	ok(t, s.Promise(ctx, "work", ps))
	ok(t, s.Land(ctx, "work", 7, []state.Landing{{UID: "u", Sink: "a", Where: "in a"}, {UID: "u", Sink: "b"}}))
	ok(t, s.Retract(ctx, "work", ps[2:]))
	before, err := s.Deliveries(ctx, "work", "u")
	ok(t, err)
	want := []state.Delivery{before[0], before[1]}
	want[0].Sink, want[1].Sink = "b", "c"
	twice := append(want, want[1])
	ok(t, s.Keep(ctx, "work", 8, state.Housekeeping{Landed: map[string][]state.Delivery{"u": twice}}))
	got, err := s.Deliveries(ctx, "work", "u")
	ok(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("deliveries (-want +got):\n%s", diff)
	}
	if row := rows(t, s, "work")[0]; row.Phase != state.Refused {
		t.Errorf("the message is %v", row.Phase)
	}
}
