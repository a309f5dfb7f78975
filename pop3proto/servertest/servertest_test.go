package servertest_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

const (
	user = "alice@example.org"
	pass = `s3cret: "x"`
)

var messages = [][]byte{
	[]byte("Subject: one\n\nFirst.\n"),
	[]byte("Subject: dots\n\n.\n..\n.x\nFrom here\n8-bit \xe9\n"),
	[]byte("Subject: cut off\n\nno end of line"),
}

// servers are the POP3 servers to test.
var servers = []struct {
	name  string
	start func(testing.TB) *servertest.Server
}{
	{"dovecot", func(tb testing.TB) *servertest.Server {
		return servertest.Dovecot(tb, servertest.DovecotOptions{})
	}},
	{"mailutils", servertest.Mailutils},
}

// TestMaildrop checks, without the POP3 client of this module, that RETR sends what
// AddMessages returned, and that Messages returns what QUIT has left.
func TestMaildrop(t *testing.T) {
	for _, srv := range servers {
		t.Run(srv.name, func(t *testing.T) {
			t.Parallel()
			s := srv.start(t)
			s.AddUser(user, pass)
			want := s.AddMessages(user, messages...)

			c := dial(t, s.Addr)
			c.login()
			for i, msg := range want {
				c.want(fmt.Sprintf("RETR %d", i+1), "+OK")
				if got := c.body(); !bytes.Equal(got, msg) {
					t.Errorf("RETR %d sends %q, want %q", i+1, got, msg)
				}
			}
			c.want("UIDL", "+OK")
			if uids := bytes.Count(c.body(), []byte("\r\n")); uids != len(want) {
				t.Errorf("UIDL lists %d messages, want %d", uids, len(want))
			}
			c.want("TOP 1 0", "+OK")
			if header, _, _ := bytes.Cut(want[0], []byte("First.")); !bytes.Equal(c.body(), header) {
				t.Errorf("TOP 1 0 does not send the header %q", header)
			}
			c.want("DELE 2", "+OK")
			c.want("QUIT", "+OK")

			left := s.Messages(user)
			if len(left) != 2 || !bytes.Equal(left[0], want[0]) || !bytes.Equal(left[1], want[2]) {
				t.Errorf("the maildrop holds %q, want the first and the last of %q", left, want)
			}
		})
	}
}

// TestTLS checks STLS and implicit TLS, and that the certificate is verified.
func TestTLS(t *testing.T) {
	for _, srv := range servers {
		t.Run(srv.name, func(t *testing.T) {
			t.Parallel()
			s := srv.start(t)
			s.AddUser(user, pass)

			c := dial(t, s.Addr)
			c.want("STLS", "+OK")
			c.setConn(tls.Client(c.conn, s.TLSConfig()))
			c.login()
			c.want("QUIT", "+OK")

			conn, err := tls.Dial("tcp", s.TLSAddr, s.TLSConfig())
			if err != nil {
				t.Fatal(err)
			}
			c = newSession(t, conn)
			c.login()
			c.want("QUIT", "+OK")

			other := s.TLSConfig()
			other.ServerName = "mail.example.org"
			if conn, err := tls.Dial("tcp", s.TLSAddr, other); err == nil {
				conn.Close()
				t.Error("the certificate is valid for another name")
			}
		})
	}
}

func TestWrongPassword(t *testing.T) {
	for _, srv := range servers {
		t.Run(srv.name, func(t *testing.T) {
			t.Parallel()
			s := srv.start(t)
			s.AddUser(user, pass)
			c := dial(t, s.Addr)
			c.want("USER "+user, "+OK")
			c.want("PASS wrong", "-ERR")
		})
	}
}

// TestMechanisms checks that Dovecot offers the configured mechanisms and an APOP
// timestamp.
func TestMechanisms(t *testing.T) {
	s := servertest.Dovecot(t, servertest.DovecotOptions{Mechanisms: []string{"plain", "cram-md5", "apop"}})
	c := dial(t, s.Addr)
	if !strings.Contains(c.greeting, "<") {
		t.Errorf("the greeting %q has no timestamp for APOP", c.greeting)
	}
	c.want("CAPA", "+OK")
	if capa := string(c.body()); !strings.Contains(capa, "SASL PLAIN CRAM-MD5\r\n") {
		t.Errorf("the capabilities are %q", capa)
	}
}

// session is a minimal POP3 client.
type session struct {
	t        *testing.T
	conn     net.Conn
	r        *bufio.Reader
	greeting string
}

func dial(t *testing.T, addr string) *session {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return newSession(t, conn)
}

// newSession reads the greeting.
func newSession(t *testing.T, conn net.Conn) *session {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	context.AfterFunc(t.Context(), func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	c := &session{t: t}
	c.setConn(conn)
	c.greeting = c.line()
	return c
}

func (c *session) setConn(conn net.Conn) { c.conn, c.r = conn, bufio.NewReader(conn) }

func (c *session) line() string {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("reading a line: %v", err)
	}
	return line
}

// want sends a command and fails the test unless the reply begins with reply.
func (c *session) want(command, reply string) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.conn, "%s\r\n", command); err != nil {
		c.t.Fatal(err)
	}
	if line := c.line(); !strings.HasPrefix(line, reply) {
		c.t.Fatalf("%s: the server sent %q, want %s", command, line, reply)
	}
}

func (c *session) login() {
	c.t.Helper()
	c.want("USER "+user, "+OK")
	c.want("PASS "+pass, "+OK")
}

// body reads the rest of a multi-line reply, without dot-stuffing and the final dot.
func (c *session) body() []byte {
	c.t.Helper()
	var body []byte
	for {
		line := c.line()
		if line == ".\r\n" {
			return body
		}
		body = append(body, strings.TrimPrefix(line, ".")...)
	}
}
