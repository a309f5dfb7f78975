package remote_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// listen starts a server that runs serve for each connection, until the test ends.
func listen(t *testing.T, network, addr string, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return l.Addr().String()
}

// holdOpen returns a server function that keeps the connection open and sends nothing.
func holdOpen(t *testing.T) func(net.Conn) {
	return func(c net.Conn) { t.Cleanup(func() { c.Close() }) }
}

// certificate returns the certificate of a server, for example.com and 127.0.0.1, and the
// roots that trust it.
func certificate(t *testing.T) (server tls.Certificate, roots *x509.CertPool) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	roots = x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s.TLS.Certificates[0], roots
}

func connect(t *testing.T, s *remote.Server) net.Conn {
	t.Helper()
	conn, err := s.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestSilence(t *testing.T) {
	addr := listen(t, "tcp", "127.0.0.1:0", holdOpen(t))
	s := &remote.Server{Addr: addr, Security: remote.PlainText, Timeout: 50 * time.Millisecond, Dial: unhurried}
	for _, test := range []struct {
		name  string
		block func(net.Conn) error
	}{
		{"read", func(c net.Conn) error { _, err := c.Read(make([]byte, 1)); return err }},
		{"write", func(c net.Conn) error {
			_, err := io.Copy(c, io.LimitReader(zeros{}, 1<<30)) // more than the system buffers
			return err
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn := connect(t, s)
			err := test.block(conn)
			if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "no answer for 50ms") {
				t.Errorf("a peer that stalls: %v", err)
			}
			// Broken is a state: nothing waits on this connection again.
			remote.SetTimeout(conn, time.Hour)
			if err := test.block(conn); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("again: %v", err)
			}
			if e := s.Fail("send", err); e.Fault != deliver.FaultTemporary {
				t.Errorf("fault %v", e.Fault)
			}
		})
	}
}

// unhurried connects however busy the machine is.
func unhurried(_ context.Context, network, addr string) (net.Conn, error) {
	return net.Dial(network, addr)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestObey(t *testing.T) {
	cert, roots := certificate(t)
	plain := listen(t, "tcp", "127.0.0.1:0", holdOpen(t))
	encrypted := listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		holdOpen(t)(c)
		_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake()
	})
	for name, s := range map[string]*remote.Server{
		"plain": {Addr: plain, Security: remote.PlainText},
		"tls":   {Addr: encrypted, TLS: &tls.Config{RootCAs: roots}},
	} {
		t.Run(name, func(t *testing.T) {
			conn := connect(t, s)
			over, cancel := context.WithCancel(t.Context())
			remote.BindContext(over, conn)() // stopped before the end
			cancel()
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Errorf("after a context that was not watched any more: %v", err)
			}

			enough := errors.New("enough")
			ctx, stop := context.WithCancelCause(t.Context())
			defer remote.BindContext(ctx, conn)()
			go stop(enough)
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, enough) {
				t.Errorf("Read = %v, want %v", err, enough)
			}
			_ = conn.SetDeadline(time.Time{}) // must not revive it
			if _, err := conn.Write([]byte("x")); !errors.Is(err, enough) {
				t.Errorf("Write = %v, want %v", err, enough)
			}
		})
	}
}

func TestUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	s := &remote.Server{Addr: path, Security: remote.ImplicitTLS}
	_, err := s.Connect(t.Context())
	if e := s.Fail("connect", err); e.Fault != deliver.FaultOperator || e.Hint == "" {
		t.Errorf("no socket: fault %v, hint %q: %v", e.Fault, e.Hint, err)
	}
	listen(t, "unix", path, func(c net.Conn) { _, _ = c.Write([]byte("hello")); c.Close() })
	if got, err := io.ReadAll(connect(t, s)); string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestContext(t *testing.T) {
	addr := listen(t, "tcp", "127.0.0.1:0", holdOpen(t)) // TLS never begins
	ctx, cancel := context.WithCancel(t.Context())
	s := &remote.Server{Addr: addr, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		cancel()
		return c, err
	}}
	if _, err := s.Connect(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Connect = %v, want %v", err, context.Canceled)
	}
}

// If a server hangs up when a TLS session is resumed, the connection is tried again without
// the session.
func TestNotResumed(t *testing.T) {
	cert, roots := certificate(t)
	calls, offers := 0, 0
	c := &tls.Config{Certificates: []tls.Certificate{cert}}
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		calls++
		const presharedKey = 41 // RFC 8446 §4.2
		if slices.Contains(hello.Extensions, presharedKey) {
			offers++
			return nil, errors.New("session id context uninitialized")
		}
		return nil, nil
	}
	addr := listen(t, "tcp", "127.0.0.1:0", func(conn net.Conn) {
		defer conn.Close()
		_, _ = tls.Server(conn, c).Write([]byte("220 hello\r\n"))
	})
	s := &remote.Server{Addr: addr, TLS: channel.Trust{}.Config(addr, channel.NewSessions(t.TempDir()))}
	s.TLS.RootCAs = roots
	for range 3 {
		// The ticket comes with what the server says.
		if _, err := connect(t, s).Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if calls != 4 || offers != 1 {
		t.Errorf("%d connections, a session was offered to %d", calls, offers)
	}
}

func TestForget(t *testing.T) {
	cert, roots := certificate(t)
	c := &tls.Config{Certificates: []tls.Certificate{cert}}
	addr := listen(t, "tcp", "127.0.0.1:0", func(conn net.Conn) {
		defer conn.Close()
		_, _ = tls.Server(conn, c).Write([]byte("220 hello\r\n"))
	})
	s := &remote.Server{Addr: addr, TLS: channel.Trust{}.Config(addr, channel.NewSessions(t.TempDir()))}
	s.TLS.RootCAs = roots
	for i, resumed := range []bool{false, true, true, false, true} {
		if i == 3 {
			s.ForgetTLSSession()
		}
		conn := connect(t, s)
		if _, err := conn.Read(make([]byte, 1)); err != nil { // the ticket comes with what the server says
			t.Fatal(err)
		}
		if got := conn.(*tls.Conn).ConnectionState().DidResume; got != resumed {
			t.Errorf("connection %d resumed: %v", i, got)
		}
	}
	(&remote.Server{Addr: addr}).ForgetTLSSession() // without TLS there is nothing to forget
}

func TestFail(t *testing.T) {
	cert, roots := certificate(t)
	encrypted := listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake()
		c.Close()
	})
	clear := listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) { _, _ = c.Write([]byte("220 hello\r\n")); c.Close() })
	silent := listen(t, "tcp", "127.0.0.1:0", holdOpen(t))
	unreachable := func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}
	}
	dns := func(e *net.DNSError) func(context.Context, string, string) (net.Conn, error) {
		return func(context.Context, string, string) (net.Conn, error) { return nil, e }
	}
	for _, test := range []struct {
		name  string
		s     remote.Server
		fault deliver.Fault
		hint  string
	}{
		{"wrong name", remote.Server{Addr: encrypted, TLS: &tls.Config{RootCAs: roots, ServerName: "mail.invalid"}}, deliver.FaultOperator, "name that the certificate is for"},
		{"unknown authority", remote.Server{Addr: encrypted}, deliver.FaultOperator, "tls_ca"},
		{"expired", remote.Server{Addr: encrypted, TLS: &tls.Config{RootCAs: roots, Time: func() time.Time { return time.Unix(1<<33, 0) }}}, deliver.FaultOperator, "out of date"},
		{"no TLS", remote.Server{Addr: clear}, deliver.FaultOperator, "does not speak TLS"},
		{"no common version", remote.Server{Addr: encrypted, TLS: &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS10, MinVersion: tls.VersionTLS10}}, deliver.FaultOperator, "tls_min"},
		{"refused", remote.Server{Addr: "127.0.0.1:1"}, deliver.FaultTemporary, "running"},
		{"no such name", remote.Server{Addr: "mail.invalid:25", Dial: dns(&net.DNSError{IsNotFound: true})}, deliver.FaultOperator, "spelling"},
		{"no name server", remote.Server{Addr: "mail.invalid:25", Dial: dns(&net.DNSError{IsTimeout: true})}, deliver.FaultTemporary, "network"},
		{"no answer", remote.Server{Addr: silent, Timeout: 50 * time.Millisecond}, deliver.FaultTemporary, "check host, port and tls"},
		{"no way", remote.Server{Addr: "mail.invalid:25", Dial: unreachable}, deliver.FaultTemporary, "check host, port and tls"},
		{"no port", remote.Server{Addr: "localhost"}, deliver.FaultOperator, "host:port"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := test.s.Connect(t.Context())
			if err == nil {
				t.Fatal("connected")
			}
			e := test.s.Fail("connect", err)
			if e.Fault != test.fault || !strings.Contains(e.Hint, test.hint) || !errors.Is(e, err) {
				t.Errorf("fault %v, hint %q: %v", e.Fault, e.Hint, e)
			}
		})
	}
}

func TestMechanism(t *testing.T) {
	s := &remote.Server{User: "me", Secret: func(context.Context) (string, error) { return "secret", nil }}
	for _, test := range []struct {
		offered string
		name    string
		said    []string
	}{
		{"LOGIN PLAIN", "PLAIN", []string{"\x00me\x00secret"}},
		{"DIGEST-MD5 login", "LOGIN", []string{"", "me", "secret"}},
	} {
		client, name, err := s.Mechanism(t.Context(), nil, strings.Fields(test.offered))
		if err != nil || name != test.name {
			t.Fatalf("%s: %q, %v", test.offered, name, err)
		}
		_, said, err := client.Start()
		for i, want := range test.said {
			if string(said) != want || err != nil {
				t.Errorf("%s: answer %d is %q, %v, want %q", name, i, said, err, want)
			}
			said, err = client.Next([]byte("what?"))
		}
		if err == nil {
			t.Errorf("%s: an answer too many: %q", name, said)
		}
	}

	noSecret := &remote.Server{User: "me", Secret: func(context.Context) (string, error) { return "", os.ErrNotExist }}
	for _, test := range []struct {
		s       *remote.Server
		offered []string
		want    any
	}{
		{s, nil, new(*mech.OfferError)},
		{s, []string{"GSSAPI"}, new(*mech.OfferError)},
		{noSecret, []string{"PLAIN"}, new(*mech.SecretError)},
		{&remote.Server{User: "me"}, []string{"PLAIN"}, new(*mech.SecretError)},
	} {
		_, _, err := test.s.Mechanism(t.Context(), nil, test.offered)
		if !errors.As(err, test.want) {
			t.Errorf("offered %q: %v, want a %T", test.offered, err, test.want)
		}
		if e := test.s.Fail("log in", err); e.Fault != deliver.FaultOperator || e.Hint == "" {
			t.Errorf("fault %v, hint %q: %v", e.Fault, e.Hint, e)
		}
	}
}

// Without TLS, a mechanism that does not reveal the password is preferred. On TLS and on a
// UNIX socket nobody can read it.
func TestMechanismByProtection(t *testing.T) {
	secret := func(context.Context) (string, error) { return "secret", nil }
	for _, test := range []struct {
		s    remote.Server
		want string
	}{
		{remote.Server{Addr: "example.org:25", Security: remote.PlainText}, "CRAM-MD5"},
		{remote.Server{Addr: "example.org:25", Security: remote.StartTLS}, "PLAIN"},
		{remote.Server{Addr: "example.org:465"}, "PLAIN"},
		{remote.Server{Addr: "/run/lmtp", Security: remote.PlainText}, "PLAIN"},
	} {
		test.s.User, test.s.Secret = "me", secret
		if _, name, err := test.s.Mechanism(t.Context(), nil, []string{"PLAIN", "CRAM-MD5"}); name != test.want || err != nil {
			t.Errorf("%s, %v: %q, %v, want %s", test.s.Addr, test.s.Security, name, err, test.want)
		}
	}
}

// If the mechanism rejects a challenge of the server, or the server does not prove itself, that
// is the operator's fault.
func TestLoginError(t *testing.T) {
	s := &remote.Server{Addr: "example.org:465", User: "me", Secret: func(context.Context) (string, error) { return "secret", nil }}
	hints := map[string]string{"nonsense": "allow another way to log in", "unproven": "do not trust"}
	for name, end := range map[string]func(*remote.Login) error{
		"nonsense": func(l *remote.Login) error { _, err := l.Next([]byte("nonsense")); return err },
		"unproven": func(*remote.Login) error { return nil },
	} {
		login, _, err := s.Mechanism(t.Context(), nil, []string{"SCRAM-SHA-256"})
		if err != nil {
			t.Fatal(err)
		}
		err = login.Do(t.Context(), func() error {
			if _, _, err := login.Start(); err != nil {
				t.Fatal(err)
			}
			return end(login)
		})
		if e := s.Fail("log in", err); e.Fault != deliver.FaultOperator || !strings.Contains(e.Hint, hints[name]) {
			t.Errorf("%s: fault %v, hint %q: %v", name, e.Fault, e.Hint, e)
		}
	}
}

// ReadLine reads one line, and nothing beyond it.
func TestReadLine(t *testing.T) {
	r := strings.NewReader("220 one\r\ntwo\n\nlonger than it may be\n")
	for _, want := range []string{"220 one", "two", ""} {
		if line, err := remote.ReadLine(r, 16); line != want || err != nil {
			t.Errorf("%q, %v, want %q", line, err, want)
		}
	}
	if line, err := remote.ReadLine(r, 16); err == nil || !strings.Contains(err.Error(), `endless line: "longer than`) || r.Len() != len("ay be\n") {
		t.Errorf("%q, %v, %d octets left", line, err, r.Len())
	}
	if _, err := remote.ReadLine(strings.NewReader("cut"), 16); err != io.EOF {
		t.Errorf("error %v, want EOF", err)
	}
}
