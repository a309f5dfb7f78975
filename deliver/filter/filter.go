// Package filter shows a message to a program before it goes to a sink. The
// program may change the message, and say what is to become of it: spamc,
// rspamc --mime, bogofilter -p, or a script.
//
// The program is run as package mda runs one: directly, with the same
// placeholders and MAILHAUL_ variables, without our secrets, with the whole
// message in a file as its standard input, LF at the end of lines. What it
// writes to its standard output goes on instead of the message. There LF ends
// a line, and CRLF too; what goes on is in wire form, with CRLF. So a program
// that copies its input changes nothing but this: a bare LF becomes CRLF, and
// CR CR LF loses a CR. If the message goes on unfiltered, it is the same to the
// byte.
package filter

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/program"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

// OnFailure says what to do with a message if the filter fails.
type OnFailure int

const (
	// Deliver delivers the message unfiltered, with a warning.
	Deliver OnFailure = iota
	// Wait leaves the message on the server, to be tried again. If the program, or one
	// that it runs, is missing (exit codes 126 and 127), all messages wait for a person.
	Wait
)

// Options say what to run. Argv and Spool are required.
type Options struct {
	// Argv is the program and its arguments, with the placeholders {user}
	// {account} {sender} {size} and {uid}, as in mda.Options.
	Argv []string
	// Timeout bounds the run for one message, 5 minutes by default. A program
	// that did not end in time for two messages in a row is not run for the
	// next 5 minutes: it fails at once. Then one message finds out whether it
	// still hangs.
	Timeout time.Duration
	// Spool is where the message and what the program makes of it are kept.
	// It may be shared with sinks.
	Spool *spool.Dir
	// Keep, Drop and Quarantine are the exit codes with these meanings. If
	// they are nil, 0 is Keep, 99 is Drop and 100 is Quarantine. Any other
	// code is a failure.
	Keep, Drop, Quarantine []int
	// AllowDrop lets the program drop messages: they are deleted from the
	// server and are nowhere. Without it a message that the program wants to
	// drop goes on unfiltered, with a warning.
	AllowDrop bool
	// OnFailure is what happens if the program fails: it cannot be run, ends
	// with an unknown code, by a signal or not in time, or writes nothing or
	// out of proportion.
	OnFailure OnFailure
	// Now tells the time; nil is time.Now.
	Now func() time.Time
}

// Filter is a program to show messages to. Its methods may be called from
// several goroutines at once.
type Filter struct {
	command *program.Command
	opts    Options
	breaker breaker
}

// New returns a filter, without looking for the program. Options that are
// wrong in themselves are a *deliver.Error with FaultOperator and a hint.
func New(o Options) (*Filter, error) {
	command, err := program.Parse(o.Argv)
	if err != nil {
		return nil, err
	}
	f := &Filter{command: command, opts: o}
	if command.Uses("recipient") {
		return nil, f.newError(deliver.FaultOperator, "a filter knows no {recipient}", nil, "take it out of the command line")
	}
	for _, codes := range []struct {
		list     *[]int
		standard int
	}{{&f.opts.Keep, 0}, {&f.opts.Drop, 99}, {&f.opts.Quarantine, 100}} {
		if *codes.list == nil {
			*codes.list = []int{codes.standard}
		}
	}
	if f.opts.Now == nil {
		f.opts.Now = time.Now
	}
	seen := make(map[int]bool)
	for _, code := range slices.Concat(f.opts.Keep, f.opts.Drop, f.opts.Quarantine) {
		if code < 0 || code > 255 || seen[code] {
			return nil, f.newError(deliver.FaultOperator, fmt.Sprintf("exit code %d", code), nil,
				"exit codes are 0 to 255, each with one meaning; 0 is keep, 99 drop and 100 quarantine unless these are set")
		}
		seen[code] = true
	}
	return f, nil
}

// Check looks for the program. Its error is a *deliver.Error with
// FaultOperator and a hint.
func (f *Filter) Check() error {
	_, err := f.command.Find()
	return err
}

// Drops reports whether the program may drop messages.
func (f *Filter) Drops() bool { return f.opts.AllowDrop }

// Begin is called before messages are downloaded. If the program is missing and OnFailure is
// Wait, it returns the error that Run would return, so that no message is downloaded.
func (f *Filter) Begin() error {
	if err := f.Check(); err != nil && f.opts.OnFailure == Wait {
		return f.failureError(program.Exit{}, err)
	}
	return nil
}

// Sweep removes what filters left of an account's messages in the spool when
// their process died. It removes what sinks have there too: the caller holds
// the account's lease and has no message and no promise of the account open.
func (f *Filter) Sweep(ctx context.Context, account string) error {
	if err := ctx.Err(); err != nil {
		return f.temporaryError("sweep", err)
	}
	return f.opts.Spool.Sweep(account)
}

func (f *Filter) newError(fault deliver.Fault, op string, err error, hint string) *deliver.Error {
	return &deliver.Error{Fault: fault, Target: f.target(), Op: op, Err: err, Hint: hint}
}

// temporaryError is the error of a message that must wait.
func (f *Filter) temporaryError(op string, err error) error {
	return f.newError(deliver.FaultTemporary, op, err, "")
}

func (f *Filter) target() string { return "filter " + f.command.Name() }
