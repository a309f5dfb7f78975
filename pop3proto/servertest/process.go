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

// startLimit bounds how long a server may take until it greets, and mail until
// it arrives.
const startLimit = time.Minute

// start runs a server until the test ends, and waits until it greets. command
// writes the configuration for the ports it is given and returns the command
// line. A port that was free can be taken before the server binds it, so a
// server that gives up is started again on other ports.
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
		var plain, implicit int
		if plain, err = freePort(); err != nil {
			break
		}
		if implicit, err = freePort(); err != nil {
			break
		}
		var argv []string
		if argv, err = command(plain, implicit); err != nil {
			break
		}
		s.Addr = fmt.Sprintf("127.0.0.1:%d", plain)
		s.TLSAddr = fmt.Sprintf("127.0.0.1:%d", implicit)
		s.run = func() error {
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.Dir = s.dir
			kill, err := run(cmd, s.file("log"), func(ctx context.Context) error {
				return greets(ctx, s.Addr, greeting)
			})
			if err == nil {
				s.kill = kill
			}
			return err
		}
		if err = s.run(); err == nil {
			return
		}
	}
	s.tb.Fatalf("cannot start the server: %v\n%s", err, s.log())
}

// Kill kills the server and all of its processes at once, as a power cut
// would.
func (s *Server) Kill() { s.kill() }

// Restart starts a server that was killed, on the same addresses. It tries
// until what was killed has let go of them.
func (s *Server) Restart() {
	s.tb.Helper()
	if err := await(context.Background(), func(context.Context) error { return s.run() }); err != nil {
		s.tb.Fatalf("cannot start the server again: %v\n%s", err, s.log())
	}
}

// run starts a program, with its output in a file, and waits until it is
// ready. kill ends it and waits for that.
func run(cmd *exec.Cmd, output string, ready func(context.Context) error) (kill func(), err error) {
	out, err := os.OpenFile(output, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its children die with it
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ctx, ended := context.WithCancelCause(context.Background())
	go func() {
		_ = cmd.Wait() // its state says more
		ended(fmt.Errorf("%s ended: %s", filepath.Base(cmd.Path), cmd.ProcessState))
	}()
	kill = func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may have ended by itself
		<-ctx.Done()
	}
	if err := await(ctx, ready); err != nil {
		kill()
		return nil, err
	}
	return kill, nil
}

// await tries something until it succeeds.
func await(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last try: %w)", context.Cause(ctx), err)
		case <-retry.C:
		}
	}
}

// greets sees whether a server at addr greets with the given words. Another
// program's server may hold the port: its greeting is wrong.
func greets(ctx context.Context, addr, words string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && !strings.Contains(line, words) {
		err = fmt.Errorf("the greeting is %q", line)
	}
	return err
}

// freePort finds a port below those that systems give to outgoing
// connections, so that no connection of another test takes it meanwhile.
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

// log returns the end of the server's log.
func (s *Server) log() string {
	log, err := os.ReadFile(s.file("log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.SplitAfter(string(log), "\n")
	return strings.Join(lines[max(0, len(lines)-60):], "")
}
