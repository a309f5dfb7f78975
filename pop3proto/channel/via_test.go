package channel_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver/program/playtest"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/channel/channeltest"
)

func TestMain(m *testing.M) { playtest.Main(m, playRole) }

// playRole is the program of a tunnel.
func playRole(role string, args []string) int {
	switch role {
	case "connect": // connects to host and port, like nc
		conn, err := net.Dial("tcp", net.JoinHostPort(args[0], args[1]))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		go func() { _, _ = io.Copy(conn, os.Stdin) }()
		_, _ = io.Copy(os.Stdout, conn)
	case "fail": // fails after the first line
		fmt.Println("+OK")
		fmt.Fprint(os.Stderr, strings.Repeat("x", 10_000)+" no route\n")
		return 255
	case "print": // prints its process id and arguments, and does not exit
		fmt.Println(os.Getpid(), strings.Join(args, " "))
		time.Sleep(time.Hour)
	case "hold": // connects, prints a line, and does not exit
		conn, err := net.Dial("tcp", args[0])
		if err != nil {
			return 1
		}
		fmt.Println("here")
		_, _ = io.Copy(io.Discard, conn)
	case "parent": // starts a child that does not exit
		argv := playtest.Argv("hold", args[0])
		child, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}})
		if err != nil {
			return 1
		}
		_, _ = child.Wait()
	}
	return 0
}

// roleTunnel returns a tunnel whose program plays a role.
func roleTunnel(role string, args ...string) channel.Via {
	return channel.Via{Tunnel: playtest.Argv(role, args...)}
}

// startEcho starts a server that sends back what it receives.
func startEcho(t *testing.T) string {
	return listen(t, func(conn net.Conn) { _, _ = io.Copy(conn, conn) })
}

// expectEcho checks that conn leads to such a server.
func expectEcho(t *testing.T, conn net.Conn, err error) {
	t.Helper()
	check(t, err)
	defer conn.Close()
	check(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, "hello\n")
	check(t, err)
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "hello\n" || err != nil {
		t.Errorf("%q, %v", line, err)
	}
}

func TestSourceIP(t *testing.T) {
	from := make(chan string, 1)
	addr := listen(t, func(conn net.Conn) {
		host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
		from <- host
		_, _ = io.Copy(conn, conn)
	})
	via := channel.Via{Source: netip.MustParseAddr("127.0.0.9")}
	conn, err := via.DialContext(t.Context(), "tcp", addr)
	expectEcho(t, conn, err)
	if got := <-from; got != "127.0.0.9" {
		t.Errorf("connected from %s", got)
	}
	for source, hint := range map[string]string{"192.0.2.7": "source_ip must be an address of this machine", "::1": "no address of the family of source_ip"} {
		_, err := channel.Via{Source: netip.MustParseAddr(source)}.DialContext(t.Context(), "tcp", addr)
		if a, ok := channel.Advise(err); !ok || !strings.Contains(a.Hint, hint) {
			t.Errorf("from %s: %v, %+v", source, err, a)
		}
	}
	// The same error of connect is not about source_ip.
	server := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)}
	if a, ok := channel.Advise(server); ok {
		t.Errorf("%v: %+v", server, a)
	}
}

func TestProxy(t *testing.T) {
	secret := func(password string, err error) func(context.Context) (string, error) {
		return func(context.Context) (string, error) { return password, err }
	}
	for _, test := range []*struct {
		name   string
		proxy  channeltest.SOCKS
		user   string
		secret func(context.Context) (string, error)
		want   string // in the error; empty if it connects
		person bool
	}{
		{name: "no login"},
		{name: "a login that it does not require", user: "me", secret: secret("right", nil)},
		{name: "a login", proxy: channeltest.SOCKS{User: "me", Password: "right"}, user: "me", secret: secret("right", nil)},
		{"a wrong password", channeltest.SOCKS{User: "me", Password: "right"}, "me", secret("wrong", nil), "authentication failed", true},
		{"a missing login", channeltest.SOCKS{User: "me", Password: "right"}, "", nil, "no acceptable authentication methods", true},
		{"no password", channeltest.SOCKS{}, "me", secret("", errors.New("the vault is locked")), "the vault is locked", true},
		{"not allowed", channeltest.SOCKS{Code: 2}, "", nil, "not allowed by ruleset", true},
		{"no route", channeltest.SOCKS{Code: 4}, "", nil, "host unreachable", false},
		{"refused", channeltest.SOCKS{Code: 5}, "", nil, "connection refused", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := startEcho(t)
			test.proxy.Dial = func(network, _ string) (net.Conn, error) { return net.Dial(network, server) }
			via := channel.Via{Proxy: &channel.Proxy{Addr: listen(t, test.proxy.Serve), User: test.user, Secret: test.secret}}
			// The proxy resolves the name.
			conn, err := via.DialContext(t.Context(), "tcp", "pop.invalid:995")
			if test.want == "" {
				expectEcho(t, conn, err)
				if got := test.proxy.Requests(); len(got) != 1 || got[0] != "pop.invalid:995" {
					t.Errorf("requests %q", got)
				}
				return
			}
			a, ok := channel.Advise(err)
			if _, is := errors.AsType[*channel.ProxyError](err); !is || !ok || a.Hint == "" || a.Person != test.person || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, %+v", err, a)
			}
			if err != nil && strings.Contains(err.Error(), "wrong") {
				t.Errorf("the password is in %v", err)
			}
		})
	}
}

func TestNotAProxy(t *testing.T) {
	closed := listen(t, func(net.Conn) {})
	for name, test := range map[string]struct {
		addr   string
		hint   string
		person bool
	}{
		"a server of another kind": {listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "220 ESMTP\r\n"); _, _ = io.Copy(io.Discard, c) }), "not a SOCKS5 proxy", true},
		"hangs up":                 {closed, "", false},
		"not there":                {"127.0.0.1:1", "that the proxy is running", false},
	} {
		_, err := channel.Via{Proxy: &channel.Proxy{Addr: test.addr}}.DialContext(t.Context(), "tcp", "pop.invalid:995")
		a, ok := channel.Advise(err)
		if !ok || a.Person != test.person || !strings.Contains(a.Hint, test.hint) || !strings.HasPrefix(err.Error(), "SOCKS5 proxy "+test.addr) {
			t.Errorf("%s: %v, %+v", name, err, a)
		}
	}
}

// TestSilence checks that silent proxies and servers are left when the context ends.
func TestSilence(t *testing.T) {
	silent := listen(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	for name, via := range map[string]channel.Via{"a proxy": {Proxy: &channel.Proxy{Addr: silent}}, "a server": {}} {
		ctx, cancel := channel.Within(t.Context(), 50*time.Millisecond)
		defer cancel()
		conn, err := via.DialContext(ctx, "tcp", silent)
		if err == nil {
			_, err = channel.Secure(ctx, conn, channel.Named(nil, silent))
		}
		if _, ok := errors.AsType[channel.Silence](err); !ok || !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "no answer for 50ms") {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("cancelled")
	cancel(cause)
	if _, err := (channel.Via{Proxy: &channel.Proxy{Addr: silent}}).DialContext(ctx, "tcp", silent); !errors.Is(err, cause) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestTunnel(t *testing.T) {
	addr := startEcho(t)
	host, port, _ := net.SplitHostPort(addr)
	conn, err := roleTunnel("connect", "{host}", "{port}").DialContext(t.Context(), "tcp", addr)
	expectEcho(t, conn, err)

	conn, err = roleTunnel("print", "{host}:{port}", "$HOME").DialContext(t.Context(), "tcp", addr)
	check(t, err)
	line, err := bufio.NewReader(conn).ReadString('\n')
	check(t, err)
	var pid int
	var addrArg, homeArg string
	if _, err := fmt.Sscan(line, &pid, &addrArg, &homeArg); err != nil || addrArg != host+":"+port || homeArg != "$HOME" {
		t.Errorf("the program got %q", line)
	}

	// The program prints nothing more and reads nothing. Deadlines must be obeyed.
	check(t, conn.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	check(t, conn.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
	if _, err := conn.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
	// Close in another goroutine interrupts Read.
	check(t, conn.SetReadDeadline(time.Time{}))
	read := make(chan error)
	go func() { _, err := conn.Read(make([]byte, 1)); read <- err }()
	check(t, conn.Close())
	if err := <-read; err == nil {
		t.Error("read after Close")
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d still exists, maybe as a zombie: %v", pid, err)
	}
	check(t, conn.Close())
	if conn.RemoteAddr().Network() != "tunnel" {
		t.Errorf("the remote address is %v", conn.RemoteAddr())
	}
}

// TestTunnelChildren checks that Close also ends the program's child processes.
func TestTunnelChildren(t *testing.T) {
	ended := make(chan struct{})
	held := listen(t, func(conn net.Conn) {
		_, _ = io.Copy(io.Discard, conn)
		close(ended)
	})
	conn, err := roleTunnel("parent", held).DialContext(t.Context(), "tcp", "pop.invalid:995")
	check(t, err)
	_, err = bufio.NewReader(conn).ReadString('\n')
	check(t, err)
	check(t, conn.Close())
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the child is still running")
	}
}

func TestTunnelFails(t *testing.T) {
	conn, err := roleTunnel("fail").DialContext(t.Context(), "tcp", "pop.invalid:995")
	check(t, err)
	defer conn.Close()
	text, err := io.ReadAll(conn)
	e, ok := errors.AsType[*channel.TunnelError](err)
	if string(text) != "+OK\n" || !ok || !strings.Contains(e.Error(), "exit status 255") || !strings.Contains(e.Error(), " no route") || len(e.Error()) > 1000 {
		t.Errorf("%q, %v", text, err)
	}
	if a, ok := channel.Advise(err); !ok || a.Person {
		t.Errorf("%+v", a)
	}
	if _, err := io.WriteString(conn, "QUIT\r\n"); err == nil {
		t.Error("a write succeeds after the program has failed")
	}

	_, err = channel.Via{Tunnel: []string{"/nonexistent/nc"}}.DialContext(t.Context(), "tcp", "pop.invalid:995")
	if a, ok := channel.Advise(err); !ok || !a.Person {
		t.Errorf("%v, %+v", err, a)
	}

	// If the server hangs up, the program exits without an error.
	ended, err := roleTunnel("connect", "{host}", "{port}").DialContext(t.Context(), "tcp", listen(t, func(net.Conn) {}))
	check(t, err)
	defer ended.Close()
	if _, err := ended.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read after the end: %v", err)
	}
}
