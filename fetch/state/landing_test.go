package state_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/fetch/state"
)

// Landings of several sinks may come at once, as a poll finds them that others left.
func TestLandingsOfSeveralSinks(t *testing.T) {
	s := open(t, t.TempDir())
	var landed []state.Landing
	var want []string
	for i := range 4 {
		uid, sinks := strconv.Itoa(i), []string{"home", "archive"}
		ok(t, doPromise(promise(uid, "home"), promise(uid, "archive"))(s, t))
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

// What lands elsewhere than it was promised says so, and nothing that lands with it does.
func TestLandingsElsewhere(t *testing.T) {
	s := open(t, t.TempDir())
	var landed []state.Landing
	for _, uid := range []string{"a", "b", "c", "d"} {
		p := promise(uid, "home")
		p.Where = "new/" + uid
		ok(t, doPromise(p)(s, t))
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

func TestLandingThatWasNotPromised(t *testing.T) {
	s := open(t, t.TempDir())
	ok(t, doPromise(promise("u", "home"))(s, t))
	err := s.Land(t.Context(), "work", 1, []state.Landing{{UID: "u", Sink: "home"}, {UID: "u", Sink: "elsewhere"}})
	if err == nil || !strings.Contains(err.Error(), `"elsewhere"`) {
		t.Errorf("error %v, want one that names the sink", err)
	}
	if got := row(t, s, "u").Phase; got != state.Promised {
		t.Errorf("the other landing of the call was noted: %v", got)
	}
	ok(t, doPromise(promise("a", "home"), promise("b", "home"), promise("c", "home"))(s, t))
	err = s.Land(t.Context(), "work", 1, []state.Landing{
		{UID: "a", Sink: "home"}, {UID: "b", Sink: "home"}, {UID: "nobody's", Sink: "home"}, {UID: "c", Sink: "home"}})
	if err == nil || !strings.Contains(err.Error(), `"nobody's"`) || row(t, s, "a").Phase != state.Promised {
		t.Errorf("one of four was not promised: error %v", err)
	}
	ok(t, doPromise(promise("v", "home"), promise("v", "archive"))(s, t))
	ok(t, doRetract("v", "home")(s, t))
	if err := doLand(1, "v", "home")(s, t); err == nil {
		t.Error("what was withdrawn has landed")
	}
}

// What landed in one sink is owed to the other, each message for itself. There are
// enough of them for statements of all sizes.
func TestSeveralAreOwed(t *testing.T) {
	s := open(t, t.TempDir())
	var owed []state.Promise
	var landed []state.Landing
	for i := range 64 + 16 + 4 + 1 {
		uid := strconv.Itoa(i)
		ok(t, doPromise(promise(uid, "home"), promise(uid, "archive"))(s, t))
		owed = append(owed, promise(uid, "archive"))
		landed = append(landed, state.Landing{UID: uid, Sink: "home"})
	}
	ok(t, doPromise(promise("whole", "home"))(s, t)) // which is owed to nobody
	landed = append([]state.Landing{{UID: "whole", Sink: "home"}}, landed...)
	ok(t, s.Retract(t.Context(), "work", owed))
	ok(t, s.Land(t.Context(), "work", 1, landed))
	for _, r := range rows(t, s, "work") {
		if r.UID != "whole" && r.Phase != state.Refused {
			t.Errorf("message %q is %v, want it refused", r.UID, r.Phase)
		}
	}
}

// What has landed is Unreported until a poll is saved that counts it. What was dropped
// is not mail that came in.
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
	for _, step := range []step{
		doPromise(promise("a", "home"), promise("b", "home"), promise("b", "archive"), promise("c", "none")),
		doLand(1, "a", "home"),
		doLand(1, "b", "home"),
		func(s *state.Store, t *testing.T) error {
			return s.Land(t.Context(), "work", 1, []state.Landing{{UID: "c", Sink: "none", Dropped: true}})
		},
	} {
		ok(t, step(s, t))
	}
	expect(1, 10) // b is owed to the archive
	ok(t, doLand(2, "b", "archive")(s, t))
	expect(2, 20)
	ok(t, doSave(state.Poll{Fetched: 1, Bytes: 10})(s, t))
	expect(1, 10)
	ok(t, doSave(state.Poll{Fetched: 1, Bytes: 10})(s, t))
	expect(0, 0)
}
