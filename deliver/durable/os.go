package durable

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// OS is the operating system's file system.
var OS FS = osFS{}

type osFS struct{}

// OpenFile does without what os.OpenFile does for pipes and devices: six more
// system calls, for each message.
func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	before := wholeFailures.Load()
	fd, err := retryEINTR(func() (int, error) { return unix.Open(name, flag|unix.O_CLOEXEC, uint32(perm.Perm())) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &osFile{file: os.NewFile(uintptr(fd), name), failuresAtOpen: before}, nil
}

// Rename does without a look at what newname is, which os.Rename takes to word
// an error.
func (osFS) Rename(oldname, newname string) error {
	_, err := retryEINTR(func() (int, error) { return 0, unix.Rename(oldname, newname) })
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
	return nil
}

// retryEINTR makes a system call until no signal interrupts it.
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

// SyncDir takes EINVAL and ENOTSUP for success: some network and user-space
// file systems have no fsync for directories, and nothing else could be done.
func (osFS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	if err = d.Sync(); err == nil {
		err = checkWholeSyncDir(d)
	}
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil
	}
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// osFile is a file of the operating system's. A large one begins to become
// durable while it is written. It is no *os.File, some of whose methods write
// behind its back.
type osFile struct {
	file           *os.File
	failuresAtOpen int64 // of disks, before it was opened
	written        int   // octets
	unstarted      int   // of them since the last sync was begun
	begun          *asyncSync
	syncErr        error // of an earlier sync
}

// earlySyncSize is how much is written before a sync is begun beside it: else nothing
// of a large file moves until Sync, which then has to wait for all of it.
const earlySyncSize = 16 << 20

// A file to which less than this was written may wait for others, to be synced
// together.
const maxSmallFile = 1 << 20

// fsync is what tests count.
var fsync = (*os.File).Sync

func (f *osFile) BeginSync() {
	f.awaitPending()
	f.unstarted, f.begun = 0, beginSync(f.file, f.written < maxSmallFile)
}

// awaitPending waits for the sync that was begun, if any, and reports whether the file
// is as it was then. An error is kept: the kernel tells of each write that failed
// only once, to whoever asks first.
func (f *osFile) awaitPending() (synced bool) {
	b := f.begun
	if f.begun = nil; b == nil || b.cancel() {
		return false
	}
	f.syncErr = cmp.Or(f.syncErr, <-b.done)
	return !b.stale
}

// markStale notes that Sync has something to do.
func (f *osFile) markStale() {
	if f.begun != nil {
		f.begun.stale = true
	}
}

func (f *osFile) Write(p []byte) (int, error) {
	f.markStale()
	n, err := f.file.Write(p)
	f.written += n
	if f.unstarted += n; f.unstarted >= earlySyncSize {
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
		f.syncErr = checkWholeSync(f.file, f.failuresAtOpen)
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
