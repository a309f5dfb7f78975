package pop3test_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

func roots(t *testing.T, pem []byte) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate in PEM")
	}
	return pool
}

func TestSTLS(t *testing.T) {
	s, m := start(t, pop3test.Options{})
	p := dial(t, s)
	p.want("+OK POP3 server ready")
	p.send("USER mallory", "STLS")
	p.want("+OK send PASS", "+OK begin TLS")
	p.secure(&tls.Config{RootCAs: roots(t, s.CA()), ServerName: "localhost"})
	p.send("PASS secret", "STLS", "CAPA", "USER alice", "PASS secret", "RETR 1", "QUIT")
	got, err := p.rest()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(got, "-ERR USER comes first\r\n-ERR TLS is active already\r\n") {
		t.Errorf("after STLS: %q", got)
	}
	if strings.Contains(got, "\r\nSTLS\r\n") {
		t.Error("STLS is offered over TLS")
	}
	if !strings.HasSuffix(got, "first\r\n.\r\n+OK bye\r\n") || m.Retrieved("uid-1") != 1 {
		t.Errorf("over TLS: %q", got)
	}
}

func TestSTLSRefusesPipelinedCommands(t *testing.T) {
	s, _ := start(t, pop3test.Options{})
	p := dial(t, s)
	p.want("+OK POP3 server ready")
	p.send("STLS", "USER alice")
	p.want("-ERR commands were pipelined behind STLS")
	p.wantEOF()
}

func TestImplicitTLS(t *testing.T) {
	cert, ca, err := pop3test.SelfSigned("pop.example.org")
	if err != nil {
		t.Fatal(err)
	}
	s := pop3test.New(pop3test.Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	if err := s.StartTLS(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.CA() != nil {
		t.Error("CA returns a certificate although Options.TLS is set")
	}
	p := dial(t, s)
	conn := p.secure(&tls.Config{RootCAs: roots(t, ca), ServerName: "pop.example.org"})
	p.want("+OK POP3 server ready")
	p.send("QUIT")
	p.want("+OK bye")
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("TLS ends with %v, want EOF", err)
	}
}

func TestBadCertificates(t *testing.T) {
	for name, opts := range map[string]pop3test.CertOptions{
		"expired":     {NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)},
		"not yet":     {NotBefore: time.Now().Add(time.Hour)},
		"wrong name":  {Hosts: []string{"other.example"}},
		"wrong roots": {},
	} {
		t.Run(name, func(t *testing.T) {
			cert, ca, err := pop3test.Certificate(opts)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(cert.Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			verify := x509.VerifyOptions{Roots: roots(t, ca), DNSName: "localhost"}
			if name == "wrong roots" {
				if _, err := leaf.Verify(verify); err != nil {
					t.Fatalf("against its own root: %v", err)
				}
				verify.Roots = x509.NewCertPool()
			}
			if _, err := leaf.Verify(verify); err == nil {
				t.Error("the certificate verifies")
			}
		})
	}
}

func TestClientErrors(t *testing.T) {
	s, _ := start(t, pop3test.Options{})
	p := dial(t, s)
	p.want("+OK POP3 server ready")
	if _, err := io.WriteString(p.conn, "CAPA\n"+strings.Repeat("x", 100_000)); err != nil {
		t.Fatal(err)
	}
	p.want("-ERR commands end in CRLF", "-ERR line too long")
	p.wantEOF()
}

func TestWithout(t *testing.T) {
	s, m := start(t, pop3test.Options{Behaviour: pop3test.Behaviour{
		Greeting:     "Hello",
		Capabilities: []string{"X-ONLY"},
		Without:      []string{"TOP"},
	}})
	m.Behave(pop3test.Behaviour{Without: []string{"UIDL", "PIPELINING", "AUTH", "CAPA"}})
	p := dial(t, s)
	p.want("+OK Hello")
	p.send("CAPA", "APOP alice 0", "USER alice", "PASS secret", "CAPA", "UIDL", "TOP 3 0")
	p.want("+OK capability list follows", "X-ONLY", ".", "-ERR unknown command", "+OK send PASS")
	p.want("+OK maildrop has 3 messages", "-ERR unknown command", "-ERR unknown command")
	p.want("+OK top of message follows", ".")
	p.conn.Close()
	if err := m.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}

	m.Behave(pop3test.Behaviour{Without: []string{"UIDL", "PIPELINING", "AUTH", "LOGIN-DELAY"}})
	p = dial(t, s)
	p.send("USER alice", "PASS secret", "CAPA")
	p.want("+OK Hello", "+OK send PASS", "+OK maildrop has 3 messages", "+OK capability list follows")
	p.want("TOP", "USER", "RESP-CODES", "AUTH-RESP-CODE", "UTF8", "EXPIRE NEVER", "IMPLEMENTATION pop3test", ".")
}

// TestClose closes a server while one session hangs, one waits in a fault, one blocks in
// a write and one is in a TLS handshake. No goroutine may be left.
func TestClose(t *testing.T) {
	s, _ := start(t, pop3test.Options{})
	reached := make(chan struct{}, 3)
	signal := pop3test.On("", func(x *pop3test.Exchange) { reached <- struct{}{}; x.Act() })
	s.Order(
		signal.Session(1).When(func(x *pop3test.Exchange) bool { return x.Verb == "NOOP" }),
		pop3test.Ignore("NOOP", pop3test.Hang).Session(1),
		signal.Session(2).When(func(x *pop3test.Exchange) bool { return x.Verb == "CAPA" }),
		pop3test.Hold("CAPA", nil).Session(2),
		signal.Session(3).When(func(x *pop3test.Exchange) bool { return x.Verb == "CAPA" }),
		pop3test.EndlessListing("CAPA").Session(3),
	)
	hanging, waiting, writing, handshaking := login(t, s), dial(t, s), dial(t, s), dial(t, s)
	hanging.send("NOOP")
	waiting.send("CAPA")
	writing.send("CAPA")
	handshaking.want("+OK POP3 server ready")
	handshaking.send("STLS")
	handshaking.want("+OK begin TLS")
	for range 3 {
		<-reached
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	var stacks strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&stacks, 1); err != nil {
		t.Fatal(err)
	}
	for _, frame := range []string{"pop3test.(*session)", "pop3test.(*Server).accept"} {
		if strings.Contains(stacks.String(), frame) {
			t.Errorf("%s is still running:\n%s", frame, stacks.String())
		}
	}
	if err := s.Start(); err == nil {
		t.Error("a closed server starts")
	}
	if n, err := hanging.conn.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection is still open after Close: %v", err)
	}
}
