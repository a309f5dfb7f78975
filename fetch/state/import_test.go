package state_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/fetch/state"
)

func export(t *testing.T, s *state.Store, account string) state.Export {
	t.Helper()
	m, err := s.Export(t.Context(), account)
	ok(t, err)
	return m
}

func importAll(t *testing.T, s *state.Store, want int, ms ...state.Export) {
	t.Helper()
	added, err := s.Import(t.Context(), ms)
	ok(t, err)
	if added != want {
		t.Errorf("%d messages were added, want %d", added, want)
	}
}

// storeWithAllPhases returns a store whose account work has messages in every phase.
func storeWithAllPhases(t *testing.T) *state.Store {
	s := open(t, t.TempDir())
	apply(t, s, landed("b\xff", 1))
	apply(t, s, landed("a", 1))
	ok(t, s.Delete(t.Context(), "work", 2, []string{"a"}))
	apply(t, s, doPromise(promise("partly", "home"), promise("partly", "archive")))
	apply(t, s, doLand(3, "partly", "home"))
	apply(t, s, doRetract("partly", "archive"))
	apply(t, s, doRefuse(refusal("\x00refused")))
	ok(t, s.Adopt(t.Context(), "work", []state.Adoption{{UID: "adopted", Size: 5}}))
	ok(t, s.Keep(t.Context(), "work", 4, state.Housekeeping{Missing: []string{"a"}}))
	ok(t, s.SavePoll(t.Context(), "work", state.Poll{Started: 1, Ended: 2, Result: "fine", Listed: 3, Octets: 4}))
	ok(t, s.SavePoll(t.Context(), "work", state.Poll{Started: 5, Ended: 6, Result: "retry", Error: "odd", Hint: "wait"}))
	return s
}

func TestExportAndImport(t *testing.T) {
	was := export(t, storeWithAllPhases(t), "work")
	if len(was.Messages) != 5 || len(was.Polls) != 2 || len(was.Days) != 1 || was.LastSuccess != 2 {
		t.Fatalf("exported %d messages, %d polls, %d days and the success at %d", len(was.Messages), len(was.Polls), len(was.Days), was.LastSuccess)
	}
	s := open(t, t.TempDir())
	apply(t, s, doPromise(promise("mine", "home"))) // so that the account has another id here
	importAll(t, s, 10, was, state.Export{Account: "second", Messages: was.Messages})
	is := export(t, s, "work")
	i := slices.IndexFunc(is.Messages, func(m state.Message) bool { return m.UID == "mine" })
	is.Messages = slices.Delete(is.Messages, i, i+1)
	if diff := cmp.Diff(was, is); diff != "" {
		t.Errorf("export (-was +is):\n%s", diff)
	}

	// A second import changes no row that exists. It adds the one that was forgotten.
	ok(t, s.Keep(t.Context(), "work", 9, state.Housekeeping{Forget: []string{"adopted"}, Missing: []string{"b\xff"}}))
	importAll(t, s, 1, was)
	is = export(t, s, "work")
	if len(is.Messages) != 6 || len(is.Polls) != 2 {
		t.Errorf("there are %d messages and %d polls now", len(is.Messages), len(is.Polls))
	}
	if row(t, s, "b\xff").Missing != 9 {
		t.Error("a row that was there has changed")
	}
}

// Messages from another maildrop become Missing, if they may be listed. What the account
// knows of its own maildrop stays.
func TestImportFromAnotherMaildrop(t *testing.T) {
	s := open(t, t.TempDir())
	apply(t, s, doSave(state.Poll{Ended: 200, Maildrop: "here", Fetched: 7}))
	was := export(t, s, "work")
	theirs := state.Export{Account: "work", LastSuccess: 100, Maildrop: "there", Days: []state.Day{{Day: was.Days[0].Day, Polls: 9}}}
	for _, r := range []state.Row{
		{UID: "deleted", Phase: state.Deleted, Deleted: 5}, {UID: "landed", Phase: state.Landed}, {UID: "missing", Phase: state.Landed, Missing: 5},
	} {
		theirs.Messages = append(theirs.Messages, state.Message{Row: r})
	}
	importAll(t, s, 3, theirs)
	is := export(t, s, "work")
	for i, want := range []func(missing int64) bool{
		func(missing int64) bool { return missing == 0 },
		func(missing int64) bool { return missing > 5 },
		func(missing int64) bool { return missing == 5 },
	} {
		if m := is.Messages[i]; !want(m.Missing) {
			t.Errorf("message %q is missing since %d", m.UID, m.Missing)
		}
	}
	is.Messages = nil
	if diff := cmp.Diff(was, is); diff != "" {
		t.Errorf("what the account knows of its own (-was +is):\n%s", diff)
	}
}

// Import withdraws open promises, so that their messages are fetched again.
func TestImportWithdrawsPromises(t *testing.T) {
	s := open(t, t.TempDir())
	apply(t, s, doPromise(promise("open", "home"), promise("half", "home"), promise("half", "archive")))
	apply(t, s, doLand(3, "half", "home"))
	was := export(t, s, "work")

	other := open(t, t.TempDir())
	importAll(t, other, 2, was)
	ps, err := other.Promises(t.Context(), "work")
	ok(t, err)
	is := export(t, other, "work")
	if len(ps) != 0 || len(is.Messages) != 1 || is.Messages[0].UID != "half" || is.Messages[0].Phase != state.Refused {
		t.Errorf("%d promises are open; remembered: %v", len(ps), is.Messages)
	}
}

func TestImportIsAllOrNothing(t *testing.T) {
	was := export(t, storeWithAllPhases(t), "work")
	twice := was
	twice.Account = "twice"
	twice.Messages = slices.Clone(was.Messages)
	twice.Messages[0].Deliveries = []state.Delivery{{Sink: "home", Landed: 1}, {Sink: "home", Landed: 1}}
	s := open(t, t.TempDir())
	if _, err := s.Import(t.Context(), []state.Export{was, twice}); err == nil {
		t.Fatal("a message was delivered twice to one sink")
	}
	if left := names(t, s); len(left) != 0 {
		t.Errorf("the accounts %q are remembered", left)
	}
}
