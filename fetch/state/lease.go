package state

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// leaseFolder is the folder of the lease files in the state folder.
const leaseFolder = "leases"

// createLock is the file in leaseFolder that is locked while a database is created.
const createLock = "create.lock"

// Lease is the sole right to poll an account. It ends with Release, or when the
// process ends in any way.
type Lease struct {
	mu sync.Mutex
	f  *os.File // nil once released
}

// Lease takes the lease of an account, which no other process or goroutine can take
// from the same state folder until it is released. If the lease is held, Lease returns
// a *HeldError at once; other errors are *Error.
func (s *Store) Lease(ctx context.Context, account string) (*Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.takeLease(leaseFileName(account), account)
}

// leaseFileName returns the name of an account's lease file: a digest, since the name of
// an account may hold any character and be longer than a file name.
func leaseFileName(account string) string {
	sum := sha256.Sum256([]byte(account))
	return fmt.Sprintf("%x.lock", sum[:16])
}

// CheckLease returns the *Error with which Lease would fail for an account of the state
// folder dir, as far as that can be found out without creating a file. It does not
// check whether the lease is held, and does not keep others from taking it.
func CheckLease(dir, account string) error {
	folder := filepath.Join(dir, leaseFolder)
	path := filepath.Join(folder, leaseFileName(account))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		f.Close()
	} else if errors.Is(err, fs.ErrNotExist) {
		// Open creates the folder if it is missing.
		if err = unix.Access(folder, unix.W_OK|unix.X_OK); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	if err != nil {
		return wrap(path, "open the lease", err)
	}
	// The file system may not support locks. No poll needs a lock on this file.
	if f, err = os.OpenFile(filepath.Join(folder, createLock), os.O_RDWR, 0); err != nil {
		return nil
	}
	defer f.Close()
	if err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	return wrap(path, "take the lease", err)
}

// DaemonLease takes the sole right to run a daemon on the state folder. Its errors
// are like those of Lease, without an account.
func (s *Store) DaemonLease() (*Lease, error) { return s.takeLease("daemon.lock", "") }

// takeLease locks a file in the folder of leases on behalf of an account.
func (s *Store) takeLease(name, account string) (*Lease, error) {
	if s.write == nil {
		return nil, ErrReadOnly
	}
	if err := s.checkInPlace(); err != nil {
		return nil, err
	}
	path := filepath.Join(s.dir, leaseFolder, name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		// A new folder would let others take leases that are held by files of the old one.
		return nil, &Error{Path: filepath.Dir(path), Op: "open the lease", Err: errors.New("the folder was removed after mailhaul had opened it"),
			Hint: "end every mailhaul that uses this state folder, and start it again: the folder is made anew then"}
	}
	if err != nil {
		return nil, wrap(path, "open the lease", err)
	}
	l, err := lockLease(f, account)
	if err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, heldError(path, account)
		}
		return nil, wrap(path, "take the lease", err)
	}
	return l, nil
}

// lockLease locks a lease file and writes into it which process holds it. Unlike
// fcntl(2), flock(2) locks for this descriptor alone: it also keeps out other
// goroutines, and closing another descriptor of the file does not release it. If the
// lock is held the error is EWOULDBLOCK.
func lockLease(f *os.File, account string) (*Lease, error) {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, err
	}
	if err := f.Truncate(0); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(f, "%d %d %q\n", os.Getpid(), time.Now().Unix(), account); err != nil {
		return nil, err
	}
	return &Lease{f: f}, nil
}

// heldError reads which process holds a lease. The holder may not have written that
// yet, or may have erased it already: then the error names no process.
func heldError(path, account string) error {
	e := &HeldError{Account: account}
	f, err := os.Open(path)
	if err != nil {
		return e
	}
	defer f.Close()
	var pid int
	var since int64
	if _, err := fmt.Fscanf(io.LimitReader(f, 64), "%d %d", &pid, &since); err == nil {
		e.PID, e.Since = pid, time.Unix(since, 0)
	}
	return e
}

// Release gives up the lease. It leaves the file, since another process may have it
// open and be about to lock it. It unlocks the file before closing it, since a child
// that is being started holds a copy of the descriptor for a moment. Further calls do
// nothing.
func (l *Lease) Release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	return wrap(f.Name(), "release the lease", errors.Join(f.Truncate(0), unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close()))
}
