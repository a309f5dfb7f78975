package state

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

var (
	// ErrClosed is returned by methods that write, after Close.
	ErrClosed = errors.New("state: closed")
	// ErrReadOnly is returned by methods that write, if OpenReadOnly opened
	// the Store.
	ErrReadOnly = errors.New("state: opened for reading only")
)

// Error is a failure of the state folder or its database. The error of a context
// that ended is returned as it is, and not in an Error.
type Error struct {
	// Path is the file or folder.
	Path string
	// Op says what failed in a few words, such as "journal promises".
	Op string
	// Err is the cause.
	Err error
	// Hint tells the user what to do; it may be empty.
	Hint string
}

// Error returns "path: op: cause".
func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %v", e.Path, e.Op, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// HeldError is returned by Lease while the account is already being polled, and
// by DaemonLease while a daemon runs.
type HeldError struct {
	Account string // empty for DaemonLease
	// PID is the process that holds the lease, and Since when it took it. Both
	// are zero if they could not be read.
	PID   int
	Since time.Time
}

// Error says which process holds the lease, and since when.
func (e *HeldError) Error() string {
	text := "a daemon is running on this state folder already"
	if e.Account != "" {
		text = fmt.Sprintf("account %q is being polled already", e.Account)
	}
	if e.PID == 0 {
		return text
	}
	return fmt.Sprintf("%s, by process %d since %s", text, e.PID, e.Since.Format(time.DateTime))
}

// IsMachineError reports whether err means that this machine is in trouble: a full
// disk or quota, an I/O error, a file system that is read-only, no memory or
// file descriptors left. No work that must be recorded should start then.
func IsMachineError(err error) bool {
	switch primaryCode(err) {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM:
		return true
	}
	return slices.ContainsFunc([]syscall.Errno{
		syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM,
	}, func(errno syscall.Errno) bool { return errors.Is(err, errno) })
}

// IsBusy reports whether err means that another process kept the database locked
// for too long. A later attempt may succeed.
func IsBusy(err error) bool { return primaryCode(err) == sqlite3.SQLITE_BUSY }

// resultCode returns the extended result code of an SQLite error, 0 of any other.
func resultCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()
	}
	return 0
}

// primaryCode returns the primary result code of an SQLite error, 0 of any other.
func primaryCode(err error) int { return resultCode(err) & 0xff }

// wrap returns an *Error for a failed op on path, with a hint if there is one. It
// returns nil, an *Error, ErrClosed and the errors of a context unchanged.
func wrap(path, op string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, ErrClosed) {
		return err
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	if primaryCode(err) == sqlite3.SQLITE_CANTOPEN {
		err = cmp.Or(cantOpenCause(path), err)
	}
	return &Error{Path: path, Op: op, Err: err, Hint: hintFor(path, err)}
}

// cantOpenCause returns the trouble of this machine that kept SQLite from opening the
// file at path, such as a lack of descriptors or a read-only file system: SQLite does
// not say. It returns nil if it finds none. It opens the folder and not the file, whose
// POSIX locks closing another descriptor would release.
func cantOpenCause(path string) error {
	dir := filepath.Dir(path)
	folder, err := os.Open(dir)
	if err == nil {
		folder.Close()
		err = unix.Access(dir, unix.W_OK)
	}
	if IsMachineError(err) {
		return err
	}
	return nil
}

// damagedHint is the hint for a database that cannot be read. SQLite would apply
// a -wal left beside it to the backup, and damage that as well.
func damagedHint(path string) string {
	return "end mailhaul, remove " + path + "-wal and " + path + "-shm if they are there, and restore " + path +
		" from a backup; or move it away, and all mail still on the servers is fetched anew"
}

func hintFor(path string, err error) string {
	// The memory that processes share is a file beside the database. It is the
	// first to find the disk full, and SQLite does not give the reason.
	full := resultCode(err) == sqlite3.SQLITE_IOERR_SHMSIZE || primaryCode(err) == sqlite3.SQLITE_FULL
	if full || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return "free some space on the disk that holds " + path
	}
	switch primaryCode(err) {
	case sqlite3.SQLITE_IOERR:
		return "the disk or its quota may have failed: see the system's log, then run mailhaul again"
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN:
		return "check that the folder of " + path + " belongs to the user who runs mailhaul and can be written to"
	case sqlite3.SQLITE_CORRUPT: // which may also be a disk that fails to read
		return "look for errors of the disk in the system's log; if there are none, " + damagedHint(path)
	case sqlite3.SQLITE_NOTADB:
		return damagedHint(path)
	case sqlite3.SQLITE_BUSY:
		return "another program has been writing to " + path + " for too long: end it, or try again later"
	}
	if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EROFS) {
		return "check that " + path + " belongs to the user who runs mailhaul and can be written to"
	}
	return ""
}
