package durable

import (
	"os"
	"testing"
)

// OnSync calls hook before each fsync of a file, until the test ends. No files are
// synced together meanwhile.
func OnSync(t *testing.T, hook func(name string)) {
	sync, of, memory := fsync, syncfsID, isInMemory
	fsync = func(f *os.File) error {
		hook(f.Name())
		return sync(f)
	}
	syncfsID = func(*os.File) (uint64, bool) { return 0, false }
	isInMemory = func(*os.File) bool { return false }
	t.Cleanup(func() { fsync, syncfsID, isInMemory = sync, of, memory })
}

// Kernel replaces the calls of the operating system in a test.
type Kernel struct {
	FileSystem func(name string) uint64   // the id of the file system that a file is on
	Syncfs     func(names []string) error // called for a group of files
	Fsync      func(name string) error
	IsCheap    func() bool // syncfs
}

// ReplaceKernel uses k until the test ends.
func ReplaceKernel(t *testing.T, k Kernel) {
	sync, id, syncfs, cheap, memory := fsync, syncfsID, callSyncfs, syncfsIsCheap, isInMemory
	fsync = func(f *os.File) error { return k.Fsync(f.Name()) }
	syncfsID = func(f *os.File) (uint64, bool) { return k.FileSystem(f.Name()), true }
	callSyncfs = func(files []*os.File) error {
		var names []string
		for _, f := range files {
			names = append(names, f.Name())
		}
		return k.Syncfs(names)
	}
	syncfsIsCheap = k.IsCheap
	isInMemory = func(*os.File) bool { return false }
	before := setFileSystems(map[uint64]*fileSystem{})
	t.Cleanup(func() {
		fsync, syncfsID, callSyncfs, syncfsIsCheap, isInMemory = sync, id, syncfs, cheap, memory
		setFileSystems(before)
	})
}

func setFileSystems(m map[uint64]*fileSystem) (before map[uint64]*fileSystem) {
	scheduled.Lock()
	defer scheduled.Unlock()
	before, scheduled.fileSystems = scheduled.fileSystems, m
	return before
}

// The limits, for tests.
const (
	MaxWorkers   = maxWorkers
	MaxGroup     = maxGroup
	MinGroup     = minGroup
	MaxSmallFile = maxSmallFile
)

// QueueLength returns how many syncs wait for a worker.
func QueueLength() int {
	scheduled.Lock()
	defer scheduled.Unlock()
	return len(scheduled.queue)
}
