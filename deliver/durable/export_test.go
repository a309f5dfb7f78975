package durable

import (
	"os"
	"testing"
)

// OnSync has hook called before each sync of a file, until the test ends. No file
// waits for others.
func OnSync(t *testing.T, hook func(name string)) {
	sync, of := fsync, diskOf
	fsync = func(f *os.File) error {
		hook(f.Name())
		return sync(f)
	}
	diskOf = func(*os.File) (uint64, bool) { return 0, false }
	t.Cleanup(func() { fsync, diskOf = sync, of })
}

// OnDisks has files be on the file systems that disk tells by their names, until
// the test ends. Those are synced by whole, and single files by each.
func OnDisks(t *testing.T, disk func(name string) uint64, whole func(names []string) error, each func(name string) error) {
	sync, of, all := fsync, diskOf, syncDisk
	diskOf = func(f *os.File) (uint64, bool) { return disk(f.Name()), true }
	fsync = func(f *os.File) error { return each(f.Name()) }
	syncDisk = func(files []*os.File) error {
		var names []string
		for _, f := range files {
			names = append(names, f.Name())
		}
		return whole(names)
	}
	t.Cleanup(func() { fsync, diskOf, syncDisk = sync, of, all })
}

// AtOnce is how many syncs go on at once, Most how many files a sync of all of a
// file system waits for, Fewest what it is for at least, and Small what is too much
// of a file for it.
const AtOnce, Most, Fewest, Small = atOnce, most, fewest, small

// Waiting is how many wait for their turn.
func Waiting() int {
	waiting.Lock()
	defer waiting.Unlock()
	return waiting.queue.Len()
}
