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
// The kernel tells of what it could not write once, to whoever asks first; and of
// what belongs to no file in particular, such as a block of inodes, to who syncs
// the whole. So if that fails, no file that was open then counts as durable,
// whatever is said of it later, and the disk is never synced as a whole again.
type disk struct {
	pool []*begun // guarded by waiting

	whole  sync.Mutex   // held by who syncs all of it
	never  atomic.Bool  // it is not to be synced as a whole
	failed atomic.Int64 // which of the failures was its
}

// most is how many files wait in a pool before their disk is synced, and fewest
// with how many of them that is better than to sync each.
const most, fewest = 32, 8

// failures counts how often a sync of a whole disk has failed.
var failures atomic.Int64

// diskNumber returns the disk of that number.
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
	b.wait(&b.disk.pool)
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
		b.among = nil
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
	if b.among == &b.disk.pool {
		all = b.disk.take()
	}
	waiting.Unlock()
	b.disk.sync(all)
}

// sync syncs what was in the pool: all at once if they are enough and nothing
// speaks against it, else each in its turn.
func (d *disk) sync(group []*begun) {
	if len(group) < fewest || !calm() || !d.syncWhole(group) {
		enqueue(group...)
	}
}

// syncWhole syncs all of the disk. It reports false if that is not to be done, or
// the system does not let us.
func (d *disk) syncWhole(group []*begun) bool {
	files := make([]*os.File, len(group))
	for i, b := range group {
		files[i] = b.file
	}
	d.whole.Lock() // so that who comes next knows of a failure
	defer d.whole.Unlock()
	if d.never.Load() {
		return false
	}
	err := syncDisk(files)
	if err != nil {
		d.never.Store(true)
		if errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EPERM) {
			return false
		}
		d.failed.Store(failures.Add(1))
		err = &fs.PathError{Op: "sync the file system of", Path: files[0].Name(), Err: err}
	}
	for _, b := range group {
		b.done <- err
	}
	return true
}

// inDoubt reports whether the disk of a file has failed to be synced as a whole
// since the file was opened, after so many failures.
func inDoubt(file *os.File, opened int64) bool {
	if failures.Load() == opened {
		return false
	}
	number, ok := diskOf(file)
	return ok && diskNumber(number).failed.Load() > opened
}
