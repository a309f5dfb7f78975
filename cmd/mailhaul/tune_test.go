package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestTune(t *testing.T) {
	processorsBefore, percentBefore, availableBefore := runtime.GOMAXPROCS(0), debug.SetGCPercent(100), available
	t.Cleanup(func() {
		runtime.GOMAXPROCS(processorsBefore)
		debug.SetGCPercent(percentBefore)
		available = availableBefore
	})
	for _, test := range []struct {
		available, polls    int
		env                 string
		processors, percent int
	}{
		{16, 1, "", 1, 100},
		{16, 7, "", 1, 100},
		{16, 8, "", 2, 50},
		{16, 32, "", 5, 50},
		{2, 32, "", 2, 50},
		{1, 32, "", 1, 50},
		{16, 1, "70", 3, 70}, // as the runtime has them already
	} {
		t.Setenv("GOMAXPROCS", test.env)
		t.Setenv("GOGC", test.env)
		runtime.GOMAXPROCS(3)
		debug.SetGCPercent(70)
		available = test.available
		tune(test.polls)
		got, percent := runtime.GOMAXPROCS(0), debug.SetGCPercent(70)
		if got != test.processors || percent != test.percent {
			t.Errorf("%d polls, %d processors, environment %q: %d processors are used and GOGC is %d, want %d and %d",
				test.polls, test.available, test.env, got, percent, test.processors, test.percent)
		}
	}
}
