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

func TestMain(m *testing.M) { playtest.Main(m, play) }

func play(role string, args []string) int {
	switch role {
	case "connect": // to host and port, as nc
		conn, err := net.Dial("tcp", net.JoinHostPort(args[0], args[1]))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		go func() { _, _ = io.Copy(conn, os.Stdin) }()
		_, _ = io.Copy(os.Stdout, conn)
	case "fail": // after the first line
		fmt.Println("+OK")
		fmt.Fprint(os.Stderr, strings.Repeat("x", 10_000)+" no route\n")
		return 255
	case "tell": // who we are, and do not end
		fmt.Println(os.Getpid(), strings.Join(args, " "))
		time.Sleep(time.Hour)
	case "hold": // a connection, and say that it is there
		conn, err := net.Dial("tcp", args[0])
		if err != nil {
			return 1
		}
		fmt.Println("here")
		_, _ = io.Copy(io.Discard, conn)
	case "family": // with a child that does not end either
		argv := playtest.Argv("hold", args[0])
		child, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}})
		if err != nil {
			return 1
		}
		_, _ = child.Wait()
	}
	return 0
}

// player is a tunnel that plays a role.
func player(role string, args ...string) channel.Via {
	return channel.Via{Tunnel: playtest.Argv(role, args...)}
}

// echo is a server that repeats what it is told.
func echo(t *testing.T) string { return listen(t, func(conn net.Conn) { _, _ = io.Copy(conn, conn) }) }

// expectEcho talks to such a server.
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
	// A server's address that this machine has no way to is no source_ip.
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
		what   string
		proxy  channeltest.SOCKS
		user   string
		secret func(context.Context) (string, error)
		says   string // empty if it connects
		person bool
	}{
		{what: "open"},
		{what: "a login that it does not want", user: "me", secret: secret("right", nil)},
		{what: "with a login", proxy: channeltest.SOCKS{User: "me", Password: "right"}, user: "me", secret: secret("right", nil)},
		{"a wrong password", channeltest.SOCKS{User: "me", Password: "right"}, "me", secret("wrong", nil), "authentication failed", true},
		{"no login", channeltest.SOCKS{User: "me", Password: "right"}, "", nil, "no acceptable authentication methods", true},
		{"no password", channeltest.SOCKS{}, "me", secret("", errors.New("the vault is locked")), "the vault is locked", true},
		{"it may not", channeltest.SOCKS{Code: 2}, "", nil, "not allowed by ruleset", true},
		{"it cannot", channeltest.SOCKS{Code: 4}, "", nil, "host unreachable", false},
		{"refused", channeltest.SOCKS{Code: 5}, "", nil, "connection refused", false},
	} {
		t.Run(test.what, func(t *testing.T) {
			behind := echo(t)
			test.proxy.Dial = func(network, _ string) (net.Conn, error) { return net.Dial(network, behind) }
			via := channel.Via{Proxy: &channel.Proxy{Addr: listen(t, test.proxy.Serve), User: test.user, Secret: test.secret}}
			// A name that nobody but the proxy could look up.
			conn, err := via.DialContext(t.Context(), "tcp", "pop.invalid:995")
			if test.says == "" {
				expectEcho(t, conn, err)
				if got := test.proxy.Asked(); len(got) != 1 || got[0] != "pop.invalid:995" {
					t.Errorf("asked for %q", got)
				}
				return
			}
			a, ok := channel.Advise(err)
			if _, is := errors.AsType[*channel.ProxyError](err); !is || !ok || a.Hint == "" || a.Person != test.person || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v, %+v", err, a)
			}
			if err != nil && strings.Contains(err.Error(), "wrong") {
				t.Errorf("the password is in %v", err)
			}
		})
	}
}

func TestProxyIsNone(t *testing.T) {
	closed := listen(t, func(net.Conn) {})
	for what, test := range map[string]struct {
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
			t.Errorf("%s: %v, %+v", what, err, a)
		}
	}
}

// Neither a proxy that says nothing nor a server behind it that does holds us
// for longer than we said.
func TestSilence(t *testing.T) {
	hang := listen(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	for what, via := range map[string]channel.Via{"a proxy": {Proxy: &channel.Proxy{Addr: hang}}, "a server": {}} {
		ctx, cancel := channel.Within(t.Context(), 50*time.Millisecond)
		defer cancel()
		conn, err := via.DialContext(ctx, "tcp", hang)
		if err == nil {
			_, err = channel.Secure(ctx, conn, channel.Named(nil, hang))
		}
		if _, ok := errors.AsType[channel.Silence](err); !ok || !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "no answer for 50ms") {
			t.Errorf("%s: %v", what, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("asked to stop")
	cancel(why)
	if _, err := (channel.Via{Proxy: &channel.Proxy{Addr: hang}}).DialContext(ctx, "tcp", hang); !errors.Is(err, why) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestTunnel(t *testing.T) {
	addr := echo(t)
	host, port, _ := net.SplitHostPort(addr)
	conn, err := player("connect", "{host}", "{port}").DialContext(t.Context(), "tcp", addr)
	expectEcho(t, conn, err)

	conn, err = player("tell", "{host}:{port}", "$HOME").DialContext(t.Context(), "tcp", addr)
	check(t, err)
	line, err := bufio.NewReader(conn).ReadString('\n')
	check(t, err)
	var pid int
	var said, home string
	if _, err := fmt.Sscan(line, &pid, &said, &home); err != nil || said != host+":"+port || home != "$HOME" {
		t.Errorf("the program got %q", line)
	}

	// It says nothing more, and deadlines hold.
	check(t, conn.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	check(t, conn.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
	if _, err := conn.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
	// Another goroutine's end wakes a reader.
	check(t, conn.SetReadDeadline(time.Time{}))
	read := make(chan error)
	go func() { _, err := conn.Read(make([]byte, 1)); read <- err }()
	check(t, conn.Close())
	if err := <-read; err == nil {
		t.Error("read after Close")
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there, or a zombie: %v", pid, err)
	}
	check(t, conn.Close())
	if conn.RemoteAddr().Network() != "tunnel" {
		t.Errorf("it leads to %v", conn.RemoteAddr())
	}
}

// Close ends the whole family.
func TestTunnelFamily(t *testing.T) {
	ended := make(chan struct{})
	held := listen(t, func(conn net.Conn) {
		_, _ = io.Copy(io.Discard, conn)
		close(ended)
	})
	conn, err := player("family", held).DialContext(t.Context(), "tcp", "pop.invalid:995")
	check(t, err)
	_, err = bufio.NewReader(conn).ReadString('\n')
	check(t, err)
	check(t, conn.Close())
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the child is still there")
	}
}

func TestTunnelFails(t *testing.T) {
	conn, err := player("fail").DialContext(t.Context(), "tcp", "pop.invalid:995")
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
		t.Error("it still takes commands")
	}

	_, err = channel.Via{Tunnel: []string{"/nonexistent/nc"}}.DialContext(t.Context(), "tcp", "pop.invalid:995")
	if a, ok := channel.Advise(err); !ok || !a.Person {
		t.Errorf("%v, %+v", err, a)
	}

	// A server that hangs up is no failure of the program.
	over, err := player("connect", "{host}", "{port}").DialContext(t.Context(), "tcp", listen(t, func(net.Conn) {}))
	check(t, err)
	defer over.Close()
	if _, err := over.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
}
