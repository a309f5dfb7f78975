package state_test

import (
	"testing"

	"github.com/mailhaul/mailhaul/fetch/state"
)

func TestSavePollDropsOldPolls(t *testing.T) {
	s := open(t, t.TempDir())
	for i := range int64(1010) {
		ok(t, s.SavePoll(t.Context(), "work", state.Poll{Started: i}))
	}
	polls, err := s.Polls(t.Context(), "work", 2000)
	ok(t, err)
	if len(polls) != 1000 || polls[0].Started != 1009 || polls[999].Started != 10 {
		t.Errorf("%d polls from %d to %d, want 1000 from 1009 to 10", len(polls), polls[0].Started, polls[len(polls)-1].Started)
	}
}
