package mbox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

// lockedMbox is an open mbox of which we hold all locks.
type lockedMbox struct {
	sink        *Sink
	path        string
	file        durable.File
	dotlock     *dotlock      // nil if we may not create files in the directory
	processLock chan struct{} // see processLocks; nil if the caller releases it
	// inode and size are as of the moment it was locked; the size follows what we
	// write.
	inode inode
	size  int64
	// torn says that the message at the end may be incomplete.
	torn bool
}

// destination identifies an mbox in this process.
type destination struct {
	fs   durable.FS
	path string
}

// processLocks has a channel of capacity 1 for each destination. Whoever puts a value
// into it holds the lock. It keeps out other goroutines of this process, which the
// lock on the file does not do where it belongs to the process.
var processLocks sync.Map

func (s *Sink) processLock(path string) chan struct{} {
	v, _ := processLocks.LoadOrStore(destination{s.fs, path}, make(chan struct{}, 1))
	return v.(chan struct{})
}

// lock takes all locks of the mbox at path: that of the process, the dotlock and the
// lock on the file. Before it returns, it completes what a crash has left incomplete.
// It waits up to the timeout of the sink, and then returns a FaultTemporary that says
// who holds the lock.
//
// batch is the name of the spool file for which the mbox is locked. A missing mbox is
// created if create is true; else the error is fs.ErrNotExist to errors.Is.
func (s *Sink) lock(ctx context.Context, path, batch string, create bool) (*lockedMbox, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.osError("lock", err)
	}
	processLock := s.processLock(path)
	timeout := time.NewTimer(s.timeout)
	defer timeout.Stop()
	select {
	case processLock <- struct{}{}:
	case <-ctx.Done():
		return nil, s.osError("lock", ctx.Err())
	case <-timeout.C:
		return nil, s.lockTimeoutError(&heldError{by: "another account of this mailhaul"})
	}
	b, err := s.waitForLock(ctx, path, batch, create, timeout.C)
	if err != nil {
		<-processLock
		return nil, err
	}
	b.processLock = processLock
	return b, nil
}

// waitForLock calls tryLock, again and again while somebody else holds a lock.
func (s *Sink) waitForLock(ctx context.Context, path, batch string, create bool, timeout <-chan time.Time) (*lockedMbox, error) {
	const firstWait, longestWait = 10 * time.Millisecond, 500 * time.Millisecond
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		b, err := s.tryLock(ctx, path, batch, create)
		held, isHeld := errors.AsType[*heldError](err)
		if !isHeld {
			return b, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, s.osError("lock", ctx.Err())
		case <-timeout:
			return nil, s.lockTimeoutError(held)
		}
	}
}

func (s *Sink) lockTimeoutError(held *heldError) error {
	hint := "the next fetch tries again; if the lock stays, end the program that holds it"
	if held.file != "" {
		hint += ", or remove " + held.file + " if no such program runs"
	}
	return &deliver.Error{Fault: deliver.FaultTemporary, Target: s.path, Op: "lock", Err: held, Hint: hint}
}

// removeStaleLock removes the lock file of a process that has died, after it has
// completed what that process left incomplete.
func (s *Sink) removeStaleLock(ctx context.Context, path string) error {
	if _, err := s.fs.Stat(path + ".lock"); errors.Is(err, fs.ErrNotExist) {
		// Its removal may not have been synced before a crash.
		_ = s.fs.SyncDir(filepath.Dir(path))
		return nil
	}
	processLock := s.processLock(path)
	select {
	case processLock <- struct{}{}:
		defer func() { <-processLock }()
	default:
		return nil // another goroutine holds it
	}
	b, err := s.tryLock(ctx, path, "", false)
	if err == nil {
		b.unlock()
	}
	if _, held := errors.AsType[*heldError](err); held || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// tryLock takes both the dotlock and the lock on the file, or none of them. It does
// not wait: if somebody else holds one, the error is a *heldError. The caller holds the
// lock of the process.
func (s *Sink) tryLock(ctx context.Context, path, batch string, create bool) (_ *lockedMbox, err error) {
	if err := s.checkPath(path); err != nil {
		return nil, err
	}
	b := &lockedMbox{sink: s, path: path}
	if b.dotlock, err = s.takeDotlock(path, spool.Base(batch)); err != nil {
		return nil, s.lockError("create the lock file "+path+".lock", err)
	}
	// The process that left the lock file may have left the end torn, and until
	// recoverAppends has succeeded the file must stay.
	b.torn = b.dotlock != nil && b.dotlock.takenOver
	defer func() {
		if err != nil {
			b.unlock()
		}
	}()
	if err := b.open(create); err != nil {
		return nil, err
	}
	if err := b.recoverAppends(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// open opens and locks the file.
func (b *lockedMbox) open(create bool) error {
	s := b.sink
	created, err := b.openFile(create)
	if err != nil {
		return err
	}
	if err := b.file.TryLock(); errors.Is(err, durable.ErrLocked) {
		return &heldError{by: "another program, by fcntl"}
	} else if err != nil {
		return s.lockError("lock", err)
	}
	fi, err := b.file.Stat()
	if err != nil {
		return s.osError("stat", err)
	}
	err = s.checkOwner(b.path, fi)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !sameFile(s.fs, b.file) {
		return &heldError{by: "a program that has just replaced it"}
	}
	if err != nil {
		return err
	}
	b.inode, b.size = inodeOf(fi), fi.Size()
	if created || b.dotlock != nil {
		// A power cut must not undo the name of an mbox that has a message, nor the
		// name of the lock file while a message is incomplete.
		if err := s.fs.SyncDir(filepath.Dir(b.path)); err != nil {
			return s.osError("sync the directory", err)
		}
	}
	return nil
}

// openFile opens the file. It creates a missing one if create is true, and reports
// whether it did.
func (b *lockedMbox) openFile(create bool) (created bool, err error) {
	s := b.sink
	file, err := s.fs.OpenFile(b.path, os.O_RDWR, 0)
	if create && errors.Is(err, fs.ErrNotExist) {
		created = true
		file, err = s.fs.OpenFile(b.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, newFileMode)
	}
	if errors.Is(err, fs.ErrExist) {
		return false, &heldError{by: "a program that has just created it"}
	}
	if err != nil {
		b.torn = b.torn && !errors.Is(err, fs.ErrNotExist) // a missing mbox has no torn end
		return false, s.osError("open", err)
	}
	b.file = file
	if !created {
		return false, nil
	}
	// A file system on which files have no mode, such as FAT, does not permit Chmod.
	// There, the mount options decide who may read.
	if err := file.Chmod(newFileMode); err != nil && !errors.Is(err, fs.ErrPermission) {
		return true, s.osError("set the mode", err)
	}
	return true, nil
}

// lockError returns the error of a lock that cannot be taken. ENOLCK comes from NFS
// without a lock daemon, and the other codes from file systems without locks. There,
// nothing is delivered, because without a lock mail could be lost.
func (s *Sink) lockError(op string, err error) error {
	for _, noLocks := range []error{syscall.ENOLCK, syscall.EINVAL, syscall.ENOSYS, syscall.EOPNOTSUPP} {
		if errors.Is(err, noLocks) {
			return s.operatorError(op+": the file system has no locks", err,
				"mount it with locks (on NFS: run lockd, mount without nolock), or keep the mbox on a local disk")
		}
	}
	return s.osError(op, err)
}

// unlock releases all locks. If the end of the mbox may be torn, the lock file stays,
// to keep readers out until the next process has completed the message.
func (b *lockedMbox) unlock() {
	switch {
	case b.dotlock == nil:
	case b.torn:
		b.dotlock.keepFile()
	default:
		b.dotlock.removeFile()
	}
	if b.file != nil {
		_ = b.file.Close() // what matters was synced
	}
	if b.processLock != nil {
		<-b.processLock
	}
}
