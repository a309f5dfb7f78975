//go:build linux && amd64

package crashtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// deadline bounds a run, which takes a fraction of a second. A program that needs longer
// hangs.
const deadline = 2 * time.Minute

// full is set for the long form of the tests.
var full = os.Getenv("MAILHAUL_CRASH") == "full"

// binary is the path of the program, which is built as it is released.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "mailhaul-crash-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "mailhaul")
		build := exec.Command("go", "build", "-trimpath", "-o", binary, "github.com/mailhaul/mailhaul/cmd/mailhaul")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// scratch returns the folder in which the tests work. A kill leaves the same behind in
// memory and on a disk, so that the short form does not use the disk.
func scratch() string {
	if full {
		return os.TempDir()
	}
	return memory()
}

// memory returns a folder in memory, if the system has one.
func memory() string {
	const shared = "/dev/shm"
	if info, err := os.Stat(shared); err == nil && info.IsDir() {
		return shared
	}
	return os.TempDir()
}

// program is a run of mailhaul in a folder.
type program struct {
	dir  string
	args []string
	env  []string
}

// ending is how a run ended.
type ending struct {
	killed bool
	code   int
	output []byte
}

func (p program) output() (*os.File, error) {
	return os.OpenFile(filepath.Join(p.dir, "said"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
}

func (p program) start(out *os.File, traced bool) (*os.Process, error) {
	return os.StartProcess(binary, append([]string{"mailhaul"}, p.args...), &os.ProcAttr{
		Dir: p.dir, Env: slices.Concat(p.env, os.Environ()), // the first value of a name counts
		Files: []*os.File{nil, out, out},
		Sys:   &syscall.SysProcAttr{Ptrace: traced, Setpgid: traced},
	})
}

// run runs a program to its end. If kill is not nil it is killed when kill is
// closed.
func (p program) run(kill <-chan struct{}) (ending, error) {
	return p.disturbed(kill, func(proc *os.Process) { proc.Kill() })
}

// disturbed runs a program to its end, and calls do when now is closed.
func (p program) disturbed(now <-chan struct{}, do func(*os.Process)) (ending, error) {
	var e ending
	out, err := p.output()
	if err != nil {
		return e, err
	}
	defer out.Close()
	proc, err := p.start(out, false)
	if err != nil {
		return e, err
	}
	limit := time.AfterFunc(deadline, func() { proc.Kill() })
	defer limit.Stop()
	ended := make(chan struct{})
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		select {
		case <-now:
			do(proc)
		case <-ended:
		}
	}()
	state, err := proc.Wait()
	close(ended)
	<-watching
	if err != nil {
		return e, err
	}
	status := state.Sys().(syscall.WaitStatus)
	e.killed, e.code = status.Signaled(), status.ExitStatus()
	e.output, err = os.ReadFile(out.Name())
	return e, err
}

// mustRun runs a program that must end by itself.
func (p program) mustRun(t *testing.T) ending {
	t.Helper()
	e, err := p.run(nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
