// Package durable is the interface between the sinks and the file system. Exactly-once
// delivery depends on the order in which files and names reach the disk, so sinks
// write files only through an FS. Package durabletest has an FS in memory, with which
// tests make any operation fail, stop the program before it, or cut the power and keep
// only what was synced.
//
// OS is the FS of the operating system (os.go). It syncs files in the background
// (async.go), and many small files together (syncfs.go). TryLock uses fcntl locks
// (lock.go). sticky.go protects against files that other users put into directories
// such as /tmp, and path.go writes paths into the tokens of promises.
package durable

import (
	"errors"
	"io"
	"io/fs"
)

// ErrLocked is the error of File.TryLock while another program holds a lock on the
// file.
var ErrLocked = errors.New("locked by another program")

// FS is a file system. Names are ordinary paths. Errors are those of package os: a
// *fs.PathError or *os.LinkError around a syscall.Errno.
//
// The content of a file is durable only after File.Sync. The creation, renaming or
// removal of a name is durable only after SyncDir of its directory. Until then a
// power cut may keep or undo each of these changes, in any combination.
type FS interface {
	// OpenFile opens a file as os.OpenFile does.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Rename atomically gives a file a new name and replaces a file of that name.
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
	// Sync makes the file's content and size durable. After an error it must not be
	// called again: the kernel may have dropped what was written, and the next Sync
	// would succeed.
	Sync() error
	// BeginSync begins in the background to make durable what was written so far,
	// together with other files where that is faster. It waits only for an earlier
	// BeginSync of the same file. Sync is still needed; it waits for the end and
	// returns the error. The file must be closed in any case.
	BeginSync()
	// TryLock takes an exclusive fcntl lock on the whole file, which other mail
	// programs honour. It returns ErrLocked at once if another program holds one.
	// Closing the file releases the lock. Where the system has them, it is an open
	// file description lock, which belongs to the open file and not to the process.
	TryLock() error
}
