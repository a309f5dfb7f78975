package modeltest

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// The journal of the model answers like package state after the same calls.
func TestJournalIsLikeTheStore(t *testing.T) {
	ctx := t.Context()
	store, err := state.Open(ctx, filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	model := newJournal()
	model.step = func(string) {}
	random := rand.New(rand.NewPCG(1, 1))
	for i := range int64(500) {
		uid := uid(random.IntN(3))
		promises := []state.Promise{{UID: uid, Sink: "home", Token: "t", Size: i, Header: state.Sum{1}, Content: state.Sum{byte(i), 1}, Missing: i % 2 * i}}
		landings := []state.Landing{{UID: uid, Sink: "home"}}
		var do func(fetch.State) error
		switch random.IntN(11) {
		case 0, 1:
			do = func(s fetch.State) error { return s.Promise(ctx, "work", promises) }
		case 2, 3:
			do = func(s fetch.State) error { return s.Land(ctx, "work", i+1, landings) }
		case 4:
			do = func(s fetch.State) error { return s.Retract(ctx, "work", promises) }
		case 5:
			do = func(s fetch.State) error { return s.Delete(ctx, "work", i+1, []string{uid}) }
		case 6:
			do = func(s fetch.State) error { return s.Undelete(ctx, "work") }
		case 7:
			do = func(s fetch.State) error { return s.Confirm(ctx, "work") }
		case 8:
			do = func(s fetch.State) error { return s.Suspect(ctx, "work", i+1, "suspect", promises) }
		default:
			var h state.Housekeeping
			*[]*[]string{&h.Missing, &h.Found, &h.Restored, &h.Forget}[random.IntN(4)] = []string{uid}
			do = func(s fetch.State) error { return s.Keep(ctx, "work", i+1, h) }
		}
		if err, modelErr := do(store), do(model); (err == nil) != (modelErr == nil) {
			t.Fatalf("step %d: %v; the model says %v", i, err, modelErr)
		}
		for _, s := range []fetch.State{store, model} {
			poll := state.Poll{Unconfirmed: i%3 > 0}
			if i%4 == 0 {
				poll.Rest = &state.Rest{Listing: state.Sum{byte(i), 1}, Until: i}
			}
			if err := s.SavePoll(ctx, "work", poll); err != nil {
				t.Fatal(err)
			}
		}
		compare(t, store, model)
	}
}

// compare fails the test unless both states say the same.
func compare(t *testing.T, store, model fetch.State) {
	t.Helper()
	rows, err := store.Rows(t.Context(), "work")
	modelRows, modelErr := model.Rows(t.Context(), "work")
	for i := range rows {
		rows[i].Seen = 0 // depends on the clock
	}
	if diff := cmp.Diff(rows, modelRows); err != nil || modelErr != nil || diff != "" {
		t.Fatalf("rows (-store +model), %v, %v:\n%s", err, modelErr, diff)
	}
	rowStates, err := store.RowStates(t.Context(), "work")
	modelStates, modelErr := model.RowStates(t.Context(), "work")
	if diff := cmp.Diff(rowStates, modelStates); err != nil || modelErr != nil || diff != "" {
		t.Fatalf("row states (-store +model), %v, %v:\n%s", err, modelErr, diff)
	}
	standing, err := store.Standing(t.Context(), "work")
	standing.Schedule, standing.Unreported, standing.UnreportedBytes = state.Schedule{}, 0, 0
	modelStanding, modelErr := model.Standing(t.Context(), "work")
	if diff := cmp.Diff(standing, modelStanding); err != nil || modelErr != nil || diff != "" {
		t.Fatalf("standing (-store +model), %v, %v:\n%s", err, modelErr, diff)
	}
	open, err := store.Promises(t.Context(), "work")
	modelOpen, modelErr := model.Promises(t.Context(), "work")
	if len(open)+len(modelOpen) == 0 {
		return
	}
	if diff := cmp.Diff(open, modelOpen); err != nil || modelErr != nil || diff != "" {
		t.Fatalf("promises (-store +model), %v, %v:\n%s", err, modelErr, diff)
	}
}
