package pop3test_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

const stamp = "<1896.697170952@dbc.mtview.ca.us>"

// start starts a server with the user alice and three messages in her maildrop.
func start(t *testing.T, opts pop3test.Options) (*pop3test.Server, *pop3test.Maildrop) {
	t.Helper()
	s := pop3test.New(opts)
	m := s.Account("alice", "secret")
	m.Add("uid-1", []byte("Subject: one\n\nfirst\n"))
	m.Add("uid-2", []byte("Subject: two\r\n\n.dot\n..\nlast line without end"))
	m.Add("uid-3", nil)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, m
}

// peer is a client that sends and reads lines. It does not know POP3.
type peer struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func dial(t *testing.T, s *pop3test.Server) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	// A server that sends too little fails this test, instead of blocking all tests.
	conn.SetDeadline(time.Now().Add(time.Minute))
	t.Cleanup(func() { conn.Close() })
	return &peer{t, conn, bufio.NewReader(conn)}
}

// login dials and logs in as alice.
func login(t *testing.T, s *pop3test.Server) *peer {
	t.Helper()
	p := dial(t, s)
	p.want("+OK POP3 server ready")
	p.send("USER alice", "PASS secret")
	p.want("+OK send PASS")
	if line := p.line(); !strings.HasPrefix(line, "+OK ") {
		t.Fatalf("PASS: %q", line)
	}
	return p
}

// send sends lines in one write.
func (p *peer) send(lines ...string) {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, strings.Join(lines, "\r\n")+"\r\n"); err != nil {
		p.t.Fatal(err)
	}
}

// line returns the next line without its CRLF. A bare LF fails the test.
func (p *peer) line() string {
	p.t.Helper()
	line, err := p.r.ReadString('\n')
	if err != nil {
		p.t.Fatalf("after %q: %v", line, err)
	}
	line, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		p.t.Fatalf("line %q ends in a bare LF", line)
	}
	return line
}

// want fails the test unless the next lines are these.
func (p *peer) want(lines ...string) {
	p.t.Helper()
	for _, want := range lines {
		if got := p.line(); got != want {
			p.t.Fatalf("server sent %q, want %q", got, want)
		}
	}
}

// rest returns what the server sends until it closes the connection.
func (p *peer) rest() (string, error) {
	b, err := io.ReadAll(p.r)
	return string(b), err
}

// wantEOF fails the test unless the server closes the connection without sending more.
func (p *peer) wantEOF() {
	p.t.Helper()
	if got, err := p.rest(); got != "" || err != nil {
		p.t.Fatalf("server sent %q, %v; want EOF", got, err)
	}
}

// secure starts TLS on the connection.
func (p *peer) secure(cfg *tls.Config) *tls.Conn {
	p.t.Helper()
	conn := tls.Client(p.conn, cfg)
	if err := conn.HandshakeContext(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	p.conn, p.r = conn, bufio.NewReader(conn)
	return conn
}
