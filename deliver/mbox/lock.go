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

// box is an mbox that we hold all locks of.
type box struct {
	sink        *Sink
	path        string
	file        durable.File
	dotlock     *dotlock // nil if its directory may not be written
	processLock chan struct{}
	// inode and size are as of the moment it was locked; the size follows
	// what is written since.
	inode inode
	size  int64
	// torn is set while a message at the end may be half there.
	torn bool
}

// destination is an mbox of this process.
type destination struct {
	fs   durable.FS
	path string
}

// processLocks holds a channel of capacity 1 for each destination: who has put
// something into it has the turn. Where the system's locks belong to the
// process, they do not keep our own goroutines from each other.
var processLocks sync.Map

func (s *Sink) processLock(path string) chan struct{} {
	v, _ := processLocks.LoadOrStore(destination{s.fs, path}, make(chan struct{}, 1))
	return v.(chan struct{})
}

// lock takes all locks of the mbox at path: the process's own, the dotlock,
// and the one on the file. It waits up to the sink's timeout, and then returns
// a FaultTemporary that says who has them. Before it returns, it puts right
// what a crash has left half done.
//
// batch is the name of the spool file that it is for. A missing mbox is created if
// create is set; else the error is fs.ErrNotExist to errors.Is.
func (s *Sink) lock(ctx context.Context, path, batch string, create bool) (*box, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.osError("lock", err)
	}
	turn := s.processLock(path)
	timeout := time.NewTimer(s.timeout)
	defer timeout.Stop()
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return nil, s.osError("lock", ctx.Err())
	case <-timeout.C:
		return nil, s.lockTimeoutError(&heldError{by: "another account of this mailhaul"})
	}
	const first, longest = 10 * time.Millisecond, 500 * time.Millisecond
	for wait := first; ; wait = min(2*wait, longest) {
		b, err := s.tryLock(ctx, path, batch, create)
		if err == nil {
			b.processLock = turn
			return b, nil
		}
		held, ok := errors.AsType[*heldError](err)
		if !ok {
			<-turn
			return nil, err
		}
		again := time.NewTimer(wait)
		select {
		case <-again.C:
			continue
		case <-ctx.Done():
			err = s.osError("lock", ctx.Err())
		case <-timeout.C:
			err = s.lockTimeoutError(held)
		}
		again.Stop()
		<-turn
		return nil, err
	}
}

func (s *Sink) lockTimeoutError(held *heldError) error {
	hint := "the next fetch tries again; if the lock stays, end the program that holds it"
	if held.file != "" {
		hint += ", or remove " + held.file + " if no such program runs"
	}
	return &deliver.Error{Fault: deliver.FaultTemporary, Target: s.path, Op: "lock", Err: held, Hint: hint}
}

// removeStaleLock removes a lock file that a dead process left, after it has put
// right what that left half done.
func (s *Sink) removeStaleLock(ctx context.Context, path string) error {
	if _, err := s.fs.Stat(path + ".lock"); errors.Is(err, fs.ErrNotExist) {
		// It may have been removed a moment before the crash, and not synced.
		_ = s.fs.SyncDir(filepath.Dir(path))
		return nil
	}
	turn := s.processLock(path)
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	default:
		return nil // it is a living goroutine's
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

// tryLock takes the dotlock and the lock on the file at once or not at all.
func (s *Sink) tryLock(ctx context.Context, path, batch string, create bool) (_ *box, err error) {
	if err := s.checkPath(path); err != nil {
		return nil, err
	}
	b := &box{sink: s, path: path}
	if b.dotlock, err = s.takeDotlock(path, spool.Base(batch)); err != nil {
		return nil, s.lockError("create the lock file "+path+".lock", err)
	}
	// Until the end has been looked at, it may be torn. If we cannot get that
	// far, a lock that another process left stays where it is.
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
func (b *box) open(create bool) error {
	s := b.sink
	file, err := s.fs.OpenFile(b.path, os.O_RDWR, 0)
	created := create && errors.Is(err, fs.ErrNotExist)
	if created {
		file, err = s.fs.OpenFile(b.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, newFileMode)
	}
	if errors.Is(err, fs.ErrExist) {
		return &heldError{by: "a program that has just created it"}
	}
	if err != nil {
		b.torn = b.torn && !errors.Is(err, fs.ErrNotExist)
		return s.osError("open", err)
	}
	b.file = file
	if created {
		// Where no file has a mode of its own, as on FAT, whoever mounted it has said
		// who may read.
		if err := file.Chmod(newFileMode); err != nil && !errors.Is(err, fs.ErrPermission) {
			return s.osError("set the mode", err)
		}
	}
	if err := file.TryLock(); errors.Is(err, durable.ErrLocked) {
		return &heldError{by: "another program, by fcntl"}
	} else if err != nil {
		return s.lockError("lock", err)
	}
	fi, err := file.Stat()
	if err != nil {
		return s.osError("stat", err)
	}
	err = s.checkOwner(b.path, fi)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !sameFile(s.fs, file) {
		return &heldError{by: "a program that has just replaced it"}
	}
	if err != nil {
		return err
	}
	b.inode, b.size = inodeOf(fi), fi.Size()
	if created || b.dotlock != nil {
		// A message must not be in an mbox whose name a power cut can undo,
		// nor half a one in an mbox whose lock file it can undo.
		if err := s.fs.SyncDir(filepath.Dir(b.path)); err != nil {
			return s.osError("sync the directory", err)
		}
	}
	return nil
}

// lockError is the error of a lock that cannot be had at all. ENOLCK is what
// NFS says without a lock daemon, and the others what file systems say that
// have no locks; to deliver without one would be to lose mail.
func (s *Sink) lockError(op string, err error) error {
	for _, none := range []error{syscall.ENOLCK, syscall.EINVAL, syscall.ENOSYS, syscall.EOPNOTSUPP} {
		if errors.Is(err, none) {
			return s.operatorError(op+": the file system has no locks", err,
				"mount it with locks (on NFS: run lockd, mount without nolock), or keep the mbox on a local disk")
		}
	}
	return s.osError(op, err)
}

// unlock releases all locks. If the end of the mbox may be torn, the lock file
// stays there to keep readers out until the next process has mended it.
func (b *box) unlock() {
	switch {
	case b.dotlock == nil:
	case b.torn:
		b.dotlock.keepFile()
	default:
		b.dotlock.removeFile()
	}
	if b.file != nil {
		_ = b.file.Close() // what counts was synced
	}
	if b.processLock != nil {
		<-b.processLock
	}
}
