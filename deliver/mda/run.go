package mda

import (
	"context"
	"errors"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/program"
)

// exTempFail is the exit code for a temporary failure (EX_TEMPFAIL in sysexits.h).
const exTempFail = 75

// refusal is an error that concerns one message only, so that the batch goes on.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// run runs the program for a message. The error is a *refusal if it concerns this message only.
func (b *batch) run(ctx context.Context, m *message) (where string, err error) {
	s := b.sink
	if err := ctx.Err(); err != nil {
		return "", s.temporaryError("commit", err)
	}
	stdin, err := s.spool.OpenStdin(m.name)
	if err != nil {
		return "", err
	}
	defer stdin.Close()
	exit, err := (&program.Run{
		Path: b.path, Name: s.command.Name(), Args: m.args, Env: m.env,
		Dir: s.dir, Stdin: stdin, Timeout: s.timeout,
	}).Do(ctx)
	if err == nil {
		return s.command.Name(), s.exitError(exit)
	}
	if e, ok := errors.AsType[*program.StartError](err); ok {
		err = s.newError(e.Fault(), "start the program", e.Err, "run it by hand to see what is wrong")
		if e.Fault() == deliver.FaultMessage {
			err = &refusal{err}
		}
		return "", err
	}
	if _, ok := errors.AsType[*program.TimeoutError](err); ok {
		return "", &refusal{s.newError(deliver.FaultTemporary, "run the program", err, "find out what it waits for, or raise the timeout")}
	}
	return "", s.temporaryError("run the program", err)
}

// exitError returns nil if the exit code says that the message was accepted. Else the error
// is a *refusal, except for a program that cannot be run: no other message would do better.
func (s *Sink) exitError(exit program.Exit) error {
	fault := deliver.FaultMessage
	switch {
	case exit.Code == 0:
		return nil
	case exit.Code == -1, exit.Code == exTempFail:
		fault = deliver.FaultTemporary
	case exit.CannotRun():
		return s.newError(deliver.FaultOperator, "run the program", errors.New(exit.Text), program.HintCannotRun)
	}
	return &refusal{s.newError(fault, "run the program", errors.New(exit.Text), "")}
}
