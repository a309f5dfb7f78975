// Package durable is the seam between the sinks and the file system: the few
// operations on whose order the promise of exactly-once delivery rests. Sinks
// that write files do it through an FS, so that tests can fail any operation,
// stop the program before it, or cut the power and keep only what was synced.
package durable

import (
	"errors"
	"io"
	"io/fs"
)

// ErrLocked is what File.TryLock returns while somebody else holds a lock on
// the file.
var ErrLocked = errors.New("locked by another program")

// FS is a file system seen from a sink. Names are ordinary paths. Errors are
// those of package os: *fs.PathError or *os.LinkError around a syscall.Errno.
//
// What is written is durable only after File.Sync; a name that was created,
// renamed or removed only after SyncDir of its directory. Until then a power
// cut may keep or undo each of them on its own, in any combination.
type FS interface {
	// OpenFile opens a file as os.OpenFile does.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Rename gives a file a new name in one step, replacing what was there.
	Rename(oldname, newname string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// Mkdir creates a directory whose parent exists.
	Mkdir(name string, perm fs.FileMode) error
	// Stat describes a file, following symbolic links.
	Stat(name string) (fs.FileInfo, error)
	// ReadDir lists a directory in no particular order.
	ReadDir(name string) ([]fs.DirEntry, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
}

// File is an open file of an FS.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Closer
	// Name is the name the file was opened by.
	Name() string
	// Stat describes the open file, whatever its name is now.
	Stat() (fs.FileInfo, error)
	// Chmod sets the permission bits, whatever the umask.
	Chmod(mode fs.FileMode) error
	// Truncate changes the file's size.
	Truncate(size int64) error
	// Sync makes the file's content and size durable. After an error what
	// was written is in doubt for good: the kernel may have dropped it and
	// call the next Sync a success. Never try again.
	Sync() error
	// BeginSync begins to make durable what was written so far, beside what
	// else is done, and with other files where that is cheaper. It waits only
	// for a sync of the same file that was begun before. How it ended, Sync
	// tells, which is still needed. Close the file in any case: it may wait for
	// others, and be kept open by that.
	BeginSync()
	// TryLock takes an exclusive lock on the whole file, one that other mail
	// programs see (fcntl, where the system has locks that belong to the
	// open file and not to the process: OFD locks). It returns ErrLocked at
	// once if somebody else holds one. Closing the file releases it.
	TryLock() error
}
