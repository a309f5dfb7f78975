package mda

import (
	"context"
	"errors"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/program"
)

// The exit codes that mean something else than a refusal: sysexits.h, and what
// shells and wrappers end with if they cannot run a program (POSIX, Shell
// Command Language 2.8.2).
const (
	exTempFail  = 75
	exCannotRun = 126
	exNotFound  = 127
)

// refusal is an error that is about one message. The batch goes on.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// run runs the program for a message. The error is a *refusal if it is about
// this message only.
func (b *batch) run(ctx context.Context, m *message) (where string, err error) {
	s := b.sink
	if err := ctx.Err(); err != nil {
		return "", s.fail("commit", err)
	}
	stdin, err := s.spool.Stdin(m.name)
	if err != nil {
		return "", err
	}
	defer stdin.Close()
	exit, err := (&program.Run{
		Path: b.path, Name: s.command.Name(), Args: m.args, Env: m.env,
		Dir: s.dir, Stdin: stdin, Timeout: s.timeout,
	}).Do(ctx)
	if err == nil {
		return s.command.Name(), s.judge(exit)
	}
	if e, ok := errors.AsType[*program.StartError](err); ok {
		err = s.fault(e.Fault(), "start the program", e.Err, "run it by hand to see what is wrong")
		if e.Fault() == deliver.FaultMessage {
			err = &refusal{err}
		}
		return "", err
	}
	if _, ok := errors.AsType[*program.TimeoutError](err); ok {
		return "", &refusal{s.fault(deliver.FaultTemporary, "run the program", err, "find out what it waits for, or raise the timeout")}
	}
	return "", s.fail("run the program", err)
}

// judge says what an exit means: nil that the message was taken. A program that
// cannot be run would take no other message either.
func (s *Sink) judge(exit program.Exit) error {
	fault := deliver.FaultMessage
	switch exit.Code {
	case 0:
		return nil
	case -1, exTempFail:
		fault = deliver.FaultTemporary
	case exCannotRun, exNotFound:
		return s.fault(deliver.FaultOperator, "run the program", errors.New(exit.Text),
			"a program that it runs is missing or may not be run: install it or correct the command line")
	}
	return &refusal{s.fault(fault, "run the program", errors.New(exit.Text), "")}
}
