// Package mda is a sink that hands each message to a program, one run a
// message: a delivery agent such as maildrop, procmail or dovecot-lda, or a
// script. The program is run directly, never through a shell.
//
// The program reads the message from its standard input, a file: whatever
// becomes of us, it never takes half a message for a whole one. Lines end in
// LF instead of CRLF; every other byte is as the server sent it, bare CRs, NULs
// and a missing last line end included. It runs with umask 077, in a process
// group of its own, with PATH, HOME, USER, LOGNAME, SHELL, LANG, TZ, TMPDIR,
// LC_* and XDG_* of our environment, as the rest may hold passwords, and with
//
//	MAILHAUL_USER        the name that the account logs in with
//	MAILHAUL_ACCOUNT     the account's name in the configuration
//	MAILHAUL_SENDER      the envelope sender; empty is the null sender
//	MAILHAUL_RECIPIENT   the recipient in the configuration, else the first of
//	                     those whom the message was routed for, or empty
//	MAILHAUL_SIZE        the octets on standard input
//	MAILHAUL_UID         the unique-id that the server gave the message
//
// The exit code says what became of the message, as sysexits.h has it: 0 means
// that the program has taken it, even if it did not read it; 75 (EX_TEMPFAIL)
// and death by signal, that it may work later; 126 and 127, that a program is
// missing or cannot be run, which is no fault of the message and ends the batch;
// every other code, that this message is refused. A program that takes too long
// is killed with all that it started; what it may have done by then is not
// believed, and the message comes again.
//
// The order on disk:
//
//	1 stage each message in a file of the spool, sync the files
//	2 sync the spool; the caller journals the promises
//	3 run the program   4 mark the file as done, sync the spool; next message
//	5 the caller journals the landings   6 remove the files
//
// A process that dies between the end of a program and 4 does not know that
// the message was taken, and it is delivered again.
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
	// Argv is the program, looked up in PATH if it has no slash, and its
	// arguments. In an argument {user} {account} {sender} {recipient} {size}
	// and {uid} stand for the values of the MAILHAUL_ variables; {{ stands
	// for {. None can stand behind a shell, another interpreter or ssh. An
	// argument stays one argument whatever fills it. A message whose value
	// would make an argument begin with "-" is refused, as that would be taken
	// for an option, and so is one whose values hold CR, LF or NUL.
	Argv []string
	// Recipient is what {recipient} stands for. If it is empty, the first
	// recipient of deliver.Mail is; a message without one is refused if the
	// command line needs it.
	Recipient string
	// Dir is the program's working folder, by default our own.
	Dir string
	// Timeout bounds the run for one message, 5 minutes by default.
	Timeout time.Duration
	// Spool is where messages wait. Several sinks may share it.
	Spool *spool.Dir
}

// Sink hands messages to a program. It implements deliver.Sink.
type Sink struct {
	command   *program.Command
	recipient string
	dir       string
	timeout   time.Duration
	spool     *spool.Dir
}

var _ deliver.Sink = (*Sink)(nil)

// New returns a sink, without looking for the program. A command line that is
// wrong in itself is a *deliver.Error with FaultOperator and a hint.
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

// recipientOf returns what {recipient} stands for. The error is about this
// message only.
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

// Begin implements deliver.Sink. It looks for the program.
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

// Settle implements deliver.Sink. Landed is what the spool says is done; of
// anything else nobody knows whether the program took it.
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
		// Who marked it may have died before it was durable.
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

// Close implements deliver.Sink. A Sink holds nothing.
func (s *Sink) Close() error { return nil }

func (s *Sink) newError(fault deliver.Fault, op string, err error, hint string) error {
	return &deliver.Error{Fault: fault, Target: s.command.Name(), Op: op, Err: err, Hint: hint}
}

// temporaryError is the error of what may work later.
func (s *Sink) temporaryError(op string, err error) error {
	return s.newError(deliver.FaultTemporary, op, err, "")
}
