package pop3proto_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto"
)

// certificate returns the two ends of a TLS configuration for example.com.
func certificate(t *testing.T) (server, client *tls.Config) {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return &tls.Config{Certificates: s.TLS.Certificates}, &tls.Config{RootCAs: roots, ServerName: "example.com"}
}

const untilSTLS = `
S: +OK ready
C: CAPA
S: +OK
S: PIPELINING
S: .
C: STLS
S: +OK begin`

const afterSTLS = `
C: STAT
S: +OK 0 0
C: LIST
S: +OK
S: .
C: UIDL
S: +OK
S: .
C: QUIT
S: +OK`

func TestStartTLS(t *testing.T) {
	serverTLS, clientTLS := certificate(t)
	client, server := loopback(t)
	done := make(chan error, 1)
	go func() {
		err := follow(server, untilSTLS)
		conn := tls.Server(server, serverTLS)
		done <- errors.Join(err, follow(conn, afterSTLS))
		conn.Close()
	}()
	var trace notes
	c, err := pop3proto.NewClient(t.Context(), client, &pop3proto.Options{Trace: &trace})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.TLS(); ok {
		t.Error("TLS before STLS")
	}
	if _, err := c.Capabilities(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.StartTLS(t.Context(), clientTLS); err != nil {
		t.Fatal(err)
	}
	if state, ok := c.TLS(); !ok || !state.HandshakeComplete {
		t.Error("no TLS after STLS")
	}
	if err := c.StartTLS(t.Context(), clientTLS); err == nil || errors.Is(err, pop3proto.ErrBroken) {
		t.Errorf("STLS twice: %v", err)
	}
	// PIPELINING was said in the clear, so it does not count.
	trace.Reset()
	if _, err := c.List(t.Context()); err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(trace.String(), "C: STAT\nS: +OK 0 0\nC: LIST\n") {
		t.Errorf("pipelined without being offered to:\n%s", trace.String())
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestImplicitTLS(t *testing.T) {
	serverTLS, clientTLS := certificate(t)
	client, server := loopback(t)
	go follow(tls.Server(server, serverTLS), "S: +OK ready\nC: NOOP\nS: +OK")
	c, err := pop3proto.NewClient(t.Context(), tls.Client(client, clientTLS), nil)
	if err != nil {
		t.Fatal(err)
	}
	if state, ok := c.TLS(); !ok || len(state.PeerCertificates) != 1 {
		t.Error("no TLS")
	}
	if err := c.Noop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	wantBroken(t, c, c.Noop(t.Context()), net.ErrClosed)
}

// TestStartTLSInjected has data in the clear behind the reply to STLS.
func TestStartTLSInjected(t *testing.T) {
	for _, injected := range []string{"+OK forged\r\n", "x"} {
		c, conn := play(t, nil, "+OK begin\r\n"+injected)
		err := c.StartTLS(t.Context(), &tls.Config{ServerName: "example.com"})
		wantBroken(t, c, err, pop3proto.ErrInjected)
		if len(conn.writes) != 1 {
			t.Errorf("a handshake was begun: %q", conn.writes)
		}
	}
}

// Whoever stands on the way can have the greeting end in a bare LF. Behind STLS that
// must not make a bare LF the end of a line: it may be a mail's, with a dot behind it
// and forged replies.
func TestStartTLSGreeting(t *testing.T) {
	const body = "Subject: x\r\n\r\nx\n.\n+OK\r\nSubject: forged\r\n"
	serverTLS, clientTLS := certificate(t)
	for _, eol := range []string{"\r\n", "\n"} {
		client, server := loopback(t)
		done := make(chan error, 1)
		go func() {
			_, err := io.WriteString(server, "+OK ready"+eol)
			err = errors.Join(err, follow(server, "C: STLS\nS: +OK"))
			conn := tls.Server(server, serverTLS)
			err = errors.Join(err, follow(conn, "C: NOOP\nS: +OK\nC: RETR 1\nS: +OK"))
			_, werr := io.WriteString(conn, body+".\r\n")
			done <- errors.Join(err, werr, follow(conn, "C: NOOP\nS: +OK"))
		}()
		c, got := behindSTLS(t, client, clientTLS)
		if got != body {
			t.Errorf("greeting that ends in %q: body %q", eol, got)
		}
		if err := c.Noop(t.Context()); err != nil {
			t.Error(err)
		}
		c.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A server whose lines end in a bare LF, and that has TLS, is understood all the same.
func TestStartTLSBareLF(t *testing.T) {
	serverTLS, clientTLS := certificate(t)
	client, server := loopback(t)
	go func() {
		conn := net.Conn(server)
		say := func(text string) { io.WriteString(conn, text) }
		hear := func() { bufio.NewReader(conn).ReadString('\n') }
		say("+OK ready\n")
		hear()
		say("+OK\n")
		conn = tls.Server(server, serverTLS)
		hear()
		say("+OK\n")
		hear()
		say("+OK\nx\n..\n.\n")
	}()
	if _, got := behindSTLS(t, client, clientTLS); got != "x\n.\n" {
		t.Errorf("body %q", got)
	}
}

// behindSTLS has a client upgrade a connection, and returns it with the first message.
func behindSTLS(t *testing.T, conn net.Conn, config *tls.Config) (*pop3proto.Client, string) {
	t.Helper()
	c, err := pop3proto.NewClient(t.Context(), conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.StartTLS(t.Context(), config), c.Noop(t.Context())); err != nil {
		t.Fatal(err)
	}
	var body []byte
	for m, err := range c.Retrieve(t.Context(), numbers(1)) {
		if err == nil {
			body, err = io.ReadAll(m)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return c, string(body)
}

func TestStartTLSFails(t *testing.T) {
	c, _ := play(t, nil, "-ERR no\r\n", "+OK\r\n")
	var refused *pop3proto.ReplyError
	if err := c.StartTLS(t.Context(), nil); !errors.As(err, &refused) || refused.Verb != "STLS" {
		t.Errorf("refused: %v", err)
	}
	if err := c.Noop(t.Context()); err != nil {
		t.Error(err)
	}

	serverTLS, clientTLS := certificate(t)
	clientTLS.ServerName = "mail.example.net"
	client, server := loopback(t)
	go func() {
		follow(server, "S: +OK\nC: STLS\nS: +OK")
		tls.Server(server, serverTLS).Handshake()
	}()
	c, err := pop3proto.NewClient(t.Context(), client, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = c.StartTLS(t.Context(), clientTLS)
	var wrongName x509.HostnameError
	if !errors.As(err, &wrongName) {
		t.Errorf("wrong name: %v", err)
	}
	wantBroken(t, c, err, nil)
}

// TestHandshakeWaits has a server that goes silent behind its +OK.
func TestHandshakeWaits(t *testing.T) {
	_, clientTLS := certificate(t)
	start := func(t *testing.T, client, server net.Conn, then func()) *pop3proto.Client {
		go func() {
			follow(server, "S: +OK\nC: STLS\nS: +OK")
			io.ReadFull(server, make([]byte, 1)) // of the handshake
			then()
			io.Copy(io.Discard, server)
		}()
		c, err := pop3proto.NewClient(t.Context(), client, &pop3proto.Options{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}

	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		c := start(t, client, server, func() {})
		wantBroken(t, c, c.StartTLS(t.Context(), clientTLS), os.ErrDeadlineExceeded)
	})

	ctx, cancel := context.WithCancel(t.Context())
	client, server := loopback(t)
	c := start(t, client, server, cancel)
	wantBroken(t, c, c.StartTLS(ctx, clientTLS), context.Canceled)
}

// TestHandshakeObeysTimeout is a handshake that is still to be done, with a peer
// that takes not even its first message: TLS writes while it is read from.
func TestHandshakeObeysTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		conn := tls.Client(near, &tls.Config{ServerName: "example.com"})
		_, err := pop3proto.NewClient(t.Context(), conn, &pop3proto.Options{Timeout: time.Minute})
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}
