package state_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/fetch/state"
)

// One call of Land may have landings of several sinks, as when a poll settles promises.
func TestLandingsOfSeveralSinks(t *testing.T) {
	s := open(t, t.TempDir())
	var landed []state.Landing
	var want []string
	for i := range 4 {
		uid, sinks := strconv.Itoa(i), []string{"home", "archive"}
		apply(t, s, doPromise(promise(uid, "home"), promise(uid, "archive")))
		landed = append(landed, state.Landing{UID: uid, Sink: sinks[i%2]})
		want = append(want, uid+" "+sinks[1-i%2])
	}
	ok(t, s.Land(t.Context(), "work", 1, landed))
	left, err := s.Promises(t.Context(), "work")
	ok(t, err)
	var got []string
	for _, p := range left {
		got = append(got, p.UID+" "+p.Sink)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("open promises (-want +got):\n%s", diff)
	}
}

// Landing.Where replaces the place of the promise, for that message alone.
func TestLandingsElsewhere(t *testing.T) {
	s := open(t, t.TempDir())
	var landed []state.Landing
	for _, uid := range []string{"a", "b", "c", "d"} {
		p := promise(uid, "home")
		p.Where = "new/" + uid
		apply(t, s, doPromise(p))
		landed = append(landed, state.Landing{UID: uid, Sink: "home"})
	}
	landed[1].Where = "cur/b"
	ok(t, s.Land(t.Context(), "work", 1, landed))
	for uid, want := range map[string]string{"a": "new/a", "b": "cur/b", "c": "new/c", "d": "new/d"} {
		got, err := s.Deliveries(t.Context(), "work", uid)
		ok(t, err)
		if len(got) != 1 || got[0].Where != want {
			t.Errorf("deliveries of %s are %+v, want one at %s", uid, got, want)
		}
	}
}

func TestLandWithoutPromise(t *testing.T) {
	s := open(t, t.TempDir())
	apply(t, s, doPromise(promise("u", "home")))
	err := s.Land(t.Context(), "work", 1, []state.Landing{{UID: "u", Sink: "home"}, {UID: "u", Sink: "elsewhere"}})
	if err == nil || !strings.Contains(err.Error(), `"elsewhere"`) {
		t.Errorf("error %v, want one that names the sink", err)
	}
	if got := row(t, s, "u").Phase; got != state.Promised {
		t.Errorf("the other landing of the call was noted: %v", got)
	}
	apply(t, s, doPromise(promise("a", "home"), promise("b", "home"), promise("c", "home")))
	err = s.Land(t.Context(), "work", 1, []state.Landing{
		{UID: "a", Sink: "home"}, {UID: "b", Sink: "home"}, {UID: "nobody's", Sink: "home"}, {UID: "c", Sink: "home"}})
	if err == nil || !strings.Contains(err.Error(), `"nobody's"`) || row(t, s, "a").Phase != state.Promised {
		t.Errorf("one of four was not promised: error %v", err)
	}
	apply(t, s, doPromise(promise("v", "home"), promise("v", "archive")))
	apply(t, s, doRetract("v", "home"))
	if err := doLand(1, "v", "home")(t, s); err == nil {
		t.Error("what was withdrawn has landed")
	}
}

// Messages that landed in one sink of two, and were withdrawn from the other, become
// Refused. There are enough of them for statements of all sizes.
func TestPartlyLandedBecomeRefused(t *testing.T) {
	s := open(t, t.TempDir())
	var withdrawn []state.Promise
	var landed []state.Landing
	for i := range 64 + 16 + 4 + 1 {
		uid := strconv.Itoa(i)
		apply(t, s, doPromise(promise(uid, "home"), promise(uid, "archive")))
		withdrawn = append(withdrawn, promise(uid, "archive"))
		landed = append(landed, state.Landing{UID: uid, Sink: "home"})
	}
	apply(t, s, doPromise(promise("everywhere", "home")))
	landed = append([]state.Landing{{UID: "everywhere", Sink: "home"}}, landed...)
	ok(t, s.Retract(t.Context(), "work", withdrawn))
	ok(t, s.Land(t.Context(), "work", 1, landed))
	for _, r := range rows(t, s, "work") {
		if r.UID != "everywhere" && r.Phase != state.Refused {
			t.Errorf("message %q is %v, want it refused", r.UID, r.Phase)
		}
	}
}

// What has landed is Unreported until a poll is saved that counts it. What was dropped
// does not count.
func TestUnreported(t *testing.T) {
	s := open(t, t.TempDir())
	expect := func(messages int, octets int64) {
		t.Helper()
		st, err := s.Standing(t.Context(), "work")
		ok(t, err)
		if st.Unreported != messages || st.UnreportedBytes != octets {
			t.Errorf("unreported: %d messages, %d octets, want %d, %d", st.Unreported, st.UnreportedBytes, messages, octets)
		}
	}
	apply(t, s,
		doPromise(promise("a", "home"), promise("b", "home"), promise("b", "archive"), promise("c", "none")),
		doLand(1, "a", "home"),
		doLand(1, "b", "home"),
		func(t *testing.T, s *state.Store) error {
			return s.Land(t.Context(), "work", 1, []state.Landing{{UID: "c", Sink: "none", Dropped: true}})
		},
	)
	expect(1, 10) // b has not landed in the archive
	apply(t, s, doLand(2, "b", "archive"))
	expect(2, 20)
	apply(t, s, doSave(state.Poll{Fetched: 1, Octets: 10}))
	expect(1, 10)
	apply(t, s, doSave(state.Poll{Fetched: 1, Octets: 10}))
	expect(0, 0)
}
