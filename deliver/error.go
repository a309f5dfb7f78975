package deliver

import (
	"errors"
	"syscall"
)

// Fault says who has to act after a sink failed.
type Fault int

const (
	// FaultTemporary means that a later attempt may succeed: another program
	// holds a lock, or a server is busy.
	FaultTemporary Fault = iota
	// FaultMessage means that the sink refuses this message and would refuse it
	// again. Other messages are not affected.
	FaultMessage
	// FaultOperator means that a person must act, for example on a missing path,
	// a permission or a wrong option.
	FaultOperator
	// FaultMachine means that this machine is in trouble, such as a full disk or
	// an I/O error. Everything that writes should stop.
	FaultMachine
)

// Error is the error of a sink. Its text names the target, what failed and the
// cause; Hint tells the user what to do.
type Error struct {
	Fault Fault
	// Target is Profile.Target.
	Target string
	// Op is what failed, in a few words: "sync new/".
	Op string
	// Err is the cause.
	Err error
	// Hint tells the user what to do; it may be empty.
	Hint string
	// Untaken and Blameless are set on errors of Batch.Commit only. Both say that
	// the sink has not taken any of the messages that were not reported, so that
	// their promises need not be settled. Blameless says in addition that no
	// message is the cause.
	Untaken, Blameless bool
}

// Error returns "target: op: cause".
func (e *Error) Error() string {
	s := e.Target + ": " + e.Op
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// FaultOf classifies an error of the operating system for a sink that writes
// files. A full disk, an exceeded quota, a read-only file system, an I/O error
// and a lack of memory or file descriptors are FaultMachine; a missing
// permission and a missing or unusable path are FaultOperator; everything else
// is FaultTemporary.
func FaultOf(err error) Fault {
	for _, errno := range []syscall.Errno{
		syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO,
		syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EFBIG,
	} {
		if errors.Is(err, errno) {
			return FaultMachine
		}
	}
	for _, errno := range []syscall.Errno{
		syscall.EACCES, syscall.EPERM, syscall.ENOENT, syscall.ENOTDIR,
		syscall.EISDIR, syscall.EXDEV, syscall.ENAMETOOLONG, syscall.ELOOP,
	} {
		if errors.Is(err, errno) {
			return FaultOperator
		}
	}
	return FaultTemporary
}

// TooLarge returns an *Error with FaultMessage if err is EFBIG: the file would
// exceed a limit of this process or of the file system. It is for files that
// hold a single message, which is then at fault, so that later messages need
// not wait. For a file of many messages, FaultOf says FaultMachine.
func TooLarge(target, op string, err error) (e *Error, ok bool) {
	if !errors.Is(err, syscall.EFBIG) {
		return nil, false
	}
	return &Error{
		Fault: FaultMessage, Target: target, Op: op, Err: err,
		Hint: "the message is larger than a file may be here: raise that limit (ulimit -f, LimitFSIZE), or set max_size",
	}, true
}
