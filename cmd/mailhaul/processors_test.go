package main

import (
	"runtime"
	"testing"
)

func TestUseProcessors(t *testing.T) {
	before, had := runtime.GOMAXPROCS(0), available
	t.Cleanup(func() {
		available = had
		runtime.GOMAXPROCS(before)
	})
	for _, test := range []struct {
		available, polls int
		env              string
		want             int
	}{
		{16, 1, "", 1},
		{16, 7, "", 1},
		{16, 8, "", 2},
		{16, 32, "", 5},
		{2, 32, "", 2},
		{1, 32, "", 1},
		{16, 1, "4", 3}, // as the runtime has it already
	} {
		t.Setenv("GOMAXPROCS", test.env)
		runtime.GOMAXPROCS(3)
		available = test.available
		useProcessors(test.polls)
		if got := runtime.GOMAXPROCS(0); got != test.want {
			t.Errorf("%d polls, %d processors, GOMAXPROCS=%q: %d are used, want %d",
				test.polls, test.available, test.env, got, test.want)
		}
	}
}
