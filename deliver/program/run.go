package program

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
)

// defaultTimeout is how long a program may take for a message.
const defaultTimeout = 5 * time.Minute

// Run is one run of a program.
type Run struct {
	// Path is the program's file, Name what it is told it is called.
	Path, Name string
	// Args are the arguments, Env is added to the environment.
	Args, Env []string
	// Dir is the working folder, our own if it is empty.
	Dir string
	// Stdin is read by the program; it must be a regular file, so that
	// whatever becomes of us the program reads all of it or knows that it did
	// not.
	Stdin *os.File
	// Stdout gets the program's standard output, all of it if there is no
	// error. If it is nil, the output is kept for Exit with the standard error.
	// An error of Write ends the program.
	Stdout io.Writer
	// Timeout bounds the run; 0 is 5 minutes.
	Timeout time.Duration
	// Grace is how long the program may take to end after SIGTERM, and its
	// output to end after the program; 0 is 5 seconds.
	Grace time.Duration
}

// Exit is how a program ended.
type Exit struct {
	// Code is the exit code, -1 if a signal ended it.
	Code int
	// Text says it in words, with the end of what the program had to say,
	// quoted: `exit status 67: "no such user"`.
	Text string
}

// CannotRun reports whether a shell, or a program like env, found nothing that it
// could run (POSIX XCU 2.8.2): of that the message is not to blame.
func (e Exit) CannotRun() bool { return e.Code == 126 || e.Code == 127 }

// HintCannotRun is what the user can do about an Exit that CannotRun.
const HintCannotRun = "a program that it runs is missing or may not be run: install it or correct the command line"

// StartError says that a program was not started.
type StartError struct{ Err error }

// Error says why it was not.
func (e *StartError) Error() string { return "start the program: " + e.Err.Error() }

// Unwrap returns the error of the operating system.
func (e *StartError) Unwrap() error { return e.Err }

// Fault tells whose turn it is. Arguments that are too long are the message's;
// a file that is no program is the operator's.
func (e *StartError) Fault() deliver.Fault {
	switch {
	case errors.Is(e.Err, syscall.E2BIG):
		return deliver.FaultMessage
	case errors.Is(e.Err, syscall.ENOEXEC):
		return deliver.FaultOperator
	}
	return deliver.FaultOf(e.Err)
}

// TimeoutError says that a program was ended because it took too long.
type TimeoutError struct {
	Limit time.Duration
	// Output is the end of what the program had to say, quoted or empty.
	Output string
}

// Error says how long it was given, and what it had to say.
func (e *TimeoutError) Error() string {
	return withOutput(fmt.Sprintf("it did not end within %v and was killed", e.Limit), e.Output)
}

// errOutputOpen says that the program ended, but not its output: a process
// that it left behind may still write to it.
var errOutputOpen = errors.New("a process that it left behind keeps its standard output open")

var errTimeout = errors.New("time limit")

// Do runs the program and waits for its end. The error is a *StartError, a
// *TimeoutError, that of ctx or that of Stdout; or it says that the program
// ended but its standard output did not, so that nobody knows whether that is
// all. A program that had to be ended is killed with all that it started and
// that stays in its process group; whatever exit code came of that is not
// believed.
func (r *Run) Do(ctx context.Context) (Exit, error) {
	limit, grace := cmp.Or(r.Timeout, defaultTimeout), cmp.Or(r.Grace, 5*time.Second)
	if err := ctx.Err(); err != nil {
		return Exit{}, err
	}
	limited, cancel := context.WithTimeoutCause(ctx, limit, errTimeout)
	defer cancel()
	watched, stop := context.WithCancelCause(limited)
	defer stop(nil)

	said := &tail{}
	var out outputs
	cmd, stdout, err := r.command(&out, said, stop)
	if err == nil {
		err = start(cmd)
	}
	out.closeWriters()
	if err != nil {
		out.close()
		return Exit{}, &StartError{err}
	}

	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // ProcessState has it all
		close(ended)
	}()
	select {
	case <-ended:
	case <-watched.Done():
		killGroup(cmd.Process.Pid, ended, out.ended, grace)
		out.close()
		if ctx.Err() != nil {
			return Exit{}, ctx.Err()
		}
		if cause := context.Cause(watched); cause != errTimeout {
			return Exit{}, cause
		}
		return Exit{}, &TimeoutError{Limit: limit, Output: said.String()}
	}

	exit := Exit{Code: cmd.ProcessState.ExitCode()}
	// There may be more to read. But a process in the background can keep the
	// output open for ever, and that is none of our business.
	whole := true
	if exit.Code != 0 || stdout != nil {
		whole = waitAll(grace, out.ended)
	}
	out.close()
	exit.Text = withOutput(cmd.ProcessState.String(), said.String())
	switch {
	case stdout != nil && !whole:
		return exit, errOutputOpen
	case stdout != nil:
		return exit, stdout.err
	}
	return exit, nil
}

// command prepares the run. stdout is the pipe to r.Stdout, if there is one.
func (r *Run) command(out *outputs, said *tail, failed func(error)) (_ *exec.Cmd, stdout *pipe, err error) {
	stderr, err := out.addPipe(said, failed)
	if err != nil {
		return nil, nil, err
	}
	cmd := &exec.Cmd{
		Path: r.Path, Args: append([]string{r.Name}, r.Args...), Env: environ(r.Env), Dir: r.Dir,
		Stdin: r.Stdin, Stdout: stderr.w, Stderr: stderr.w,
		// A group of its own: it can be killed whole, and a Ctrl-C that is
		// meant for us does not reach it.
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	if r.Stdout != nil {
		if stdout, err = out.addPipe(r.Stdout, failed); err != nil {
			return nil, nil, err
		}
		cmd.Stdout = stdout.w
	}
	return cmd, stdout, nil
}

// umaskMu guards the umask, which belongs to the whole process.
var umaskMu sync.Mutex

// start starts a program with umask 077: what it creates is mail. For a moment
// that holds for what others create here too, which can only make a file more
// private; who wants it otherwise sets the mode.
func start(cmd *exec.Cmd) error {
	umaskMu.Lock()
	defer umaskMu.Unlock()
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	return cmd.Start()
}

// killGroup ends a process group: it asks, waits until the program and its
// output have ended or for the grace, and then does not ask. A process that not
// even SIGKILL ends, as in a dead network file system, is left behind.
func killGroup(pid int, ended, outEnded <-chan struct{}, grace time.Duration) {
	_ = syscall.Kill(-pid, syscall.SIGTERM) // it may have gone by itself
	waitAll(grace, ended, outEnded)
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	waitAll(grace, ended)
}

// waitAll waits for all events, but not for longer than limit.
func waitAll(limit time.Duration, events ...<-chan struct{}) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for _, event := range events {
		select {
		case <-event:
		case <-timer.C:
			return false
		}
	}
	return true
}

func withOutput(text, output string) string {
	if output == "" {
		return text
	}
	return text + ": " + output
}
