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
	fd, err := again(func() (int, error) { return unix.Open(name, flag|unix.O_CLOEXEC, uint32(perm.Perm())) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &osFile{File: os.NewFile(uintptr(fd), name)}, nil
}

// Rename does without a look at what newname is, which os.Rename takes to word
// an error.
func (osFS) Rename(oldname, newname string) error {
	_, err := again(func() (int, error) { return 0, unix.Rename(oldname, newname) })
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
	return nil
}

// again makes a system call until no signal interrupts it.
func again(call func() (int, error)) (n int, err error) {
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
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil
	}
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// osFile is a file of the operating system's. What is written to it begins to
// become durable before Sync is called.
type osFile struct {
	*os.File
	unsynced int        // octets written since the last sync was begun
	syncing  chan error // of that sync; nil if there was none
	failed   error      // of an earlier one
}

// early is how much is written before a sync is begun beside it: else nothing
// of a large file moves until Sync, which then has to wait for all of it.
const early = 16 << 20

func (f *osFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	if f.unsynced += n; f.unsynced >= early {
		f.settle()
		f.unsynced, f.syncing = 0, make(chan error, 1)
		go func(done chan<- error) { done <- f.File.Sync() }(f.syncing)
	}
	return n, err
}

// settle waits for the sync under way. An error is kept: the kernel tells of
// each write that failed only once, to whoever asks first.
func (f *osFile) settle() {
	if f.syncing != nil {
		f.failed = cmp.Or(f.failed, <-f.syncing)
		f.syncing = nil
	}
}

func (f *osFile) Sync() error {
	f.settle()
	if f.failed != nil {
		return f.failed
	}
	return f.File.Sync()
}

func (f *osFile) Close() error {
	f.settle()
	return f.File.Close()
}

func (f *osFile) TryLock() error { return tryLock(f.File) }
