// Package filter shows a message to a program before it goes to a sink. The program may change
// the message, and decide what becomes of it: spamc, rspamc --mime, bogofilter -p, or a script.
//
// The program is run as by package mda: directly, with the same placeholders and MAILHAUL_
// variables, without the secrets in the environment, and with the whole message in a file as
// its standard input, in which lines end in LF. Its standard output replaces the message. In
// it, lines may end in LF or CRLF; they end in CRLF in what is delivered. So if a program
// copies its input, only two things change: a bare LF becomes CRLF, and CR CR LF becomes
// CR LF. If the message is delivered unfiltered, no octet changes.
//
// filter.go has the Filter and its options, run.go a run of the program, output.go what the
// program writes, result.go what is to become of the message, and breaker.go the pause after a
// program has hung.
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
	// Timeout bounds the run for one message; it is 5 minutes by default. After the
	// program has not ended in time for two messages in a row, it is not run for the next
	// 5 minutes: the filter fails at once. Then it is run for one message, to find out
	// whether it still hangs.
	Timeout time.Duration
	// Spool keeps the message and the output of the program. Sinks may share it.
	Spool *spool.Dir
	// Keep, Drop and Quarantine are the exit codes with these meanings. If
	// they are nil, 0 is Keep, 99 is Drop and 100 is Quarantine. Any other
	// code is a failure.
	Keep, Drop, Quarantine []int
	// AllowDrop lets the program drop messages: they are deleted from the server, and no
	// copy is kept. Without it, a message that the program wants to drop is delivered
	// unfiltered, with a warning.
	AllowDrop bool
	// OnFailure says what happens if the filter fails: the program cannot be run, ends
	// with another code, by a signal or not in time, or writes nothing or too much.
	OnFailure OnFailure
	// Now returns the time; nil is time.Now.
	Now func() time.Time
}

// Filter is a program that is run for messages. Its methods may be called from several
// goroutines at once.
type Filter struct {
	command *program.Command
	opts    Options
	breaker breaker
}

// New returns a filter. It does not look for the program. If the options are wrong, the error
// is a *deliver.Error with FaultOperator and a hint.
func New(o Options) (*Filter, error) {
	command, err := program.Parse(o.Argv)
	if err != nil {
		return nil, err
	}
	f := &Filter{command: command, opts: o}
	if command.Uses("recipient") {
		return nil, f.newError(deliver.FaultOperator, "a filter knows no {recipient}", nil, "take it out of the command line")
	}
	if f.opts.Now == nil {
		f.opts.Now = time.Now
	}
	f.opts.Keep = codesOrDefault(o.Keep, 0)
	f.opts.Drop = codesOrDefault(o.Drop, 99)
	f.opts.Quarantine = codesOrDefault(o.Quarantine, 100)
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

// codesOrDefault returns codes, or only the default if they are nil.
func codesOrDefault(codes []int, byDefault int) []int {
	if codes == nil {
		return []int{byDefault}
	}
	return codes
}

// Check looks for the program. The error is a *deliver.Error with FaultOperator and a hint.
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

// Sweep removes the files of an account that filters left in the spool when their process
// died. It also removes those of sinks: the caller holds the account's lease, and the account
// has no open batch and no open promise.
func (f *Filter) Sweep(ctx context.Context, account string) error {
	if err := ctx.Err(); err != nil {
		return f.temporaryError("sweep", err)
	}
	return f.opts.Spool.Sweep(account)
}

// newError returns an error with the filter as its target.
func (f *Filter) newError(fault deliver.Fault, op string, err error, hint string) *deliver.Error {
	return &deliver.Error{Fault: fault, Target: f.target(), Op: op, Err: err, Hint: hint}
}

// temporaryError returns the error of a message that must wait.
func (f *Filter) temporaryError(op string, err error) error {
	return f.newError(deliver.FaultTemporary, op, err, "")
}

// target returns the deliver.Error.Target of the filter.
func (f *Filter) target() string { return "filter " + f.command.Name() }
