package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// The exit codes, after sysexits(3). If several accounts end differently, the first of
// exitMachine, exitPerson, exitRetry, exitRefused and exitOK that applies is the code.
const (
	exitOK       = 0  // all well, with or without mail
	exitUsage    = 64 // the command line is wrong
	exitRefused  = 65 // some messages stay on a server because they cannot be delivered
	exitInternal = 70 // a bug
	exitMachine  = 74 // this machine is in trouble: a full or failing disk, or nowhere to write to
	exitRetry    = 75 // temporary trouble, or a signal before all was done: the next run may well succeed
	exitPerson   = 77 // a person is needed: a password, a certificate, a sink
	exitConfig   = 78 // the configuration is wrong
)

// exitCodeByClass maps the outcome of an account to an exit code.
var exitCodeByClass = map[fetch.Class]int{
	fetch.ClassFine:     exitOK,
	fetch.ClassRefused:  exitRefused,
	fetch.ClassRetry:    exitRetry,
	fetch.ClassOperator: exitPerson,
	fetch.ClassMachine:  exitMachine,
}

// exitCode returns the exit code of a run that ended with err.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[*failure](err); ok {
		return e.exit
	}
	if e, ok := errors.AsType[*outcome](err); ok {
		return exitCodeByClass[e.class]
	}
	if _, ok := errors.AsType[*state.HeldError](err); ok {
		return exitRetry
	}
	if _, ok := errors.AsType[*state.Error](err); ok {
		return exitCodeByClass[fetch.Classify(err)]
	}
	return exitInternal
}

// outcome is the error of a run that has already reported on every account. It carries
// the worst class, and is not printed.
type outcome struct{ class fetch.Class }

func (o *outcome) Error() string { return "some accounts: " + o.class.String() }

// worstOutcome returns the outcome of the worst class, nil if all are fine. Higher classes
// are worse.
func worstOutcome(classes ...fetch.Class) error {
	worst := fetch.ClassFine
	for _, c := range classes {
		worst = max(worst, c)
	}
	if worst == fetch.ClassFine {
		return nil
	}
	return &outcome{worst}
}

// failure is an error that ends a run, with its exit code.
type failure struct {
	err  error
	exit int    // the exit code
	hint string // what the user can do; if it is empty, hintOf looks at err
}

func (e *failure) Error() string { return e.err.Error() }
func (e *failure) Unwrap() error { return e.err }

// usagef returns the error of a wrong command line. An empty hint is none.
func usagef(hint, format string, args ...any) error {
	return &failure{fmt.Errorf(format, args...), exitUsage, hint}
}

// configError wraps the error of a configuration that is missing, unreadable or wrong,
// and adds a hint.
func configError(err error) error {
	hint := ""
	_, notFound := errors.AsType[*config.NotFound](err)
	switch {
	case notFound:
		hint = "mailhaul init writes one; or name it with --config or $MAILHAUL_CONFIG; mailhaul.yaml(5) explains every option"
	case errors.Is(err, fs.ErrNotExist):
		hint = "correct --config or $MAILHAUL_CONFIG; or have mailhaul init write that file"
	case errors.Is(err, fs.ErrPermission):
		hint = fmt.Sprintf("mailhaul runs as user %d, who must be able to read it: chown it", os.Geteuid())
	case errors.Is(err, syscall.EISDIR):
		hint = "name a file in it with --config or $MAILHAUL_CONFIG"
	}
	return &failure{err, exitConfig, hint}
}

// printError prints an error and its hint. It prints nothing for nil and an outcome.
func printError(std stdio, err error) {
	if _, ok := errors.AsType[*outcome](err); err == nil || ok {
		return
	}
	fmt.Fprintf(std.err, "mailhaul: error: %v\n", err)
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(std.err, "mailhaul: hint: %s\n", hint)
	}
}

// hintOf returns what the user can do about an error, "" if that is not known.
func hintOf(err error) string {
	if e, ok := errors.AsType[*failure](err); ok && e.hint != "" {
		return e.hint
	}
	if _, ok := errors.AsType[*state.Error](err); ok {
		return fetch.Hint(err)
	}
	if e, ok := errors.AsType[*state.HeldError](err); ok {
		if e.Account != "" {
			return "try again when that has ended"
		}
		return "end it first; kill -HUP makes it reload its configuration"
	}
	return oauthHint(err)
}
