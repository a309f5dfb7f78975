// Package mda is a sink that runs a program for each message: a delivery agent such as
// maildrop, procmail or dovecot-lda, or a script. The program is run directly, never through a
// shell.
//
// The program reads the message from its standard input, which is a file, so that it never
// takes part of a message for the whole, even if we die. Lines end in LF instead of CRLF; every
// other octet is as the server sent it, bare CRs, NULs and a missing last line end included.
// The program runs with umask 077 and in a process group of its own. Its environment has PATH,
// HOME, USER, LOGNAME, SHELL, LANG, TZ, TMPDIR, LC_* and XDG_* of ours, since the other
// variables may contain passwords, and
//
//	MAILHAUL_USER        the name that the account logs in with
//	MAILHAUL_ACCOUNT     the account's name in the configuration
//	MAILHAUL_SENDER      the envelope sender; empty is the null sender
//	MAILHAUL_RECIPIENT   the recipient in the configuration, or else the first
//	                     recipient of the message, or empty
//	MAILHAUL_SIZE        the size of the standard input in octets
//	MAILHAUL_UID         the unique-id that the server gave the message
//
// The exit code says what became of the message, as in sysexits.h. 0 means that the program has
// accepted it, even if it has not read it. After 75 (EX_TEMPFAIL) or death by a signal, it is
// tried again. 126 and 127 mean that a program is missing or cannot be run: the message is not
// the reason, and the batch ends. Every other code refuses the message. A program that takes too
// long is killed with all that it has started. It may have delivered the message by then, but
// the message is tried again.
//
// The order on disk:
//
//	1 stage each message in a file of the spool, sync the files
//	2 sync the spool; the caller journals the promises
//	3 run the program
//	4 mark the file as done, sync the spool; go on with the next message
//	5 the caller journals the landings
//	6 remove the files
//
// A process that dies between the end of the program and 4 does not know that the program has
// accepted the message, and it is delivered again.
//
// mda.go has the Sink, batch.go the order above, and run.go a run of the program and its exit
// code.
package mda

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/program"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

// Options say what to run. Argv and Spool are required.
type Options struct {
	// Argv is the program, which is looked up in PATH if it has no slash, and its
	// arguments. In an argument, {user} {account} {sender} {recipient} {size} and {uid} are
	// replaced by the values of the MAILHAUL_ variables, and {{ by {. They must not come
	// after a shell, another interpreter or ssh. An argument stays one argument, whatever
	// the values are. A message is refused if a value contains CR, LF or NUL, or begins
	// with "-" at the beginning of an argument, where the program would take it for an
	// option.
	Argv []string
	// Recipient is the value of {recipient}. If it is empty, the value is the first
	// recipient of deliver.Mail; a message without one is refused if the command line uses
	// {recipient}.
	Recipient string
	// Dir is the program's working folder; by default that of this process.
	Dir string
	// Timeout bounds the run for one message; it is 5 minutes by default.
	Timeout time.Duration
	// Spool keeps the messages for the program. Several sinks may share it.
	Spool *spool.Dir
}

// Sink delivers messages to a program. It implements deliver.Sink.
type Sink struct {
	command   *program.Command
	recipient string
	dir       string
	timeout   time.Duration
	spool     *spool.Dir
}

var _ deliver.Sink = (*Sink)(nil)

// New returns a sink. It does not look for the program. If the options are wrong, the error is
// a *deliver.Error with FaultOperator and a hint.
func New(o Options) (*Sink, error) {
	command, err := program.Parse(o.Argv)
	if err != nil {
		return nil, err
	}
	s := &Sink{command: command, recipient: o.Recipient, dir: o.Dir, timeout: o.Timeout, spool: o.Spool}
	if _, _, err := command.Fill(program.Values{Recipient: o.Recipient}); err != nil {
		if e, ok := errors.AsType[*deliver.Error](err); ok {
			e.Fault = deliver.FaultOperator // this value does not come from a message
		}
		return nil, err
	}
	return s, nil
}

// recipientOf returns the value of {recipient}. The error is a FaultMessage.
func (s *Sink) recipientOf(mail deliver.Mail) (string, error) {
	switch {
	case s.recipient != "":
		return s.recipient, nil
	case len(mail.Recipients) > 0:
		return mail.Recipients[0], nil
	case s.command.Uses("recipient"):
		return "", s.newError(deliver.FaultMessage, "the message does not say for whom it is", nil,
			"set the sink's recipient, or the route's default")
	default:
		return "", nil
	}
}

// Profile implements deliver.Sink.
func (s *Sink) Profile() deliver.Profile {
	return deliver.Profile{Kind: "mda", Target: s.command.Name(), Guarantee: deliver.AtLeastOnce}
}

// Begin implements deliver.Sink. It looks for the program and the working folder.
func (s *Sink) Begin(ctx context.Context) (deliver.Batch, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.temporaryError("begin", err)
	}
	path, err := s.command.Find()
	if err != nil {
		return nil, err
	}
	if s.dir != "" {
		fi, err := os.Stat(s.dir)
		if err == nil && !fi.IsDir() {
			err = &os.PathError{Op: "enter", Path: s.dir, Err: syscall.ENOTDIR}
		}
		if err != nil {
			return nil, s.newError(deliver.FaultOf(err), "the working folder", err, "create "+s.dir+", or name another folder")
		}
	}
	return &batch{Batch: s.spool.Batch(s.command.Name()), sink: s, path: path}, nil
}

// Settle implements deliver.Sink. The message has landed if its file is marked as done. If it
// is not, the program may have accepted the message or not.
func (s *Sink) Settle(ctx context.Context, token string) (deliver.Verdict, error) {
	if err := ctx.Err(); err != nil {
		return deliver.Unknown, s.temporaryError("settle", err)
	}
	if !tokenPattern.MatchString(token) {
		return deliver.Unknown, nil
	}
	f, err := s.spool.Open(token + "." + doneSuffix)
	if err == nil {
		_ = f.Close()
		// The process that marked it may have died before it synced the spool.
		if err := s.spool.Sync(); err != nil {
			return deliver.Unknown, err
		}
		return deliver.Landed, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return deliver.Unknown, err
	}
	return deliver.Unknown, s.spool.Remove(token)
}

// Made implements deliver.Sink: a token does not say which program it was for.
func (s *Sink) Made(string) bool { return false }

// Sweep implements deliver.Sink.
func (s *Sink) Sweep(ctx context.Context, account string) error {
	if err := ctx.Err(); err != nil {
		return s.temporaryError("sweep", err)
	}
	return s.spool.Sweep(account)
}

// Close implements deliver.Sink. There is nothing to close.
func (s *Sink) Close() error { return nil }

// newError returns an error with the program as its target.
func (s *Sink) newError(fault deliver.Fault, op string, err error, hint string) error {
	return &deliver.Error{Fault: fault, Target: s.command.Name(), Op: op, Err: err, Hint: hint}
}

// temporaryError returns an error of a step that may succeed later.
func (s *Sink) temporaryError(op string, err error) error {
	return s.newError(deliver.FaultTemporary, op, err, "")
}
