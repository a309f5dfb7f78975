package durable

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// OS is the file system of the operating system.
var OS FS = osFS{}

type osFS struct{}

// OpenFile calls open(2) itself: os.OpenFile makes six more system calls per file,
// which only pipes and devices need.
func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	seenFailures := syncfsFailures.Load()
	fd, err := retryEINTR(func() (int, error) { return unix.Open(name, flag|unix.O_CLOEXEC, uint32(perm.Perm())) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &osFile{file: os.NewFile(uintptr(fd), name), seenFailures: seenFailures}, nil
}

// Rename calls rename(2) itself: os.Rename first looks at newname, only to improve an
// error message.
func (osFS) Rename(oldname, newname string) error {
	_, err := retryEINTR(func() (int, error) { return 0, unix.Rename(oldname, newname) })
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
	return nil
}

// retryEINTR repeats a system call while a signal interrupts it.
func retryEINTR(call func() (int, error)) (n int, err error) {
	for n, err = call(); err == unix.EINTR; {
		n, err = call()
	}
	return n, err
}

func (osFS) Remove(name string) error                   { return os.Remove(name) }
func (osFS) Mkdir(name string, perm fs.FileMode) error  { return os.Mkdir(name, perm) }
func (osFS) Stat(name string) (fs.FileInfo, error)      { return os.Stat(name) }
func (osFS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// SyncDir treats EINVAL and ENOTSUP as success: some network and user-space file
// systems have no fsync for directories, and there is no other way.
func (osFS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	if err = d.Sync(); err == nil {
		err = checkSyncfsDir(d)
	}
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil
	}
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// osFile is a file of the operating system. It begins to sync a large file while that
// is written. It does not embed *os.File, because methods such as ReadFrom would
// write without markStale.
type osFile struct {
	file         *os.File
	seenFailures int64      // syncfsFailures before it was opened
	written      int        // octets, by Write
	unsynced     int        // octets written since the last BeginSync
	begun        *asyncSync // the sync under way; nil if there is none
	syncErr      error      // of an earlier sync
}

// earlySyncSize is how many octets Write writes before it begins a sync. Otherwise
// the kernel would write nothing until Sync, which would have to wait for all.
const earlySyncSize = 16 << 20

// maxSmallFile is the size from which on a file is not synced together with others.
const maxSmallFile = 1 << 20

// fsync is a variable so that tests can replace it.
var fsync = (*os.File).Sync

func (f *osFile) BeginSync() {
	f.awaitPending()
	f.unsynced, f.begun = 0, beginSync(f.file, f.written < maxSmallFile)
}

// awaitPending waits for the sync under way, or cancels it if it has not started. It
// reports whether a sync has covered all changes of the file. It keeps an error in
// syncErr, because the kernel reports each failed write only once.
func (f *osFile) awaitPending() (synced bool) {
	b := f.begun
	if f.begun = nil; b == nil || b.cancel() {
		return false
	}
	f.syncErr = cmp.Or(f.syncErr, <-b.done)
	return !b.stale
}

// markStale notes that the file changes after BeginSync, so that Sync has to sync it
// again.
func (f *osFile) markStale() {
	if f.begun != nil {
		f.begun.stale = true
	}
}

func (f *osFile) Write(p []byte) (int, error) {
	f.markStale()
	n, err := f.file.Write(p)
	f.written += n
	if f.unsynced += n; f.unsynced >= earlySyncSize {
		f.BeginSync()
	}
	return n, err
}

func (f *osFile) WriteAt(p []byte, off int64) (int, error) {
	f.markStale()
	return f.file.WriteAt(p, off)
}

func (f *osFile) Truncate(size int64) error {
	f.markStale()
	return f.file.Truncate(size)
}

func (f *osFile) Chmod(mode fs.FileMode) error {
	f.markStale()
	return f.file.Chmod(mode)
}

func (f *osFile) Sync() error {
	if f.begun != nil {
		f.begun.flushPool()
	}
	if synced := f.awaitPending(); !synced && f.syncErr == nil {
		if err := fsync(f.file); err != nil {
			return err
		}
	}
	if f.syncErr == nil {
		f.syncErr = checkSyncfs(f.file, f.seenFailures)
	}
	return f.syncErr
}

func (f *osFile) Close() error {
	f.awaitPending()
	return f.file.Close()
}

func (f *osFile) Read(p []byte) (int, error)              { return f.file.Read(p) }
func (f *osFile) ReadAt(p []byte, off int64) (int, error) { return f.file.ReadAt(p, off) }
func (f *osFile) Name() string                            { return f.file.Name() }
func (f *osFile) Stat() (fs.FileInfo, error)              { return f.file.Stat() }
func (f *osFile) TryLock() error                          { return tryLock(f.file) }
