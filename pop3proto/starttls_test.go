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

// tlsConfigs returns configurations for a server with a certificate for example.com and for
// a client that trusts it.
func tlsConfigs(t *testing.T) (server, client *tls.Config) {
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
	serverTLS, clientTLS := tlsConfigs(t)
	client, server := loopback(t)
	done := make(chan error, 1)
	go func() {
		err := runTranscript(server, untilSTLS)
		conn := tls.Server(server, serverTLS)
		done <- errors.Join(err, runTranscript(conn, afterSTLS))
		conn.Close()
	}()
	var trace traceLog
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
	// PIPELINING was offered in the clear, so it must be ignored.
	trace.Reset()
	if _, err := c.List(t.Context()); err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(trace.String(), "C: STAT\nS: +OK 0 0\nC: LIST\n") {
		t.Errorf("pipelined without PIPELINING:\n%s", trace.String())
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestImplicitTLS(t *testing.T) {
	serverTLS, clientTLS := tlsConfigs(t)
	client, server := loopback(t)
	go runTranscript(tls.Server(server, serverTLS), "S: +OK ready\nC: NOOP\nS: +OK")
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

// TestStartTLSInjected has data in the clear after the reply to STLS.
func TestStartTLSInjected(t *testing.T) {
	for _, injected := range []string{"+OK forged\r\n", "x"} {
		c, conn := newClient(t, nil, "+OK begin\r\n"+injected)
		err := c.StartTLS(t.Context(), &tls.Config{ServerName: "example.com"})
		wantBroken(t, c, err, pop3proto.ErrInjected)
		if len(conn.writes) != 1 {
			t.Errorf("the handshake was started: %q", conn.writes)
		}
	}
}

// TestStartTLSGreeting has an attacker that changes the line end of the greeting, which is
// sent in the clear, to a bare LF. After STLS the client must not accept bare LF as line
// ends: a message could then contain a forged end and forged replies.
func TestStartTLSGreeting(t *testing.T) {
	const body = "Subject: x\r\n\r\nx\n.\n+OK\r\nSubject: forged\r\n"
	serverTLS, clientTLS := tlsConfigs(t)
	for _, eol := range []string{"\r\n", "\n"} {
		client, server := loopback(t)
		done := make(chan error, 1)
		go func() {
			_, err := io.WriteString(server, "+OK ready"+eol)
			err = errors.Join(err, runTranscript(server, "C: STLS\nS: +OK"))
			conn := tls.Server(server, serverTLS)
			err = errors.Join(err, runTranscript(conn, "C: NOOP\nS: +OK\nC: RETR 1\nS: +OK"))
			_, werr := io.WriteString(conn, body+".\r\n")
			done <- errors.Join(err, werr, runTranscript(conn, "C: NOOP\nS: +OK"))
		}()
		c, got := startTLSAndRetrieve(t, client, clientTLS)
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

// TestStartTLSBareLF has a server whose lines end in a bare LF, also after STLS.
func TestStartTLSBareLF(t *testing.T) {
	serverTLS, clientTLS := tlsConfigs(t)
	client, server := loopback(t)
	go func() {
		conn := net.Conn(server)
		send := func(text string) { io.WriteString(conn, text) }
		readCommand := func() { bufio.NewReader(conn).ReadString('\n') }
		send("+OK ready\n")
		readCommand()
		send("+OK\n")
		conn = tls.Server(server, serverTLS)
		readCommand()
		send("+OK\n")
		readCommand()
		send("+OK\nx\n..\n.\n")
	}()
	if _, got := startTLSAndRetrieve(t, client, clientTLS); got != "x\n.\n" {
		t.Errorf("body %q", got)
	}
}

// startTLSAndRetrieve returns a client that has upgraded conn with STLS, and the first
// message.
func startTLSAndRetrieve(t *testing.T, conn net.Conn, config *tls.Config) (*pop3proto.Client, string) {
	t.Helper()
	c, err := pop3proto.NewClient(t.Context(), conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.StartTLS(t.Context(), config), c.Noop(t.Context())); err != nil {
		t.Fatal(err)
	}
	var body []byte
	for m, err := range c.Retrieve(t.Context(), numberedEntries(1)) {
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
	c, _ := newClient(t, nil, "-ERR no\r\n", "+OK\r\n")
	var refused *pop3proto.ReplyError
	if err := c.StartTLS(t.Context(), nil); !errors.As(err, &refused) || refused.Verb != "STLS" {
		t.Errorf("refused: %v", err)
	}
	if err := c.Noop(t.Context()); err != nil {
		t.Error(err)
	}

	serverTLS, clientTLS := tlsConfigs(t)
	clientTLS.ServerName = "mail.example.net"
	client, server := loopback(t)
	go func() {
		runTranscript(server, "S: +OK\nC: STLS\nS: +OK")
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

// TestSilentHandshake has a server that is silent after its +OK to STLS. The handshake must
// obey the timeout and the context.
func TestSilentHandshake(t *testing.T) {
	_, clientTLS := tlsConfigs(t)
	start := func(t *testing.T, client, server net.Conn, onHandshake func()) *pop3proto.Client {
		go func() {
			runTranscript(server, "S: +OK\nC: STLS\nS: +OK")
			io.ReadFull(server, make([]byte, 1)) // of the handshake
			onHandshake()
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

// TestHandshakeObeysTimeout has an implicit TLS connection without a handshake yet, and a
// peer that reads nothing. Reading the greeting then blocks in a write of the handshake.
func TestHandshakeObeysTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer server.Close()
		conn := tls.Client(client, &tls.Config{ServerName: "example.com"})
		_, err := pop3proto.NewClient(t.Context(), conn, &pop3proto.Options{Timeout: time.Minute})
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}
