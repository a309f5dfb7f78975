package pop3proto_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto"
)

// tape is a server whose words do not depend on what it is told: a net.Conn
// that reads from src. It records the writes and checks that each read has
// its own deadline.
type tape struct {
	src    io.Reader
	silent bool // at the end of src, hang rather than close
	writes []string
	armed  bool // a deadline was set since the last read
	naked  int  // reads without
	closed bool
}

func (t *tape) Read(p []byte) (int, error) {
	if !t.armed {
		t.naked++
	}
	t.armed = false
	n, err := t.src.Read(p)
	if err == io.EOF && t.silent {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

func (t *tape) Write(p []byte) (int, error) {
	t.writes = append(t.writes, string(p))
	return len(p), nil
}

func (t *tape) Close() error                     { t.closed = true; return nil }
func (t *tape) LocalAddr() net.Addr              { return nil }
func (t *tape) RemoteAddr() net.Addr             { return nil }
func (t *tape) SetReadDeadline(time.Time) error  { return nil }
func (t *tape) SetWriteDeadline(time.Time) error { return nil }

func (t *tape) SetDeadline(time.Time) error {
	t.armed = true
	return nil
}

// pieces reads each of its strings separately, so that nothing is received
// before it was asked for.
type pieces []string

func (s *pieces) Read(p []byte) (int, error) {
	for len(*s) > 0 {
		if (*s)[0] == "" {
			*s = (*s)[1:]
			continue
		}
		n := copy(p, (*s)[0])
		(*s)[0] = (*s)[0][n:]
		return n, nil
	}
	return 0, io.EOF
}

const greeting = "+OK ready\r\n"

// play returns a client whose server says each of replies when it is read for.
func play(t testing.TB, opts *pop3proto.Options, replies ...string) (*pop3proto.Client, *tape) {
	t.Helper()
	replies = append([]string{greeting}, replies...)
	conn := &tape{src: (*pieces)(&replies)}
	c, err := pop3proto.NewClient(t.Context(), conn, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if conn.naked > 0 {
			t.Errorf("%d reads without a fresh deadline", conn.naked)
		}
	})
	return c, conn
}

// pipelining plays a client that has seen PIPELINING offered.
func pipelining(t testing.TB, opts *pop3proto.Options, replies ...string) (*pop3proto.Client, *tape) {
	t.Helper()
	c, conn := play(t, opts, append([]string{"+OK\r\nPIPELINING\r\nRESP-CODES\r\n.\r\n"}, replies...)...)
	if _, err := c.Capabilities(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn.writes = nil
	return c, conn
}

// converse returns a client of a server that follows a transcript of lines
// "S: …" and "C: …", as in RFC 1939 §10, and hangs up at its end. Lines of
// one flight of the client may be read one by one.
func converse(t *testing.T, transcript string, opts *pop3proto.Options) *pop3proto.Client {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- follow(server, transcript)
		server.Close()
	}()
	c, err := pop3proto.NewClient(t.Context(), client, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

func follow(conn net.Conn, transcript string) error {
	r := bufio.NewReader(conn)
	for line := range strings.Lines(strings.TrimSpace(transcript)) {
		who, text, _ := strings.Cut(strings.TrimSpace(line), ":")
		text = strings.TrimPrefix(text, " ")
		switch who {
		case "S":
			if _, err := io.WriteString(conn, text+"\r\n"); err != nil {
				return fmt.Errorf("sending %q: %w", text, err)
			}
		case "C":
			got, err := r.ReadString('\n')
			if err != nil {
				return fmt.Errorf("waiting for %q: %w", text, err)
			}
			if got != text+"\r\n" {
				return fmt.Errorf("client sent %q, want %q", got, text)
			}
		default:
			return fmt.Errorf("bad transcript line %q", line)
		}
	}
	return nil
}

// loopback returns the two ends of a TCP connection.
func loopback(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialed.Close(); accepted.Close() })
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}

// numbers yields entries with the numbers from 1 to n.
func numbers(n int) iter.Seq[pop3proto.Entry] {
	return func(yield func(pop3proto.Entry) bool) {
		for i := range n {
			if !yield(pop3proto.Entry{Num: i + 1}) {
				return
			}
		}
	}
}

// retrieve reads n messages whole. It stops at the first error that is not a
// refusal, and gives "-ERR" for a message that was refused.
func retrieve(ctx context.Context, c *pop3proto.Client, n int) (bodies []string, err error) {
	for m, err := range c.Retrieve(ctx, numbers(n)) {
		var refused *pop3proto.ReplyError
		if errors.As(err, &refused) {
			bodies = append(bodies, "-ERR")
			continue
		}
		if err != nil {
			return bodies, err
		}
		var body bytes.Buffer
		if _, err := io.Copy(&body, m); err != nil {
			return bodies, err
		}
		bodies = append(bodies, body.String())
	}
	return bodies, nil
}

// wantBroken checks that err broke the client, for cause.
func wantBroken(t *testing.T, c *pop3proto.Client, err, cause error) {
	t.Helper()
	if !errors.Is(err, pop3proto.ErrBroken) || cause != nil && !errors.Is(err, cause) {
		t.Errorf("error %v, want ErrBroken for %v", err, cause)
	}
	if err := c.Noop(context.Background()); !errors.Is(err, pop3proto.ErrBroken) || cause != nil && !errors.Is(err, cause) {
		t.Errorf("the next command: error %v, want ErrBroken for %v", err, cause)
	}
}

// wantProtocolError checks that err is a ProtocolError that broke the client.
func wantProtocolError(t *testing.T, c *pop3proto.Client, err error) {
	t.Helper()
	var syntax *pop3proto.ProtocolError
	if !errors.As(err, &syntax) {
		t.Errorf("error %v, want a ProtocolError", err)
	}
	wantBroken(t, c, err, nil)
}
