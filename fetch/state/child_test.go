package state_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/mailhaul/mailhaul/fetch/state"
)

// TestMain runs child instead of the tests if STATE_TEST_ROLE is set.
func TestMain(m *testing.M) {
	if role := os.Getenv("STATE_TEST_ROLE"); role != "" {
		if err := child(role, os.Getenv("STATE_TEST_DIR")); err != nil {
			fmt.Println("child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child is the main function of a second process. It does what role says with the state
// folder dir, and prints a line for each write that is done.
func child(role, dir string) error {
	ctx := context.Background()
	s, err := state.Open(ctx, dir)
	if err != nil {
		return err
	}
	switch role {
	case "lease": // take the lease and wait to be killed
		if _, err := s.Lease(ctx, "work"); err != nil {
			return err
		}
		fmt.Println("held")
		bufio.NewReader(os.Stdin).ReadByte()
		return nil
	case "promise": // promise and land without end
		for i := 0; ; i++ {
			uid := fmt.Sprint(i)
			if err := s.Promise(ctx, "work", []state.Promise{{UID: uid, Sink: "home", Token: uid}}); err != nil {
				return err
			}
			fmt.Println("promised", uid)
			if err := s.Land(ctx, "work", 1, []state.Landing{{UID: uid, Sink: "home"}}); err != nil {
				return err
			}
			fmt.Println("landed", uid)
		}
	case "write": // write for a while beside the parent
		for i := range 200 {
			if err := s.Refuse(ctx, "child", []state.Refusal{{UID: fmt.Sprint(i)}}); err != nil {
				return err
			}
			if i == 0 {
				fmt.Println("writing")
			}
		}
		return s.Close()
	case "full": // write until the disk seems full
		return fillDisk(ctx, s)
	}
	return fmt.Errorf("no role %q", role)
}

// fillDisk writes until the size limit of files is reached. Then it raises the limit
// and writes once more.
func fillDisk(ctx context.Context, s *state.Store) error {
	signal.Ignore(syscall.SIGXFSZ) // so that the write gives EFBIG instead
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	room := limit
	limit.Cur = 1 << 20
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	write := func(i int) error {
		return s.Refuse(ctx, "work", []state.Refusal{{UID: fmt.Sprint(i), Reason: strings.Repeat("x", 10_000)}})
	}
	n := 0
	for ; n < 10_000; n++ {
		if err := write(n); err != nil {
			fmt.Println("machine:", state.IsMachineError(err))
			break
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &room); err != nil {
		return err
	}
	if err := write(n); err != nil {
		return err
	}
	fmt.Println(n+1, "written")
	return s.Close()
}

// process is a running child.
type process struct {
	*exec.Cmd
	out *bufio.Scanner // lines of its standard output
}

// start starts a child on the state folder in dir. It is killed when the test
// ends, if not before.
func start(t *testing.T, role, dir string) *process {
	t.Helper()
	exe, err := os.Executable()
	ok(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "STATE_TEST_ROLE="+role, "STATE_TEST_DIR="+dir)
	_, err = cmd.StdinPipe()
	ok(t, err)
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	p := &process{cmd, bufio.NewScanner(out)}
	t.Cleanup(func() { p.kill() })
	return p
}

// readLine waits for the next line of the child.
func (p *process) readLine(t *testing.T) string {
	t.Helper()
	if !p.out.Scan() {
		t.Fatal("the child printed no more lines")
	}
	return p.out.Text()
}

// kill kills the child as kill -9 does, and returns the lines that were not read yet.
func (p *process) kill() (rest []string) {
	p.Process.Kill()
	for p.out.Scan() {
		rest = append(rest, p.out.Text())
	}
	p.Wait()
	return rest
}
