package mtatest

import (
	"bufio"
	"context"
	"errors"
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

// process is a server's first process; all of its children are in its group.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// kill kills the group.
func (p *process) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-p.ended
}

// run starts a program and waits until addr greets with the given words.
func (s *Server) run(addr, greeting string, argv ...string) error {
	out, err := os.OpenFile(filepath.Join(s.dir, "out"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() { _ = cmd.Wait(); close(p.ended) }()
	if err := p.await(addr, greeting); err != nil {
		p.kill()
		return err
	}
	s.proc = p
	return nil
}

// launch runs a server for the first time: on ports that are free, and again
// if another program took one meanwhile.
func (s *Server) launch(ports int, start func(ports []int) error) {
	s.tb.Helper()
	s.tb.Cleanup(func() {
		if s.proc != nil {
			s.proc.kill()
		}
		if s.tb.Failed() {
			s.tb.Logf("the server's log ends with:\n%s", s.log())
		}
	})
	var err error
	for range 3 {
		var free []int
		if free, err = freePorts(ports); err != nil {
			break
		}
		s.start = func() error { return start(free) }
		if err = s.start(); err == nil {
			return
		}
	}
	s.tb.Fatalf("cannot start the server: %v\n%s", err, s.log())
}

// await dials until a server answers with the greeting.
func (p *process) await(addr, greeting string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
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
			return fmt.Errorf("%w (last try: %q, %v)", ctx.Err(), line, err)
		case <-p.ended:
			return errors.New("the server ended")
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

// freePorts finds ports below those that systems give to outgoing
// connections, so that no connection of another test takes them meanwhile.
func freePorts(n int) ([]int, error) {
	var ports []int
	var err error
	for range 100 {
		port := 16_000 + rand.IntN(16_000)
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
			continue
		}
		defer l.Close()
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, err
}

// log returns the end of what the server said.
func (s *Server) log() string {
	var all []string
	for _, name := range []string{"out", "log"} {
		log, _ := os.ReadFile(filepath.Join(s.dir, name)) // it may not be there
		lines := strings.SplitAfter(string(log), "\n")
		all = append(all, lines[max(0, len(lines)-60):]...)
	}
	return strings.Join(all, "")
}
