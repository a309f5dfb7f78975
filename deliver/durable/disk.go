package durable

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// disk is a file system of which many small files are synced by a sync of all of
// it (syncfs(2)): on ext4 that takes half the time of a sync of each. It also
// writes what other programs have written, so that it is for calm times only.
//
// Blocks that belong to no single file, such as those of inodes, are then written for
// all files at once. If that fails, over another program's file perhaps, the kernel
// tells only the one who synced the whole (without a journal: with one, nothing can be
// synced any more). So afterwards no file that was open is durable, whatever its Sync
// says, and no directory until it is synced once more; and the disk is never synced as
// a whole again.
type disk struct {
	pool []*begun // guarded by waiting

	each   atomic.Bool // its files are to be synced each by itself from now on
	whole  sync.Mutex  // held by who syncs all of it
	failed int64       // failures after its own, 0 if it has not failed; guarded by whole
}

// most is how many files wait in a pool before their disk is synced, and fewest
// with how many of them that is better than to sync each.
const most, fewest = 32, 8

// failures counts the syncs of whole disks that failed, running those that go on.
var failures, running atomic.Int64

func diskNumber(number uint64) *disk {
	waiting.Lock()
	defer waiting.Unlock()
	d := waiting.disks[number]
	if d == nil {
		d = &disk{}
		waiting.disks[number] = d
	}
	return d
}

// join puts b into the pool of its disk, and takes out all once they are many.
func (b *begun) join() (many []*begun) {
	waiting.Lock()
	defer waiting.Unlock()
	b.addTo(&b.disk.pool)
	if len(b.disk.pool) < most {
		return nil
	}
	return b.disk.take()
}

// take empties the pool.
func (d *disk) take() []*begun {
	all := d.pool
	d.pool = nil
	for _, b := range all {
		b.queue = nil
	}
	return all
}

// hurry is for who needs the sync: what is in the pool waits no longer.
func (b *begun) hurry() {
	if b.disk == nil {
		return
	}
	waiting.Lock()
	var all []*begun
	if b.queue == &b.disk.pool {
		all = b.disk.take()
	}
	waiting.Unlock()
	if len(all) > 0 {
		b.disk.sync(all)
	}
}

// sync syncs what was in the pool: all at once if they are enough and nothing
// speaks against it, else each in its turn.
func (d *disk) sync(group []*begun) {
	if len(group) < fewest || !d.syncWhole(group) {
		enqueue(group...)
	}
}

// syncWhole syncs all of the disk. It reports false if that is not to be done now,
// or the system does not let us.
func (d *disk) syncWhole(group []*begun) bool {
	files := make([]*os.File, len(group))
	for i, b := range group {
		files[i] = b.file
	}
	d.whole.Lock()
	defer d.whole.Unlock()
	if d.each.Load() || !calm() {
		return false
	}
	running.Add(1)
	defer running.Add(-1)
	err := syncDisk(files)
	if err != nil {
		d.each.Store(true)
		if errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EPERM) {
			return false
		}
		d.failed = failures.Add(1)
	}
	for _, b := range group {
		b.done <- notSynced(b.file, err)
	}
	return true
}

// notSynced says of a file why its disk was not synced; nil if it was.
func notSynced(file *os.File, why error) error {
	if why == nil {
		return nil
	}
	return &fs.PathError{Op: "sync the file system of", Path: file.Name(), Err: why}
}

// doubt returns an error if the disk of a file, which says that it was synced, has
// failed to be synced as a whole after the first so many failures. It waits for such
// a sync that goes on: that may have been told what the file was not.
func doubt(file *os.File, after int64) error {
	if running.Load() == 0 && failures.Load() == after {
		return nil
	}
	number, ok := diskOf(file)
	if !ok {
		return nil
	}
	d := diskNumber(number)
	d.whole.Lock()
	defer d.whole.Unlock()
	if d.failed <= after {
		return nil
	}
	return notSynced(file, syscall.EIO)
}

// dirs holds, for each directory that was synced, the failures that count for it
// no more.
var dirs = struct {
	sync.Mutex
	after map[string]int64
}{after: map[string]int64{}}

// doubtDir is doubt for a directory.
func doubtDir(dir *os.File) error {
	dirs.Lock()
	after := dirs.after[dir.Name()]
	dirs.Unlock()
	now := failures.Load()
	err := doubt(dir, after)
	dirs.Lock()
	defer dirs.Unlock()
	dirs.after[dir.Name()] = now
	return err
}
