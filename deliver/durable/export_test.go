package durable

import (
	"os"
	"testing"
)

// OnSync has hook called before each sync of a file, until the test ends. No file
// waits for others.
func OnSync(t *testing.T, hook func(name string)) {
	sync, of, memory := fsync, wholeSyncID, isInMemory
	fsync = func(f *os.File) error {
		hook(f.Name())
		return sync(f)
	}
	wholeSyncID = func(*os.File) (uint64, bool) { return 0, false }
	isInMemory = func(*os.File) bool { return false }
	t.Cleanup(func() { fsync, wholeSyncID, isInMemory = sync, of, memory })
}

// Disks stands in for the kernel.
type Disks struct {
	Of    func(name string) uint64   // the disk that a file is on
	Whole func(names []string) error // syncs it for files
	Each  func(name string) error    // syncs a file
	Calm  func() bool
}

// OnDisks has files be on other disks until the test ends.
func OnDisks(t *testing.T, d Disks) {
	sync, of, whole, quiet, memory := fsync, wholeSyncID, syncWholeFS, canSyncWhole, isInMemory
	fsync = func(f *os.File) error { return d.Each(f.Name()) }
	wholeSyncID = func(f *os.File) (uint64, bool) { return d.Of(f.Name()), true }
	syncWholeFS = func(files []*os.File) error {
		var names []string
		for _, f := range files {
			names = append(names, f.Name())
		}
		return d.Whole(names)
	}
	canSyncWhole = d.Calm
	isInMemory = func(*os.File) bool { return false }
	before := setDisks(map[uint64]*fileSystem{})
	t.Cleanup(func() {
		fsync, wholeSyncID, syncWholeFS, canSyncWhole, isInMemory = sync, of, whole, quiet, memory
		setDisks(before)
	})
}

func setDisks(m map[uint64]*fileSystem) (before map[uint64]*fileSystem) {
	scheduled.Lock()
	defer scheduled.Unlock()
	before, scheduled.disks = scheduled.disks, m
	return before
}

// AtOnce is how many syncs go on at once, Most how many files wait for a sync of
// all of their disk, Fewest what it is for at least, and Small what is too much of
// a file for it.
const AtOnce, Most, Fewest, Small = maxWorkers, maxPool, minWholeSync, maxSmallFile

// Waiting is how many wait for their turn.
func Waiting() int {
	scheduled.Lock()
	defer scheduled.Unlock()
	return len(scheduled.queue)
}
