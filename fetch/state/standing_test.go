package state_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/fetch/state"
)

func TestStanding(t *testing.T) {
	s := open(t, t.TempDir())
	expectServer := func(want state.Server, wantLeft int) {
		t.Helper()
		got, err := s.Standing(t.Context(), "work")
		ok(t, err)
		got.Schedule = state.Schedule{}
		if diff := cmp.Diff(state.Standing{Server: want, Left: wantLeft}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	expectServer(state.Server{}, 0)
	ok(t, s.SavePoll(t.Context(), "work", state.Poll{Listed: 9, Deleted: 2}))
	expectServer(state.Server{}, 7)
	server := state.Server{Key: "pop.example.org:995 me", Before: []string{"SASL PLAIN", "STLS"}, Asked: 17}
	ok(t, s.SavePoll(t.Context(), "work", state.Poll{Server: &server}))
	expectServer(server, 0)
	ok(t, s.SavePoll(t.Context(), "work", state.Poll{Listed: 5}))
	expectServer(server, 5)
	ok(t, s.SavePoll(t.Context(), "work", state.Poll{Server: &state.Server{}}))
	expectServer(state.Server{}, 0)
	ok(t, s.SavePoll(t.Context(), "work", state.Poll{Server: &server}))
	ok(t, s.Forget(t.Context(), "work"))
	expectServer(state.Server{}, 0)
}

// Deletions are in doubt until Confirm, Undelete, or a SavePoll that is not Unconfirmed.
func TestDoubt(t *testing.T) {
	s := open(t, t.TempDir())
	expect := func(want bool) {
		t.Helper()
		for _, account := range []string{"work", "other"} {
			got, err := s.Standing(t.Context(), account)
			ok(t, err)
			if got.Unconfirmed != (want && account == "work") {
				t.Errorf("%s: in doubt %v", account, got.Unconfirmed)
			}
		}
	}
	apply(t, s, doPromise(promise("u", "home")))
	apply(t, s, doLand(1, "u", "home"))
	expect(false)
	apply(t, s, doDeleteUnconfirmed(2, "u"))
	expect(true)
	ok(t, s.SavePoll(t.Context(), "other", state.Poll{}))
	apply(t, s, doSave(state.Poll{Unconfirmed: true}))
	expect(true)
	apply(t, s, doSave(state.Poll{}))
	expect(false)
	apply(t, s, doDeleteUnconfirmed(3, "u"))
	apply(t, s, doUndelete)
	expect(false)
	apply(t, s, doDeleteUnconfirmed(4, "u"))
	ok(t, s.Confirm(t.Context(), "work"))
	expect(false)
}

// Any change of a row ends the Rest, and nothing else does.
func TestRest(t *testing.T) {
	export := state.Export{Account: "work", Messages: []state.Message{{Row: state.Row{UID: "w", Phase: state.Landed}}}}
	for name, test := range map[string]struct {
		do   step
		ends bool
	}{
		"promise":     {doPromise(promise("v", "home")), true},
		"landing":     {doLand(2, "open", "home"), true},
		"retract":     {doRetract("open", "home"), true},
		"suspicion":   {doSuspect(2, "open", "home"), true},
		"refusal":     {doRefuse(refusal("v")), true},
		"deletion":    {doDelete(2, "u"), true},
		"no deletion": {doUndelete, true},
		"missing":     {doKeep(2, state.Housekeeping{Missing: []string{"u"}}), true},
		"adoption": {func(t *testing.T, s *state.Store) error {
			return s.Adopt(t.Context(), "work", []state.Adoption{{UID: "v"}})
		}, true},
		"import": {func(t *testing.T, s *state.Store) error {
			_, err := s.Import(t.Context(), []state.Export{export})
			return err
		}, true},
		"forget":      {func(t *testing.T, s *state.Store) error { return s.Forget(t.Context(), "work") }, true},
		"nothing new": {doKeep(2, state.Housekeeping{}), false},
		"another poll": {func(t *testing.T, s *state.Store) error {
			return s.SavePoll(t.Context(), "work", state.Poll{Error: "x"})
		}, false},
		"trouble": {func(t *testing.T, s *state.Store) error {
			return s.SaveTrouble(t.Context(), "work", state.Trouble{Since: 1})
		}, false},
		"another account": {func(t *testing.T, s *state.Store) error {
			return s.Promise(t.Context(), "other", []state.Promise{promise("u", "home")})
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			apply(t, s, doPromise(promise("u", "home"), promise("open", "home")))
			apply(t, s, doLand(1, "u", "home"))
			rest := state.Rest{Listing: state.Sum{1}, Until: 9}
			ok(t, s.SavePoll(t.Context(), "work", state.Poll{Rest: &rest}))
			apply(t, s, test.do)
			if test.ends {
				rest = state.Rest{}
			}
			if st, err := s.Standing(t.Context(), "work"); err != nil || st.Rest != rest {
				t.Errorf("at rest %+v, %v; want %+v", st.Rest, err, rest)
			}
		})
	}
}
