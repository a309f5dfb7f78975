package state_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/fetch/state"
)

func TestDays(t *testing.T) {
	s := open(t, t.TempDir())
	noon := time.Date(2026, 11, 28, 12, 0, 0, 0, time.Local)
	today := state.DayOf(noon)
	save := func(account string, at time.Time, p state.Poll) {
		t.Helper()
		p.Ended = at.Unix()
		ok(t, s.SavePoll(t.Context(), account, p))
	}
	save("work", noon.AddDate(0, 0, -400), state.Poll{Fetched: 9})
	save("work", noon.AddDate(0, 0, -399), state.Poll{Fetched: 5})
	save("work", noon.Add(-12*time.Hour), state.Poll{Fetched: 1, Octets: 10})
	save("work", noon.Add(11*time.Hour), state.Poll{Fetched: 2, Octets: 1 << 40, Error: "cut"})
	save("home", noon, state.Poll{Fetched: 7})

	days, err := s.Days(t.Context(), "work", 0)
	ok(t, err)
	want := []state.Day{
		{Day: today - 399, Polls: 1, Fetched: 5},
		{Day: today, Polls: 2, Failed: 1, Fetched: 3, Octets: 1<<40 + 10},
	}
	if diff := cmp.Diff(want, days); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if days, err = s.Days(t.Context(), "work", today); err != nil || len(days) != 1 {
		t.Errorf("since today: %v, %v", days, err)
	}
	ok(t, s.Forget(t.Context(), "work"))
	if days, err = s.Days(t.Context(), "work", 0); err != nil || len(days) != 0 {
		t.Errorf("after Forget: %v, %v", days, err)
	}
}

func TestDayOf(t *testing.T) {
	east := time.FixedZone("", 13*3600)
	for _, test := range []struct {
		at   time.Time
		want int64
	}{
		{time.Date(1970, 1, 1, 23, 59, 59, 0, time.UTC), 0},
		{time.Date(1970, 1, 2, 0, 0, 0, 0, east), 1},
		{time.Date(1969, 12, 31, 23, 0, 0, 0, east), -1},
		{time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC), 20785},
	} {
		if got := state.DayOf(test.at); got != test.want {
			t.Errorf("%v is day %d, want %d", test.at, got, test.want)
		}
	}
}
