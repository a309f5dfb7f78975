package state_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/fetch/state"
)

func TestServerOf(t *testing.T) {
	s := open(t, t.TempDir())
	recall := func(want state.Server, wantLeft int) {
		t.Helper()
		got, left, err := s.ServerOf(t.Context(), "work")
		ok(t, err)
		if diff := cmp.Diff(want, got); diff != "" || left != wantLeft {
			t.Errorf("%d left; (-want +got):\n%s", left, diff)
		}
	}
	recall(state.Server{}, 0)
	ok(t, s.SavePoll(t.Context(), "work", state.Poll{Listed: 9, Deleted: 2}))
	recall(state.Server{}, 7)
	server := state.Server{Key: "pop.example.org:995 me", Before: []string{"SASL PLAIN", "STLS"}, Asked: 17}
	ok(t, s.SavePoll(t.Context(), "work", state.Poll{Server: &server}))
	recall(server, 0)
	ok(t, s.SavePoll(t.Context(), "work", state.Poll{Listed: 5}))
	recall(server, 5)
	ok(t, s.SavePoll(t.Context(), "work", state.Poll{Server: &state.Server{}}))
	recall(state.Server{}, 0)
	ok(t, s.SavePoll(t.Context(), "work", state.Poll{Server: &server}))
	ok(t, s.Forget(t.Context(), "work"))
	recall(state.Server{}, 0)
}
