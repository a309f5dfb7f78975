package channel

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// TunnelError means that the tunnel's program could not be started, or that it failed.
type TunnelError struct {
	Program string
	Err     error
	// Unstarted means that the program could not be started.
	Unstarted bool
}

// Error returns "tunnel program: cause".
func (e *TunnelError) Error() string { return "tunnel " + e.Program + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *TunnelError) Unwrap() error { return e.Err }

// exitTimeout is how long to wait for a program to exit after a signal, or after it has
// closed the connection.
const exitTimeout = time.Second

// tunnel is a net.Conn over the standard input and output of a program. They are pipes
// and not a socket, on which some shells would take themselves for a remote shell.
type tunnel struct {
	program string
	in, out *os.File // the program's standard input and output
	cmd     *exec.Cmd
	stderr  tail
	exited  chan struct{} // closed when cmd.Wait has returned
	close   sync.Once
}

// openTunnel starts a program that connects to addr. The program has a process group of
// its own, so that a ^C, which lets a poll finish, does not end the connection. A nil
// env is this process's environment, in which ssh finds its agent.
func openTunnel(argv, env []string, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	t := &tunnel{
		program: argv[0],
		cmd:     exec.Command(argv[0], expandArgs(argv[1:], host, port)...),
		exited:  make(chan struct{}),
	}
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer childIn.Close()
	out, childOut, err := os.Pipe()
	if err != nil {
		_ = in.Close()
		return nil, err
	}
	defer childOut.Close()
	t.in, t.out = in, out
	t.cmd.Stdin, t.cmd.Stdout, t.cmd.Stderr = childIn, childOut, &t.stderr
	t.cmd.Env = env
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Background processes that it starts may keep standard error open.
	t.cmd.WaitDelay = exitTimeout / 2
	if err := t.cmd.Start(); err != nil {
		_, _ = in.Close(), out.Close()
		return nil, &TunnelError{Program: t.program, Err: err, Unstarted: true}
	}
	go t.wait()
	return t, nil
}

// expandArgs replaces {host} and {port} in the arguments of a program.
func expandArgs(args []string, host, port string) (expanded []string) {
	replacer := strings.NewReplacer("{host}", host, "{port}", port)
	for _, arg := range args {
		expanded = append(expanded, replacer.Replace(arg))
	}
	return expanded
}

// wait waits for the program to exit, and then kills the rest of its process group.
func (t *tunnel) wait() {
	defer close(t.exited)
	_ = t.cmd.Wait() // the result is in ProcessState
	t.signal(syscall.SIGKILL)
}

// signal sends a signal to the process group.
func (t *tunnel) signal(sig syscall.Signal) { _ = syscall.Kill(-t.cmd.Process.Pid, sig) }

// Read returns a *TunnelError if the program failed.
func (t *tunnel) Read(p []byte) (int, error) {
	n, err := t.out.Read(p)
	return n, t.exitError(err, io.EOF)
}

// Write returns a *TunnelError if the program failed.
func (t *tunnel) Write(p []byte) (int, error) {
	n, err := t.in.Write(p)
	return n, t.exitError(err, syscall.EPIPE)
}

// exitError returns a *TunnelError instead of err if err means that the connection was
// closed, and the reason is that the program failed.
func (t *tunnel) exitError(err, closed error) error {
	if !errors.Is(err, closed) || !t.waitExit() || t.cmd.ProcessState.Success() {
		return err
	}
	text := t.cmd.ProcessState.String()
	if output := t.stderr.String(); output != "" {
		text += fmt.Sprintf(": %q", output)
	}
	return &TunnelError{Program: t.program, Err: errors.New(text)}
}

// waitExit reports whether the program exits within exitTimeout.
func (t *tunnel) waitExit() bool {
	select {
	case <-t.exited:
		return true
	case <-time.After(exitTimeout):
		return false
	}
}

// Close closes the connection and ends the program with its process group. After two
// seconds, it leaves behind a program that not even SIGKILL has ended.
func (t *tunnel) Close() error {
	t.close.Do(func() {
		_, _ = t.in.Close(), t.out.Close()
		select {
		case <-t.exited:
			return
		default:
		}
		t.signal(syscall.SIGTERM)
		if !t.waitExit() {
			t.signal(syscall.SIGKILL)
			t.waitExit()
		}
	})
	return nil
}

func (t *tunnel) SetDeadline(at time.Time) error {
	return errors.Join(t.out.SetReadDeadline(at), t.in.SetWriteDeadline(at))
}
func (t *tunnel) SetReadDeadline(at time.Time) error  { return t.out.SetReadDeadline(at) }
func (t *tunnel) SetWriteDeadline(at time.Time) error { return t.in.SetWriteDeadline(at) }

func (t *tunnel) LocalAddr() net.Addr  { return tunnelAddr(t.program) }
func (t *tunnel) RemoteAddr() net.Addr { return tunnelAddr(t.program) }

// tunnelAddr is the address of both ends, the program's name.
type tunnelAddr string

func (tunnelAddr) Network() string  { return "tunnel" }
func (a tunnelAddr) String() string { return string(a) }

// tail is a writer that keeps the last maxTail bytes.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

const maxTail = 500

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p[max(0, len(p)-maxTail):]...)
	t.kept = t.kept[max(0, len(t.kept)-maxTail):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(strings.ToValidUTF8(string(t.kept), ""))
}
