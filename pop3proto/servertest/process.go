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

// startLimit bounds how long a server may take until it greets.
const startLimit = time.Minute

// start runs a server until it greets. command writes the configuration for
// the addresses it is given and returns the command line. A port that was
// free can be taken before the server binds it, so a server that gives up is
// started again on other ports.
func (s *Server) start(greeting string, command func(plain, implicit int) ([]string, error)) {
	s.tb.Helper()
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
		if err = s.run(argv, greeting); err == nil {
			return
		}
	}
	s.tb.Fatalf("cannot start the server: %v\n%s", err, s.log())
}

// run starts one process and waits for its greeting.
func (s *Server) run(argv []string, greeting string) error {
	logFile, err := os.OpenFile(s.logPath(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, logFile, logFile
	if err := cmd.Start(); err != nil {
		return err
	}
	ctx, exited := context.WithCancelCause(context.Background())
	go func() { exited(fmt.Errorf("%s ended: %w", filepath.Base(argv[0]), exit{cmd.Wait()})) }()
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		select {
		case <-ctx.Done():
		case <-time.After(startLimit):
			_ = cmd.Process.Kill()
			<-ctx.Done()
		}
	}
	if err := awaitGreeting(ctx, s.Addr, greeting); err != nil {
		stop()
		return err
	}
	s.tb.Cleanup(func() {
		stop()
		if s.tb.Failed() {
			s.tb.Logf("the server's log ends with:\n%s", s.log())
		}
	})
	return nil
}

// exit is how a process ended: an error even if it ended well.
type exit struct{ error }

func (e exit) Error() string {
	if e.error == nil {
		return "exit status 0"
	}
	return e.error.Error()
}

// awaitGreeting dials until a server that greets with the given words
// answers. Another program's server may hold the port: its greeting is wrong.
func awaitGreeting(ctx context.Context, addr, greeting string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for {
		line, err := firstLine(ctx, addr)
		if err == nil && strings.Contains(line, greeting) {
			return nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = fmt.Errorf("the greeting is %q", line)
			}
			return fmt.Errorf("%w (last try: %w)", context.Cause(ctx), err)
		case <-retry.C:
		}
	}
}

func firstLine(ctx context.Context, addr string) (string, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	return bufio.NewReader(conn).ReadString('\n')
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

func (s *Server) logPath() string { return filepath.Join(s.dir, "log") }

// log returns the end of the server's log.
func (s *Server) log() string {
	log, err := os.ReadFile(s.logPath())
	if err != nil {
		return err.Error()
	}
	lines := strings.SplitAfter(string(log), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "")
}

// look finds an executable, also in the folders of system programs, which an
// ordinary user may not have in PATH.
func look(name string) (string, bool) {
	for _, file := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(file); err == nil {
			return path, true
		}
	}
	return "", false
}
