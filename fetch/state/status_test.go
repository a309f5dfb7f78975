package state_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mailhaul/mailhaul/fetch/state"
)

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
	good := state.Poll{Started: 1, Ended: 2, Result: "fine", Fetched: 3, Deleted: 4, Listed: 5, Octets: 1 << 40}
	bad := state.Poll{Started: 11, Ended: 12, Result: "retry", Error: "no route to host", Hint: "try later"}
	ok(t, s.SavePoll(t.Context(), "work", good))
	ok(t, s.SavePoll(t.Context(), "work", bad))
	ok(t, s.SavePoll(t.Context(), "home", good))

	st, err = s.Status(t.Context(), "work", 100)
	ok(t, err)
	refused := func(uid string) state.Row {
		return state.Row{UID: uid, Phase: state.Refused, Size: 7, Header: state.Sum{9}, Tries: 1, NextTry: 500, Reason: "too large"}
	}
	want := state.Status{Account: "work", Last: &bad, Schedule: state.Schedule{LastSuccess: 2}, Fetched: 4, ToDelete: 1, Kept: 1, Open: 1,
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
