package servertest

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// waitLimit limits how long to wait for a server's greeting, or for mail to be delivered.
const waitLimit = time.Minute

// start runs the server until the test ends, and waits until its greeting contains the
// given text. command writes the configuration for two ports, without and with implicit
// TLS, and returns the command line. Another process may take a free port before the
// server binds it, so if the server fails, start tries other ports.
func (s *Server) start(greeting string, command func(plain, implicit int) ([]string, error)) {
	s.tb.Helper()
	s.tb.Cleanup(func() {
		s.Kill()
		if s.tb.Failed() {
			s.tb.Logf("the server's log ends with:\n%s", s.log())
		}
	})
	var err error
	for range 3 {
		var argv []string
		if argv, err = s.configure(command); err != nil {
			break
		}
		s.run = func() error { return s.runProcess(argv, greeting) }
		if err = s.run(); err == nil {
			return
		}
	}
	s.tb.Fatalf("cannot start the server: %v\n%s", err, s.log())
}

// configure chooses the server's addresses and returns its command line.
func (s *Server) configure(command func(plain, implicit int) ([]string, error)) (argv []string, err error) {
	plain, err := freePort()
	if err != nil {
		return nil, err
	}
	implicit, err := freePort()
	if err != nil {
		return nil, err
	}
	s.Addr = fmt.Sprintf("127.0.0.1:%d", plain)
	s.TLSAddr = fmt.Sprintf("127.0.0.1:%d", implicit)
	return command(plain, implicit)
}

// runProcess starts the server's process and waits for the greeting.
func (s *Server) runProcess(argv []string, greeting string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = s.dir
	kill, err := run(cmd, s.file("log"), func(ctx context.Context) error {
		return checkGreeting(ctx, s.Addr, greeting)
	})
	if err == nil {
		s.kill = kill
	}
	return err
}

// Kill kills the server and its child processes with SIGKILL.
func (s *Server) Kill() { s.kill() }

// Restart starts a killed server on the same addresses. It tries again until they are
// free.
func (s *Server) Restart() {
	s.tb.Helper()
	if err := retry(context.Background(), func(context.Context) error { return s.run() }); err != nil {
		s.tb.Fatalf("cannot start the server again: %v\n%s", err, s.log())
	}
}

// run starts a program, with its output appended to a file, and waits until ready returns
// nil. kill kills the program with its child processes and waits for its end.
func run(cmd *exec.Cmd, output string, ready func(context.Context) error) (kill func(), err error) {
	out, err := os.OpenFile(output, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that kill reaches child processes
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		_ = cmd.Wait() // ProcessState tells more than the error
		cancel(fmt.Errorf("%s ended: %s", filepath.Base(cmd.Path), cmd.ProcessState))
	}()
	kill = func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // an error means that it has already ended
		<-ctx.Done()
	}
	if err := retry(ctx, ready); err != nil {
		kill()
		return nil, err
	}
	return kill, nil
}

// retry calls try until it succeeds. It gives up after waitLimit, or when ctx ends.
func retry(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last try: %w)", context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}

// checkGreeting checks that the greeting of the server at addr contains text. It does not
// if another program has taken the port.
func checkGreeting(ctx context.Context, addr, text string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && !strings.Contains(line, text) {
		err = fmt.Errorf("the greeting is %q", line)
	}
	return err
}

// freePort returns a free port below the range of ephemeral ports, so that no outgoing
// connection of another test takes it before the server does.
func freePort() (int, error) {
	var err error
	for range 100 {
		port := 16_000 + rand.IntN(16_000)
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}

// log returns the last lines of the server's log.
func (s *Server) log() string {
	log, err := os.ReadFile(s.file("log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.SplitAfter(string(log), "\n")
	return strings.Join(lines[max(0, len(lines)-60):], "")
}
