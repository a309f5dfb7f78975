package state_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/fetch/state"
)

func TestAccounts(t *testing.T) {
	s := open(t, t.TempDir())
	apply(t, s, landed("kept", 1))
	apply(t, s, landed("gone", 1))
	ok(t, s.Delete(t.Context(), "work", 2, []string{"gone"}))
	apply(t, s, doPromise(promise("open", "home"), promise("open", "archive")))
	apply(t, s, doRefuse(refusal("refused")))
	ok(t, s.Adopt(t.Context(), "work", []state.Adoption{{UID: "adopted", Size: 5}}))
	ok(t, s.SavePoll(t.Context(), "work", state.Poll{Started: 1, Ended: 2}))
	ok(t, s.SavePoll(t.Context(), "work", state.Poll{Started: 3, Ended: 4}))
	ok(t, s.SavePoll(t.Context(), "empty", state.Poll{Started: 1, Ended: 9}))

	got, err := s.Accounts(t.Context())
	ok(t, err)
	want := []state.Account{
		{Name: "empty", Polled: 9},
		{Name: "work", Messages: 5, Listed: 4, Refused: 1, Adopted: 1, Open: 1, Octets: 1 + 1 + 10 + 7 + 5, Polled: 4},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("accounts (-want +got):\n%s", diff)
	}
	if n, err := s.Octets(t.Context()); err != nil || n < 4096 {
		t.Errorf("the database has %d octets, %v", n, err)
	}
}

// Adopt changes no row in another phase, and adopted messages stay adopted.
func TestAdopt(t *testing.T) {
	s := open(t, t.TempDir())
	apply(t, s, landed("landed", 1))
	apply(t, s, doRefuse(refusal("refused")))
	adoptions := []state.Adoption{{UID: "landed"}, {UID: "refused"}, {UID: "new", Size: 4, Header: state.Sum{2}}}
	ok(t, s.Adopt(t.Context(), "work", adoptions))
	ok(t, s.Keep(t.Context(), "work", 8, state.Housekeeping{Missing: []string{"new"}}))
	adoptions[2] = state.Adoption{UID: "new", Size: 5, Header: state.Sum{3}} // another message
	ok(t, s.Adopt(t.Context(), "work", adoptions))
	if row(t, s, "landed").Phase != state.Landed || row(t, s, "refused").Phase != state.Refused {
		t.Error("a row that was there has changed")
	}
	want := state.Row{UID: "new", Phase: state.Adopted, Size: 5, Header: state.Sum{3}}
	if diff := cmp.Diff(want, row(t, s, "new")); diff != "" {
		t.Errorf("row (-want +got):\n%s", diff)
	}
	ok(t, s.Delete(t.Context(), "work", 9, []string{"new"}))
	apply(t, s, doRefuse(refusal("new")))
	ok(t, s.Keep(t.Context(), "work", 9, state.Housekeeping{Restored: []string{"new"}, Complete: []string{"new"}}))
	if got := row(t, s, "new").Phase; got != state.Adopted {
		t.Errorf("it is now %v", got)
	}
	st, err := s.Status(t.Context(), "work", 100)
	ok(t, err)
	if st.Fetched != 1 || st.ToDelete != 1 || st.Kept != 1 {
		t.Errorf("fetched %d, waiting %d, kept %d, want 1 of each", st.Fetched, st.ToDelete, st.Kept)
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

func TestRename(t *testing.T) {
	s := open(t, t.TempDir())
	apply(t, s, landed("u", 1))
	ok(t, s.SavePoll(t.Context(), "work", state.Poll{Started: 1}))
	ok(t, s.SavePoll(t.Context(), "office", state.Poll{Started: 2}))
	ok(t, s.Promise(t.Context(), "other", []state.Promise{promise("u", "home")}))
	if s.Rename(t.Context(), "work", "other") == nil {
		t.Error("an account with messages was overwritten")
	}
	if s.Rename(t.Context(), "wrok", "office") == nil {
		t.Error("an account that is not remembered was renamed")
	}
	ok(t, s.Rename(t.Context(), "work", "office"))
	if diff := cmp.Diff([]string{"office", "other"}, names(t, s)); diff != "" {
		t.Errorf("accounts (-want +got):\n%s", diff)
	}
	ds, err := s.Deliveries(t.Context(), "office", "u")
	ok(t, err)
	polls, err := s.Polls(t.Context(), "office", 9)
	ok(t, err)
	if len(rows(t, s, "office")) != 1 || len(ds) != 1 || len(polls) != 1 || polls[0].Started != 1 {
		t.Errorf("%d deliveries and polls %v came along", len(ds), polls)
	}
}
