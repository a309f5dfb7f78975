package deliver

import (
	"errors"
	"syscall"
)

// Fault says whose turn it is after a sink failed.
type Fault int

const (
	// FaultTemporary means that the same may work later: a lock that another
	// program holds, a server that is busy.
	FaultTemporary Fault = iota
	// FaultMessage means that the sink refuses this message and would refuse
	// it again; others are not concerned.
	FaultMessage
	// FaultOperator means that a person must act: a path that is missing, a
	// permission, a wrong option.
	FaultOperator
	// FaultMachine means that this machine is in trouble: a full disk, an I/O
	// error. Nothing that writes should go on.
	FaultMachine
)

// Error is the error of a sink. Its text names the sink's target, what
// failed and what the user can do.
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
	// Untaken says of the error of Batch.Commit that the sink has none of the
	// messages that were not reported. Blameless says so, too, and that the error is
	// about no message.
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

// FaultOf tells what an error of the operating system means for a sink that
// writes files. A full disk, an exceeded quota, a read-only file system, an
// I/O error and a lack of file descriptors are the machine's; what may not be
// done, or is not there, is the operator's; all else is temporary.
func FaultOf(err error) Fault {
	for _, m := range []syscall.Errno{
		syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO,
		syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EFBIG,
	} {
		if errors.Is(err, m) {
			return FaultMachine
		}
	}
	for _, m := range []syscall.Errno{
		syscall.EACCES, syscall.EPERM, syscall.ENOENT, syscall.ENOTDIR,
		syscall.EISDIR, syscall.EXDEV, syscall.ENAMETOOLONG, syscall.ELOOP,
	} {
		if errors.Is(err, m) {
			return FaultOperator
		}
	}
	return FaultTemporary
}

// TooLarge makes an *Error of one that says that a file may not grow as large
// (EFBIG), because of a limit for this process or in the file system; ok is
// whether err says so. It is for a file that holds one message alone: then that
// message is at fault, and those behind it need not wait. To FaultOf it is the
// machine that is, as for a file that holds many.
func TooLarge(target, op string, err error) (e *Error, ok bool) {
	if !errors.Is(err, syscall.EFBIG) {
		return nil, false
	}
	return &Error{
		Fault: FaultMessage, Target: target, Op: op, Err: err,
		Hint: "the message is larger than a file may be here: raise that limit (ulimit -f, LimitFSIZE), or set max_size",
	}, true
}
