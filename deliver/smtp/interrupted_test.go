package smtp_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
)

// A server may hang up in the middle of a message that is too large for it. What
// it said to that is about this message, and the others go on.
func TestInterrupted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go small(conn)
		}
	}()
	s := newSink(t, options(t, l.Addr().String()))
	large := "Subject: large\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 150_000) // more than sockets buffer
	out := send(t, t.Context(), s, "me@example.org", body(1), large, body(2))
	if out.err != nil || len(out.receipts) != 3 {
		t.Fatalf("%d receipts, %v", len(out.receipts), out.err)
	}
	for n, r := range out.receipts {
		if n != 1 && r.Err != nil {
			t.Errorf("message %d: %v", n, r.Err)
		}
	}
	why, ok := errors.AsType[*deliver.Error](out.receipts[1].Err)
	if !ok || why.Fault != deliver.FaultMessage || !strings.Contains(why.Error(), `552 5.3.4 "too large for us"`) {
		t.Errorf("the large one: %v", out.receipts[1].Err)
	}
}

// small is a server that takes messages of at most 100 kB.
func small(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	io.WriteString(conn, "220 small.example.net\r\n")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if !strings.HasPrefix(line, "DATA") {
			io.WriteString(conn, "250 ok\r\n")
			continue
		}
		io.WriteString(conn, "354 go on\r\n")
		for n := 0; line != ".\r\n"; n += len(line) {
			if n > 100_000 {
				io.WriteString(conn, "552 5.3.4 too large for us\r\n")
				return
			}
			if line, err = r.ReadString('\n'); err != nil {
				return
			}
		}
		io.WriteString(conn, "250 queued\r\n")
	}
}
