// Package mbox is a sink that appends to an mbox file in the mboxrd format (RFC 4155
// describes the family): each message begins with a From_ line and ends with an empty
// line. A line of the message that begins with any number of ">" and then "From " gets
// one more ">", which a reader removes again. Line ends are LF. A message whose last
// line has no line end gets one; apart from that and from CRLF, a reader can restore
// the message exactly.
//
// The order of operations:
//
//	Stage    1 write each message to the spool file, as it will be in the mbox
//	Prepare  2 lock the mbox
//	         3 complete the last message, if a crash has left it incomplete
//	         4 sync the spool file and its folder
//	         (the caller records the promises in its journal)
//	Commit   5 append the messages
//	         6 sync the mbox
//	         (the caller records the landings in its journal)
//	         7 remove the spool file
//	         8 unlock the mbox
//
// A process that dies after 4 leaves its spool file. One that dies between 2 and 8
// leaves its lock file, too, which keeps mail readers away from an incomplete message.
// The next process that locks the mbox, for any account, does step 3: it compares the
// end of the mbox with the spool file, writes the rest of an incomplete message, and
// marks in the spool file which messages have landed. So Settle knows of these even
// after the owner has moved them.
//
// batch.go, append.go and quote.go do these steps. prepared.go has the format of the
// spool file, lock.go and dotlock.go have the locks, recover.go has step 3, settle.go,
// search.go and token.go have Settle, and check.go refuses files that are no mbox.
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

// Options are the settings of a Sink. Only Spool is required.
type Options struct {
	// FS is the file system of the mbox, durable.OS by default.
	FS durable.FS
	// Spool is where messages wait. All sinks that write to one mbox must share it,
	// because it has what is needed to complete an append.
	Spool *spool.Dir
	// LockTimeout is how long to wait for the locks of the mbox; 30 seconds by
	// default.
	LockTimeout time.Duration
	// Host is the name of this machine in the lock file; os.Hostname by default.
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

// newFileMode is the permission bits of a new mbox.
const newFileMode = 0o600

// New returns a sink for the mbox at path. It does not access the disk. The first batch
// creates the mbox; its directory must exist. If path is empty, the error is a
// *deliver.Error with FaultOperator.
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

// Profile implements deliver.Sink. Delivery is exactly once if other programs honour
// one of the two locks.
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
	processLock := s.processLock(path)
	select {
	case processLock <- struct{}{}:
		err := s.checkPath(path)
		<-processLock
		if err != nil {
			return nil, err
		}
	default:
		// Another batch has locked the mbox, and has checked it before. checkPath
		// opens and closes the file, which would release that lock where locks
		// belong to the process.
	}
	return &batch{Batch: s.spool.Batch(s.path), sink: s, path: path}, nil
}

// Sweep implements deliver.Sink. It first removes a lock file that no living process
// holds, which otherwise would stay until there is new mail. Then it removes the
// account's files from the spool.
func (s *Sink) Sweep(ctx context.Context, account string) error {
	if err := ctx.Err(); err != nil {
		return s.osError("sweep", err)
	}
	if err := s.removeStaleLock(ctx, durable.RealPath(s.path)); err != nil {
		return err
	}
	return s.spool.Sweep(account)
}

// Close implements deliver.Sink. A Sink holds nothing; locks belong to batches.
func (s *Sink) Close() error { return nil }

// osError returns a *deliver.Error for an error of the operating system. It returns a
// *deliver.Error, such as one of the spool, unchanged.
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

// operatorError returns an error that only a person can correct.
func (s *Sink) operatorError(op string, err error, hint string) error {
	return &deliver.Error{Fault: deliver.FaultOperator, Target: cmp.Or(s.path, "mbox"), Op: op, Err: err, Hint: hint}
}

// fromLine returns the From_ line before a message (RFC 4155 appendix A). It has the
// sender and the time of arrival, in UTC and in the format of asctime.
func fromLine(mail deliver.Mail) string {
	sender := mail.Sender
	if sender == "" || strings.ContainsFunc(sender, breaksFromLine) {
		sender = "MAILER-DAEMON"
	}
	return "From " + sender + " " + mail.Arrived.UTC().Format(time.ANSIC) + "\n"
}
