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

// createLock is the file in it that is locked while a database is made.
const createLock = "create.lock"

// Lease is the sole right to poll an account. It ends with Release, or with
// the process, however that ends.
type Lease struct {
	mu sync.Mutex
	f  *os.File // nil once released
}

// Lease takes the lease of an account, for this process or any other that
// has the same state folder. If it is held the error is a *HeldError, at
// once; other errors are *Error.
func (s *Store) Lease(ctx context.Context, account string) (*Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.takeLease(leaseFileName(account), account)
}

// leaseFileName returns the name of an account's lease file. The account's own may hold any
// character and be longer than a file's.
func leaseFileName(account string) string {
	sum := sha256.Sum256([]byte(account))
	return fmt.Sprintf("%x.lock", sum[:16])
}

// CheckLease returns the *Error with which Lease would fail for an account of the state
// folder dir, as far as that can be seen without making anything. It does not look
// whether the lease is held, nor keep anybody from it.
func CheckLease(dir, account string) error {
	folder := filepath.Join(dir, leaseFolder)
	path := filepath.Join(folder, leaseFileName(account))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		f.Close()
	} else if errors.Is(err, fs.ErrNotExist) {
		// The folder itself is made when the state is opened.
		if err = unix.Access(folder, unix.W_OK|unix.X_OK); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	if err != nil {
		return wrap(path, "open the lease", err)
	}
	// Not every file system has locks. This file is locked for no poll.
	if f, err = os.OpenFile(filepath.Join(folder, createLock), os.O_RDWR, 0); err != nil {
		return nil
	}
	defer f.Close()
	if err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	return wrap(path, "take the lease", err)
}

// DaemonLease takes the sole right to run a daemon on the state folder. Errors
// are those of Lease, with no account.
func (s *Store) DaemonLease() (*Lease, error) { return s.takeLease("daemon.lock", "") }

// takeLease takes the takeLease of an account by its file in the folder of leases.
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
		// To make it anew here would let others take what is held by a file of the old one.
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

// lockLease takes the lease by f, and writes into it who holds it. Unlike fcntl(2),
// flock(2) locks for f alone: it keeps out other goroutines too, and is not
// dropped when the process closes another descriptor of the file. While
// somebody holds the lockLease the error is EWOULDBLOCK.
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

// heldError reads who holds a lease. The holder may be about to write it, or to
// release it: then nobody is named.
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

// Release gives the lease back. The file stays, since another process may
// have it open and be about to lock it. A child that is being started has our
// descriptors for a moment, so that closing them alone would not unlock it yet.
// Releasing again does nothing.
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
