package durable

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// fileSystem is a mounted file system on which small files are synced in groups, by
// one call of syncfs(2). On ext4 that takes half the time of an fsync of each file.
// syncfs also writes what other programs have written, so it is used only while there
// is little of that.
//
// syncfs writes blocks that belong to no single file, such as those that hold inodes,
// for all files at once. If such a write fails, perhaps because of a file of another
// program, the kernel reports the error only to the caller of syncfs, and a later
// fsync of one of the other files may succeed. (That is so without a journal. With
// one, no further sync succeeds.) Therefore, after a failed syncfs:
//
//   - no file that was open at that time counts as durable, even if its fsync succeeds,
//   - each directory fails its next SyncDir,
//   - syncfs is not used on this file system again.
type fileSystem struct {
	pool []*asyncSync // files that wait to be synced together; guarded by scheduled

	syncfsDisabled atomic.Bool // sync each file by itself from now on
	syncfsMu       sync.Mutex  // held during syncfs
	lastFailure    int64       // syncfsFailures after its last failure; 0 if none; guarded by syncfsMu
}

const (
	// maxGroup is how many files wait in a pool before they are synced.
	maxGroup = 32
	// minGroup is the smallest number of files for which syncfs is faster than an
	// fsync of each.
	minGroup = 8
)

// syncfsFailures counts the calls of syncfs that failed, on all file systems;
// syncfsRunning counts those that have not returned yet.
var syncfsFailures, syncfsRunning atomic.Int64

// fileSystemOf returns the file system with an id of syncfsID.
func fileSystemOf(id uint64) *fileSystem {
	scheduled.Lock()
	defer scheduled.Unlock()
	d := scheduled.fileSystems[id]
	if d == nil {
		d = &fileSystem{}
		scheduled.fileSystems[id] = d
	}
	return d
}

// joinPool adds b to the pool of its file system. If the pool is full then, it is
// emptied, and joinPool returns the group to sync.
func (b *asyncSync) joinPool() (group []*asyncSync) {
	scheduled.Lock()
	defer scheduled.Unlock()
	b.addTo(&b.fileSys.pool)
	if len(b.fileSys.pool) < maxGroup {
		return nil
	}
	return b.fileSys.takePool()
}

// takePool empties the pool and returns what was in it. The caller holds scheduled.
func (d *fileSystem) takePool() []*asyncSync {
	group := d.pool
	d.pool = nil
	for _, b := range group {
		b.queuedIn = nil
	}
	return group
}

// flushPool syncs the pool in which b waits, if it still does, without waiting for
// more files.
func (b *asyncSync) flushPool() {
	if b.fileSys == nil {
		return
	}
	scheduled.Lock()
	var group []*asyncSync
	if b.queuedIn == &b.fileSys.pool {
		group = b.fileSys.takePool()
	}
	scheduled.Unlock()
	if len(group) > 0 {
		b.fileSys.syncGroup(group)
	}
}

// syncGroup syncs files of a pool: by one syncfs if there are enough of them and it
// can be used now, else each by itself.
func (d *fileSystem) syncGroup(group []*asyncSync) {
	if len(group) < minGroup || !d.trySyncfs(group) {
		schedule(group...)
	}
}

// trySyncfs syncs the files by syncfs and reports their results. It returns false
// without a result if syncfs should not be used now or is not permitted.
func (d *fileSystem) trySyncfs(group []*asyncSync) bool {
	files := make([]*os.File, len(group))
	for i, b := range group {
		files[i] = b.file
	}
	d.syncfsMu.Lock()
	defer d.syncfsMu.Unlock()
	if d.syncfsDisabled.Load() || !syncfsIsCheap() {
		return false
	}
	syncfsRunning.Add(1)
	defer syncfsRunning.Add(-1)
	err := callSyncfs(files)
	if err != nil {
		d.syncfsDisabled.Store(true)
		if errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EPERM) {
			return false
		}
		d.lastFailure = syncfsFailures.Add(1)
	}
	for _, b := range group {
		b.done <- syncfsError(b.file, err)
	}
	return true
}

// syncfsError returns the error of a file whose syncfs returned err; nil if that is
// nil.
func syncfsError(file *os.File, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: "sync the file system of", Path: file.Name(), Err: err}
}

// checkSyncfs is called after a successful fsync of a file or directory. It returns
// an error if a syncfs of its file system has failed since syncfsFailures was
// seenFailures. It waits for a syncfs that is still running there: the kernel may
// have reported to that one an error which concerns the file.
func checkSyncfs(file *os.File, seenFailures int64) error {
	if syncfsRunning.Load() == 0 && syncfsFailures.Load() == seenFailures {
		return nil
	}
	id, ok := syncfsID(file)
	if !ok {
		return nil
	}
	d := fileSystemOf(id)
	d.syncfsMu.Lock()
	defer d.syncfsMu.Unlock()
	if d.lastFailure <= seenFailures {
		return nil
	}
	return syncfsError(file, syscall.EIO)
}

// syncedDirs holds the value of syncfsFailures at the last SyncDir of each directory,
// by its path. Those failures were reported then.
var syncedDirs = struct {
	sync.Mutex
	seenFailures map[string]int64
}{seenFailures: map[string]int64{}}

// checkSyncfsDir is checkSyncfs for a directory, with the failures since its last
// SyncDir.
func checkSyncfsDir(dir *os.File) error {
	syncedDirs.Lock()
	seen := syncedDirs.seenFailures[dir.Name()]
	syncedDirs.Unlock()
	now := syncfsFailures.Load()
	err := checkSyncfs(dir, seen)
	syncedDirs.Lock()
	defer syncedDirs.Unlock()
	syncedDirs.seenFailures[dir.Name()] = now
	return err
}
