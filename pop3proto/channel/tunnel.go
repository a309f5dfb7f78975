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

// TunnelError means that the program that is the connection could not be
// started, or that it failed.
type TunnelError struct {
	Program string
	Err     error
	// Unstarted means that there was nothing to run.
	Unstarted bool
}

// Error returns "tunnel program: cause".
func (e *TunnelError) Error() string { return "tunnel " + e.Program + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *TunnelError) Unwrap() error { return e.Err }

// tunnelGrace is how long a program may take to end once it is told to, and
// to say why it ended.
const tunnelGrace = time.Second

// tunnel is a program whose standard input and output are a connection. Pipes
// are what programs expect there: on a socket, some shells take themselves for
// a remote one.
type tunnel struct {
	program string
	in, out *os.File // what we write to and read from
	cmd     *exec.Cmd
	said    tail
	ended   chan struct{} // the program was waited for
	close   sync.Once
}

// openTunnel starts a program to reach addr. It has a process group of its own,
// so that a ^C which ends a poll in good order does not end its connection. The
// environment is ours: ssh wants to find its agent there.
func openTunnel(argv, env []string, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	fill := strings.NewReplacer("{host}", host, "{port}", port)
	var args []string
	for _, arg := range argv[1:] {
		args = append(args, fill.Replace(arg))
	}
	t := &tunnel{program: argv[0], cmd: exec.Command(argv[0], args...), ended: make(chan struct{})}
	theirIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirIn.Close()
	out, theirOut, err := os.Pipe()
	if err != nil {
		_ = in.Close()
		return nil, err
	}
	defer theirOut.Close()
	t.in, t.out = in, out
	t.cmd.Stdin, t.cmd.Stdout, t.cmd.Stderr = theirIn, theirOut, &t.said
	t.cmd.Env = env
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// What it leaves in the background may keep its standard error open.
	t.cmd.WaitDelay = tunnelGrace / 2
	if err := t.cmd.Start(); err != nil {
		_, _ = in.Close(), out.Close()
		return nil, &TunnelError{Program: t.program, Err: err, Unstarted: true}
	}
	go func() {
		defer close(t.ended)
		_ = t.cmd.Wait() // ProcessState has it all
		// The rest of its group has lost its connection.
		_ = syscall.Kill(-t.cmd.Process.Pid, syscall.SIGKILL)
	}()
	return t, nil
}

// Read returns a *TunnelError if the program failed.
func (t *tunnel) Read(p []byte) (int, error) {
	n, err := t.out.Read(p)
	return n, t.failed(err, io.EOF)
}

// Write returns a *TunnelError if the program failed.
func (t *tunnel) Write(p []byte) (int, error) {
	n, err := t.in.Write(p)
	return n, t.failed(err, syscall.EPIPE)
}

// failed tells whether the other end hung up, which err then is, or the
// program failed.
func (t *tunnel) failed(err, hungUp error) error {
	if !errors.Is(err, hungUp) || !t.ends() || t.cmd.ProcessState.Success() {
		return err
	}
	text := t.cmd.ProcessState.String()
	if said := t.said.String(); said != "" {
		text += fmt.Sprintf(": %q", said)
	}
	return &TunnelError{Program: t.program, Err: errors.New(text)}
}

// ends waits for the end of the program, and reports whether it came in time.
func (t *tunnel) ends() bool {
	select {
	case <-t.ended:
		return true
	case <-time.After(tunnelGrace):
		return false
	}
}

// Close hangs up and ends the program with its process group. A program that
// not even SIGKILL ends is left behind after two seconds.
func (t *tunnel) Close() error {
	t.close.Do(func() {
		_, _ = t.in.Close(), t.out.Close()
		select {
		case <-t.ended:
			return
		default:
		}
		_ = syscall.Kill(-t.cmd.Process.Pid, syscall.SIGTERM)
		if !t.ends() {
			_ = syscall.Kill(-t.cmd.Process.Pid, syscall.SIGKILL)
			t.ends()
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

// tunnelAddr is the address of both ends: the program's name.
type tunnelAddr string

func (tunnelAddr) Network() string  { return "tunnel" }
func (a tunnelAddr) String() string { return string(a) }

// tail keeps the end of what is written to it.
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
