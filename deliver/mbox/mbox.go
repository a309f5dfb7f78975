// Package mbox is a sink that appends to an mbox file, in the mboxrd form
// (RFC 4155 describes the family): each message begins with a From_ line and
// ends with an empty line; a line of the message that begins with any number
// of ">" and then "From " gets one more ">", which a reader takes off again.
// Line ends are LF. A message whose last line has no line end gets one, and
// that is the one thing about it, besides its CRLFs, that cannot be told from
// the mbox.
//
// The order on disk:
//
//	1 stage each message in the spool, as it will stand in the mbox
//	2 lock the mbox   3 complete what a crash left half appended
//	4 sync the spool file and its folder; the caller journals the promises
//	5 append   6 sync the mbox   7 the caller journals the landings
//	8 unlock   9 remove the spool file
//
// A process that dies after 4 leaves its spool file, and one that dies
// between 2 and 8 its lock file, which keeps mail readers away from a message
// that is half there. Whoever locks the mbox next, for whichever account,
// does step 3: it compares the tail with the spool, writes the rest of a
// message that was begun, and notes in the spool file what has landed, so that
// Settle can still tell when the owner has moved the mail.
package mbox

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

// Options tune a sink. Spool is required, all else has a default.
type Options struct {
	// FS is the file system of the mbox, durable.OS by default.
	FS durable.FS
	// Spool is where messages wait. All sinks that write to one mbox must
	// share the folder: it holds what is needed to complete an append.
	Spool *spool.Dir
	// LockTimeout bounds the wait for the mbox's locks, 30 seconds by default.
	LockTimeout time.Duration
	// Host names this machine in the lock file, os.Hostname by default.
	Host string
}

// Sink appends to one mbox. It implements deliver.Sink.
type Sink struct {
	fs      durable.FS
	spool   *spool.Dir
	path    string // absolute
	timeout time.Duration
	self    owner
}

var _ deliver.Sink = (*Sink)(nil)

// newFileMode is the permission of a new mbox.
const newFileMode = 0o600

// New returns a sink for the mbox at path, without touching the disk. The
// mbox is created by the first batch; its directory must exist. Without a path
// the error is a *deliver.Error with FaultOperator.
func New(path string, o Options) (*Sink, error) {
	s := &Sink{
		fs: cmp.Or(o.FS, durable.OS), spool: o.Spool, path: path,
		timeout: cmp.Or(o.LockTimeout, 30*time.Second), self: currentOwner(o.Host),
	}
	if path == "" {
		return nil, s.operatorError("no mbox", nil, "name a file")
	}
	var err error
	if s.path, err = filepath.Abs(path); err != nil {
		return nil, s.osError("find "+path, err)
	}
	return s, nil
}

// Profile implements deliver.Sink. Delivery is exactly once as long as other
// programs honour either of the locks.
func (s *Sink) Profile() deliver.Profile {
	return deliver.Profile{Kind: "mbox", Target: s.path, Guarantee: deliver.ExactlyOnce, Locks: true}
}

// Begin implements deliver.Sink. It refuses a path that is not an mbox.
func (s *Sink) Begin(ctx context.Context) (deliver.Batch, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.osError("begin", err)
	}
	path := durable.RealPath(s.path)
	if len(durable.EscapePath(path)) > durable.MaxEscapedPath {
		return nil, s.operatorError("the path is too long to be remembered", nil, "choose a shorter path")
	}
	turn := s.processLock(path)
	select {
	case turn <- struct{}{}:
		err := s.checkPath(path)
		<-turn
		if err != nil {
			return nil, err
		}
	default:
		// Another batch has it locked, and so has looked at it. To open and
		// close it here would drop that lock where locks belong to the process.
	}
	return &batch{Batch: s.spool.Batch(s.path), sink: s, path: path}, nil
}

// Sweep implements deliver.Sink. It removes the account's files from the
// spool, and before that, a lock file that no living process holds: else an
// account without new mail would leave it there.
func (s *Sink) Sweep(ctx context.Context, account string) error {
	if err := ctx.Err(); err != nil {
		return s.osError("sweep", err)
	}
	if err := s.removeStaleLock(ctx, durable.RealPath(s.path)); err != nil {
		return err
	}
	return s.spool.Sweep(account)
}

// Close implements deliver.Sink. A Sink holds nothing: locks belong to
// batches.
func (s *Sink) Close() error { return nil }

// osError makes a *deliver.Error of what the operating system said. What is one
// already, as the spool's are, stays as it is.
func (s *Sink) osError(op string, err error) error {
	if _, ok := errors.AsType[*deliver.Error](err); ok {
		return err
	}
	e := &deliver.Error{Fault: deliver.FaultOf(err), Target: s.path, Op: op, Err: err}
	switch e.Fault {
	case deliver.FaultMachine:
		e.Hint = "make sure that the disk of " + s.path + " is in order and has room"
	case deliver.FaultOperator:
		e.Hint = "make sure that " + filepath.Dir(s.path) + " exists and that mailhaul may write there"
	}
	return e
}

// operatorError is the error for what only a person can put right.
func (s *Sink) operatorError(op string, err error, hint string) error {
	return &deliver.Error{Fault: deliver.FaultOperator, Target: cmp.Or(s.path, "mbox"), Op: op, Err: err, Hint: hint}
}

// fromLine is the separator before a message (RFC 4155 appendix A): the
// sender and the time of arrival, in UTC, as asctime writes it.
func fromLine(mail deliver.Mail) string {
	sender := mail.Sender
	if sender == "" || strings.ContainsFunc(sender, breaksFromLine) {
		sender = "MAILER-DAEMON"
	}
	return "From " + sender + " " + mail.Arrived.UTC().Format(time.ANSIC) + "\n"
}
