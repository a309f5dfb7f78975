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
	// Path is the program's file, and Name its argv[0].
	Path, Name string
	// Args are the arguments. Env is added to the environment.
	Args, Env []string
	// Dir is the working folder; if it is empty, that of this process.
	Dir string
	// Stdin must be a regular file, so that the program never mistakes part of it for
	// the whole, even if we die.
	Stdin *os.File
	// Stdout receives the program's standard output, all of it if there is no error. An
	// error of Write ends the program. If Stdout is nil, the output goes into Exit.Text
	// together with the standard error.
	Stdout io.Writer
	// Timeout bounds the run; 0 is 5 minutes.
	Timeout time.Duration
	// Grace is how long the program may take to end after SIGTERM, and its
	// output to end after the program; 0 is 5 seconds.
	Grace time.Duration
}

// Exit says how a program ended.
type Exit struct {
	// Code is the exit code; -1 if a signal ended the program.
	Code int
	// Text describes it for a person, with the end of the program's output, quoted:
	// `exit status 67: "no such user"`.
	Text string
}

// CannotRun reports whether a shell, or a program like env, could not run the program that
// it was told to (POSIX XCU 2.8.2). The message is not the reason.
func (e Exit) CannotRun() bool { return e.Code == 126 || e.Code == 127 }

// HintCannotRun is the hint for an Exit with CannotRun.
const HintCannotRun = "a program that it runs is missing or may not be run: install it or correct the command line"

// StartError is the error of a program that could not be started.
type StartError struct{ Err error }

// Error returns the reason.
func (e *StartError) Error() string { return "start the program: " + e.Err.Error() }

// Unwrap returns the error of the operating system.
func (e *StartError) Unwrap() error { return e.Err }

// Fault returns FaultMessage if the arguments are too long, FaultOperator if the file is not
// a program, and else what deliver.FaultOf returns.
func (e *StartError) Fault() deliver.Fault {
	switch {
	case errors.Is(e.Err, syscall.E2BIG):
		return deliver.FaultMessage
	case errors.Is(e.Err, syscall.ENOEXEC):
		return deliver.FaultOperator
	}
	return deliver.FaultOf(e.Err)
}

// TimeoutError is the error of a program that was killed because it took too long.
type TimeoutError struct {
	Limit time.Duration
	// Output is the end of the program's output, quoted, or empty.
	Output string
}

// Error returns the time limit and the output.
func (e *TimeoutError) Error() string {
	return withOutput(fmt.Sprintf("it did not end within %v and was killed", e.Limit), e.Output)
}

// errOutputOpen is the error of a program that has ended while a process that it started may
// still write to its output.
var errOutputOpen = errors.New("a process that it left behind keeps its standard output open")

// errTimeout is the cause of a context that has ended because of Run.Timeout.
var errTimeout = errors.New("time limit")

// Do runs the program and waits for its end. The error is a *StartError, a *TimeoutError,
// that of ctx, or that of Stdout; or it says that the program has ended but a process that
// it started keeps the standard output open, so that more output may follow. If Do ends the
// program early, it kills all of its process group and ignores the exit code.
func (r *Run) Do(ctx context.Context) (Exit, error) {
	limit, grace := cmp.Or(r.Timeout, defaultTimeout), cmp.Or(r.Grace, 5*time.Second)
	if err := ctx.Err(); err != nil {
		return Exit{}, err
	}
	limited, cancel := context.WithTimeoutCause(ctx, limit, errTimeout)
	defer cancel()
	watched, stop := context.WithCancelCause(limited)
	defer stop(nil)

	var out outputs
	cmd, err := r.command(&out, stop)
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
		_ = cmd.Wait() // its error is also in ProcessState
		close(ended)
	}()
	select {
	case <-ended:
		return out.exit(cmd.ProcessState, grace)
	case <-watched.Done():
	}
	killGroup(cmd.Process.Pid, ended, out.ended, grace)
	out.close()
	switch cause := context.Cause(watched); {
	case ctx.Err() != nil:
		return Exit{}, ctx.Err()
	case cause != errTimeout:
		return Exit{}, cause // the error of Stdout
	default:
		return Exit{}, &TimeoutError{Limit: limit, Output: out.tail.String()}
	}
}

// exit waits for the rest of the output of a program that has ended, at most for grace, and
// returns how the program ended. A process that the program has left in the background may
// keep the output open for ever. That does not matter if nobody needs the output.
func (o *outputs) exit(state *os.ProcessState, grace time.Duration) (Exit, error) {
	complete := true
	if !state.Success() || o.stdout != nil {
		complete = waitAll(grace, o.ended)
	}
	o.close()
	exit := Exit{Code: state.ExitCode(), Text: withOutput(state.String(), o.tail.String())}
	switch {
	case o.stdout != nil && !complete:
		return exit, errOutputOpen
	case o.stdout != nil:
		return exit, o.stdout.err
	default:
		return exit, nil
	}
}

// command prepares the run, with pipes in out. failed is called with the first error of
// Stdout.
func (r *Run) command(out *outputs, failed func(error)) (*exec.Cmd, error) {
	stderr, err := out.addPipe(&out.tail, failed)
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path: r.Path, Args: append([]string{r.Name}, r.Args...), Env: environ(r.Env), Dir: r.Dir,
		Stdin: r.Stdin, Stdout: stderr.w, Stderr: stderr.w,
		// In a process group of its own, all that it starts can be killed with it, and a
		// Ctrl-C on the terminal does not reach it.
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	if r.Stdout != nil {
		if out.stdout, err = out.addPipe(r.Stdout, failed); err != nil {
			return nil, err
		}
		cmd.Stdout = out.stdout.w
	}
	return cmd, nil
}

// umaskMu guards the umask, which belongs to the whole process.
var umaskMu sync.Mutex

// start starts a program with umask 077, since the files that it creates are mail. For a
// moment the umask also applies to files that other goroutines create. It can only make
// them more private, and code that needs another mode sets it by Chmod.
func start(cmd *exec.Cmd) error {
	umaskMu.Lock()
	defer umaskMu.Unlock()
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	return cmd.Start()
}

// killGroup ends a process group. It sends SIGTERM, waits until the program and its output
// have ended, at most for grace, and then sends SIGKILL. It does not wait longer than grace
// again for a process that SIGKILL does not end, such as one that waits for a network file
// system.
func killGroup(pid int, ended, outEnded <-chan struct{}, grace time.Duration) {
	_ = syscall.Kill(-pid, syscall.SIGTERM) // it may have gone by itself
	waitAll(grace, ended, outEnded)
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	waitAll(grace, ended)
}

// waitAll waits for all events, at most for limit, and reports whether all came.
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

// withOutput adds the output of a program, which may be empty, to a text.
func withOutput(text, output string) string {
	if output == "" {
		return text
	}
	return text + ": " + output
}
