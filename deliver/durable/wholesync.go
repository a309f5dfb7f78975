package durable

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// fileSystem is a file system of which many small files are synced by a sync of all of
// it (syncfs(2)): on ext4 that takes half the time of a sync of each. It also
// writes what other programs have written, so that it is for calm times only.
//
// Blocks that belong to no single file, such as those of inodes, are then written for
// all files at once. If that fails, over another program's file perhaps, the kernel
// tells only the one who synced the whole (without a journal: with one, nothing can be
// synced any more). So afterwards no file that was open is durable, whatever its Sync
// says, and no directory until it is synced once more; and the disk is never synced as
// a whole again.
type fileSystem struct {
	pool []*asyncSync // guarded by waiting

	wholeDisabled atomic.Bool // its files are to be synced each by itself from now on
	wholeMu       sync.Mutex  // held by who syncs all of it
	lastFailure   int64       // failures after its own, 0 if it has not failed; guarded by whole
}

// maxPool is how many files wait in a pool before their disk is synced, and fewest
// with how many of them that is better than to sync each.
const maxPool, minWholeSync = 32, 8

// wholeFailures counts the syncs of whole disks that failed, running those that go on.
var wholeFailures, wholeRunning atomic.Int64

func fileSystemByID(number uint64) *fileSystem {
	scheduled.Lock()
	defer scheduled.Unlock()
	d := scheduled.disks[number]
	if d == nil {
		d = &fileSystem{}
		scheduled.disks[number] = d
	}
	return d
}

// joinPool puts b into the pool of its disk, and takes out all once they are many.
func (b *asyncSync) joinPool() (many []*asyncSync) {
	scheduled.Lock()
	defer scheduled.Unlock()
	b.addTo(&b.disk.pool)
	if len(b.disk.pool) < maxPool {
		return nil
	}
	return b.disk.takePool()
}

// takePool empties the pool.
func (d *fileSystem) takePool() []*asyncSync {
	all := d.pool
	d.pool = nil
	for _, b := range all {
		b.waitsIn = nil
	}
	return all
}

// flushPool is for who needs the sync: what is in the pool waits no longer.
func (b *asyncSync) flushPool() {
	if b.disk == nil {
		return
	}
	scheduled.Lock()
	var all []*asyncSync
	if b.waitsIn == &b.disk.pool {
		all = b.disk.takePool()
	}
	scheduled.Unlock()
	if len(all) > 0 {
		b.disk.syncGroup(all)
	}
}

// syncGroup syncs what was in the pool: all at once if they are enough and nothing
// speaks against it, else each in its turn.
func (d *fileSystem) syncGroup(group []*asyncSync) {
	if len(group) < minWholeSync || !d.syncWhole(group) {
		schedule(group...)
	}
}

// syncWhole syncs all of the disk. It reports false if that is not to be done now,
// or the system does not let us.
func (d *fileSystem) syncWhole(group []*asyncSync) bool {
	files := make([]*os.File, len(group))
	for i, b := range group {
		files[i] = b.file
	}
	d.wholeMu.Lock()
	defer d.wholeMu.Unlock()
	if d.wholeDisabled.Load() || !canSyncWhole() {
		return false
	}
	wholeRunning.Add(1)
	defer wholeRunning.Add(-1)
	err := syncWholeFS(files)
	if err != nil {
		d.wholeDisabled.Store(true)
		if errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EPERM) {
			return false
		}
		d.lastFailure = wholeFailures.Add(1)
	}
	for _, b := range group {
		b.done <- wholeSyncError(b.file, err)
	}
	return true
}

// wholeSyncError says of a file why its disk was not synced; nil if it was.
func wholeSyncError(file *os.File, why error) error {
	if why == nil {
		return nil
	}
	return &fs.PathError{Op: "sync the file system of", Path: file.Name(), Err: why}
}

// checkWholeSync returns an error if the disk of a file, which says that it was synced, has
// failed to be synced as a whole after the first so many failures. It waits for such
// a sync that goes on: that may have been told what the file was not.
func checkWholeSync(file *os.File, after int64) error {
	if wholeRunning.Load() == 0 && wholeFailures.Load() == after {
		return nil
	}
	number, ok := wholeSyncID(file)
	if !ok {
		return nil
	}
	d := fileSystemByID(number)
	d.wholeMu.Lock()
	defer d.wholeMu.Unlock()
	if d.lastFailure <= after {
		return nil
	}
	return wholeSyncError(file, syscall.EIO)
}

// syncedDirs holds, for each directory that was synced, the failures that count for it
// no more.
var syncedDirs = struct {
	sync.Mutex
	failuresSeen map[string]int64
}{failuresSeen: map[string]int64{}}

// checkWholeSyncDir is doubt for a directory.
func checkWholeSyncDir(dir *os.File) error {
	syncedDirs.Lock()
	after := syncedDirs.failuresSeen[dir.Name()]
	syncedDirs.Unlock()
	now := wholeFailures.Load()
	err := checkWholeSync(dir, after)
	syncedDirs.Lock()
	defer syncedDirs.Unlock()
	syncedDirs.failuresSeen[dir.Name()] = now
	return err
}
