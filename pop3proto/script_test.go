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

// scriptConn is a net.Conn to a server that sends src, whatever the client sends. It
// records the writes, and counts the reads for which no new deadline was set.
type scriptConn struct {
	src                  io.Reader
	silent               bool // at the end of src, reads time out instead of returning io.EOF
	writes               []string
	hasDeadline          bool // a deadline was set since the last read
	readsWithoutDeadline int
	closed               bool
}

func (t *scriptConn) Read(p []byte) (int, error) {
	if !t.hasDeadline {
		t.readsWithoutDeadline++
	}
	t.hasDeadline = false
	n, err := t.src.Read(p)
	if err == io.EOF && t.silent {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

func (t *scriptConn) Write(p []byte) (int, error) {
	t.writes = append(t.writes, string(p))
	return len(p), nil
}

func (t *scriptConn) Close() error                     { t.closed = true; return nil }
func (t *scriptConn) LocalAddr() net.Addr              { return nil }
func (t *scriptConn) RemoteAddr() net.Addr             { return nil }
func (t *scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (t *scriptConn) SetWriteDeadline(time.Time) error { return nil }

func (t *scriptConn) SetDeadline(time.Time) error {
	t.hasDeadline = true
	return nil
}

// segments is an io.Reader that returns each of its strings in a read of its own, so that
// the client receives no reply together with an earlier one.
type segments []string

func (s *segments) Read(p []byte) (int, error) {
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

// newClientFunc is the type of newClient and newPipeliningClient.
type newClientFunc func(t testing.TB, opts *pop3proto.Options, replies ...string) (*pop3proto.Client, *scriptConn)

// newClient returns a client whose server sends a greeting and then replies, one for each
// read.
func newClient(t testing.TB, opts *pop3proto.Options, replies ...string) (*pop3proto.Client, *scriptConn) {
	t.Helper()
	replies = append([]string{greeting}, replies...)
	conn := &scriptConn{src: (*segments)(&replies)}
	c, err := pop3proto.NewClient(t.Context(), conn, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if conn.readsWithoutDeadline > 0 {
			t.Errorf("%d reads without a new deadline", conn.readsWithoutDeadline)
		}
	})
	return c, conn
}

// newPipeliningClient is newClient with a server that has offered PIPELINING.
func newPipeliningClient(t testing.TB, opts *pop3proto.Options, replies ...string) (*pop3proto.Client, *scriptConn) {
	t.Helper()
	c, conn := newClient(t, opts, append([]string{"+OK\r\nPIPELINING\r\nRESP-CODES\r\n.\r\n"}, replies...)...)
	if _, err := c.Capabilities(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn.writes = nil
	return c, conn
}

// newTranscriptClient returns a client of a server that runs a transcript and then hangs
// up.
func newTranscriptClient(t *testing.T, transcript string, opts *pop3proto.Options) *pop3proto.Client {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- runTranscript(server, transcript)
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

// runTranscript is a server: it sends the lines "S: ..." of a transcript, and returns an
// error unless the client sends the lines "C: ...".
func runTranscript(conn net.Conn, transcript string) error {
	r := bufio.NewReader(conn)
	for line := range strings.Lines(strings.TrimSpace(transcript)) {
		sender, text, _ := strings.Cut(strings.TrimSpace(line), ":")
		text = strings.TrimPrefix(text, " ")
		switch sender {
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

// numberedEntries yields entries with the message numbers from 1 to n.
func numberedEntries(n int) iter.Seq[pop3proto.Entry] {
	return func(yield func(pop3proto.Entry) bool) {
		for i := range n {
			if !yield(pop3proto.Entry{Num: i + 1}) {
				return
			}
		}
	}
}

// retrieve returns the messages from 1 to n, with "-ERR" for one that the server refuses.
// It stops at any other error.
func retrieve(ctx context.Context, c *pop3proto.Client, n int) (bodies []string, err error) {
	for m, err := range c.Retrieve(ctx, numberedEntries(n)) {
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

// wantBroken checks that err has broken the client and wraps cause, if that is not nil.
func wantBroken(t *testing.T, c *pop3proto.Client, err, cause error) {
	t.Helper()
	if !errors.Is(err, pop3proto.ErrBroken) || cause != nil && !errors.Is(err, cause) {
		t.Errorf("error %v, want ErrBroken for %v", err, cause)
	}
	if err := c.Noop(context.Background()); !errors.Is(err, pop3proto.ErrBroken) || cause != nil && !errors.Is(err, cause) {
		t.Errorf("the next command: error %v, want ErrBroken for %v", err, cause)
	}
}

// wantProtocolError checks that err is a ProtocolError that has broken the client.
func wantProtocolError(t *testing.T, c *pop3proto.Client, err error) {
	t.Helper()
	var syntax *pop3proto.ProtocolError
	if !errors.As(err, &syntax) {
		t.Errorf("error %v, want a ProtocolError", err)
	}
	wantBroken(t, c, err, nil)
}
