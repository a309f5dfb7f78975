package main

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// The number of processors and GOGC depend on the number of polls, and a sync to a disk
// gives mailhaul a second processor. What the environment sets stays.
func TestTuneRuntime(t *testing.T) {
	processorsBefore, percentBefore, availableBefore := runtime.GOMAXPROCS(0), debug.SetGCPercent(100), maxProcessors
	t.Cleanup(func() {
		runtime.GOMAXPROCS(processorsBefore)
		debug.SetGCPercent(percentBefore)
		maxProcessors = availableBefore
		durable.OnDisk(func() {})
	})
	disk := false
	durable.OnDisk(func() { disk = true })
	beginSync(t)
	if !disk {
		t.Skip("NOT TESTED: temporary files are in memory here")
	}
	for _, test := range []struct {
		available, polls            int
		env                         string
		processors, onDisk, percent int
	}{
		{16, 1, "", 1, 2, 100},
		{16, 7, "", 1, 2, 100},
		{16, 8, "", 2, 2, 50},
		{16, 32, "", 5, 5, 50},
		{2, 32, "", 2, 2, 50},
		{1, 7, "", 1, 1, 100},
		{16, 1, "70", 3, 3, 70}, // as the runtime has them already
	} {
		t.Setenv("GOMAXPROCS", test.env)
		t.Setenv("GOGC", test.env)
		runtime.GOMAXPROCS(3)
		debug.SetGCPercent(70)
		maxProcessors = test.available
		tuneRuntime(test.polls)
		processors, percent := runtime.GOMAXPROCS(0), debug.SetGCPercent(70)
		beginSync(t)
		onDisk := runtime.GOMAXPROCS(0)
		if processors != test.processors || onDisk != test.onDisk || percent != test.percent {
			t.Errorf("%d polls, %d processors, environment %q: %d processors are used, %d with a disk, and GOGC is %d, want %d, %d and %d",
				test.polls, test.available, test.env, processors, onDisk, percent, test.processors, test.onDisk, test.percent)
		}
	}
}

// beginSync begins the sync of a file.
func beginSync(t *testing.T) {
	f, err := durable.OS.OpenFile(filepath.Join(t.TempDir(), "file"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.BeginSync()
	f.Close()
}
