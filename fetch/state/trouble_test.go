package state_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/fetch/state"
)

// Health returns the saved trouble and the last success of each account.
func TestTrouble(t *testing.T) {
	s, ctx := open(t, t.TempDir()), t.Context()
	health := func(want map[string]state.Health) {
		t.Helper()
		got, err := s.Health(ctx)
		ok(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	health(map[string]state.Health{})

	ok(t, s.SavePoll(ctx, "work", state.Poll{Started: 90, Ended: 100, Result: "fine"}))
	ok(t, s.SavePoll(ctx, "work", state.Poll{Started: 190, Ended: 200, Result: "retry", Error: "no answer"}))
	ok(t, s.SaveTrouble(ctx, "work", state.Trouble{Since: 190, Alerted: 200, Level: 1}))
	ok(t, s.SaveTrouble(ctx, "new", state.Trouble{Since: 300, Alerted: 300, Level: 3}))
	health(map[string]state.Health{
		"work": {LastSuccess: 100, Trouble: state.Trouble{Since: 190, Alerted: 200, Level: 1}},
		"new":  {Trouble: state.Trouble{Since: 300, Alerted: 300, Level: 3}},
	})

	ok(t, s.SaveTrouble(ctx, "work", state.Trouble{Since: 190, Alerted: 400, Level: 2}))
	ok(t, s.SaveTrouble(ctx, "new", state.Trouble{}))
	health(map[string]state.Health{
		"work": {LastSuccess: 100, Trouble: state.Trouble{Since: 190, Alerted: 400, Level: 2}},
		"new":  {},
	})

	// Forget deletes the trouble, also for an account that is added again.
	ok(t, s.Forget(ctx, "work"))
	ok(t, s.SavePoll(ctx, "work", state.Poll{Started: 500, Ended: 500, Result: "fine"}))
	health(map[string]state.Health{"work": {LastSuccess: 500}, "new": {}})
}
