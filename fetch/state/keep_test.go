package state_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

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
