package pop3proto_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto"
)

// message returns the reply to RETR for a message with this text.
func message(text string) string { return "+OK\r\n" + stuff(text+"\r\n", "\r\n") }

func TestRetrieveRefused(t *testing.T) {
	for name, start := range map[string]newClientFunc{
		"one by one": newClient, "pipelined": newPipeliningClient,
	} {
		c, _ := start(t, nil, message("a"), "-ERR [SYS/TEMP] unreadable\r\n", message("c"), "-ERR\r\n", "-ERR\r\n", message("f"), "+OK\r\n")
		got, err := retrieve(t.Context(), c, 6)
		if want := []string{"a\r\n", "-ERR", "c\r\n", "-ERR", "-ERR", "f\r\n"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		if err := c.Noop(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPipelineWindow checks when commands are sent, and that those sent at once are one
// Write.
func TestPipelineWindow(t *testing.T) {
	retr := func(from, to int) (s string) {
		for i := from; i <= to; i++ {
			s += fmt.Sprintf("RETR %d\r\n", i)
		}
		return s
	}
	for _, test := range []struct {
		window, limit, n int
		want             []string
	}{
		{1, 1, 3, []string{retr(1, 1), retr(2, 2), retr(3, 3)}},
		{2, 2, 4, []string{retr(1, 2), retr(3, 3), retr(4, 4)}},
		{8, 8, 3, []string{retr(1, 3)}},
		{8, 8, 17, []string{retr(1, 8), retr(9, 12), retr(13, 16), retr(17, 17)}},
		{0, 100, 100, []string{retr(1, 100)}},
		{1000, 300, 300, []string{retr(1, 300)}},
		// 4 KiB of commands, and more when half of them have a reply.
		{0, 421, 700, []string{retr(1, 420), retr(421, 625), retr(626, 700)}},
	} {
		c, conn := newPipeliningClient(t, &pop3proto.Options{Window: test.window}, slices.Repeat([]string{message("x")}, test.n)...)
		pulled, read := 0, 0
		want := func(yield func(pop3proto.Entry) bool) {
			for e := range numberedEntries(test.n) {
				pulled++
				if !yield(e) {
					return
				}
			}
		}
		most := 0
		for m, err := range c.Retrieve(t.Context(), want) {
			if err != nil {
				t.Fatal(err)
			}
			most = max(most, pulled-read)
			if read++; m.Num != read {
				t.Errorf("message %d came as number %d", m.Num, read)
			}
		}
		if read != test.n || !slices.Equal(conn.writes, test.want) {
			t.Errorf("window %d: %d messages, sent %q\nwant %q", test.window, read, conn.writes, test.want)
		}
		if most > test.limit {
			t.Errorf("window %d: %d in flight", test.window, most)
		}
	}
}

// TestPipelinePace retrieves messages of 1 MiB: eight at first, and then as many as arrive
// in a second, but at most 16.
func TestPipelinePace(t *testing.T) {
	for pace, want := range map[time.Duration][]int{
		0:                      {8, 9, 8, 8, 7},
		100 * time.Millisecond: {8, 3, 5, 5, 5, 5, 5, 4},
		10 * time.Second:       {8, 1, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, conn := newPipeliningClient(t, nil, slices.Repeat([]string{message("x")}, 40)...)
			large := func(yield func(pop3proto.Entry) bool) {
				for e := range numberedEntries(40) {
					if e.Size = 1 << 20; !yield(e) {
						return
					}
				}
			}
			for _, err := range c.Retrieve(t.Context(), large) {
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(pace)
			}
			var got []int
			for _, write := range conn.writes {
				got = append(got, strings.Count(write, "RETR"))
			}
			if !slices.Equal(got[:len(want)], want) {
				t.Errorf("a message in %v: %d commands at once, want %d", pace, got, want)
			}
		})
	}
}

// TestLargestMessages retrieves messages that are each larger than the limit for messages
// in flight.
func TestLargestMessages(t *testing.T) {
	c, _ := newPipeliningClient(t, nil, message("a"), message("b"))
	largest := slices.Values([]pop3proto.Entry{{Num: 1, Size: 1 << 40}, {Num: 2, Size: 1 << 40}})
	var got []int
	for m, err := range c.Retrieve(t.Context(), largest) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m.Num)
	}
	if !slices.Equal(got, []int{1, 2}) {
		t.Errorf("got %d", got)
	}
}

// TestRetrieveEndsWant checks that the iterator want ends when the loop is left.
func TestRetrieveEndsWant(t *testing.T) {
	c, _ := newClient(t, nil, message("a"))
	ended := false
	want := func(yield func(pop3proto.Entry) bool) {
		defer func() { ended = true }()
		for e := range numberedEntries(3) {
			if !yield(e) {
				return
			}
		}
	}
	for range c.Retrieve(t.Context(), want) {
		break
	}
	if !ended {
		t.Error("the iterator has not ended")
	}
}

// TestRetrieveStops ends the iterator want while the loop runs, and checks that no reply is
// left unread.
func TestRetrieveStops(t *testing.T) {
	c, conn := newPipeliningClient(t, &pop3proto.Options{Window: 4}, append(slices.Repeat([]string{message("x")}, 4), "+OK\r\n")...)
	enough := false
	want := func(yield func(pop3proto.Entry) bool) {
		for e := range numberedEntries(1000) {
			if enough || !yield(e) {
				return
			}
		}
	}
	read := 0
	for _, err := range c.Retrieve(t.Context(), want) {
		if err != nil {
			t.Fatal(err)
		}
		read++
		enough = true
	}
	if err := c.Quit(t.Context()); err != nil || read != 4 {
		t.Errorf("%d messages, %v", read, err)
	}
	if len(conn.writes) != 2 { // RETR and QUIT
		t.Errorf("sent %q", conn.writes)
	}
}

// TestRetrieveLeftEarly leaves the loop in the middle of a body, with replies unread.
func TestRetrieveLeftEarly(t *testing.T) {
	c, conn := newPipeliningClient(t, nil, message("a"), message(strings.Repeat("b", 200_000)), "-ERR no\r\n", message("d"), "+OK\r\n", "+OK\r\n")
	var messages []*pop3proto.Message
	for m, err := range c.Retrieve(t.Context(), numberedEntries(4)) {
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, m)
		if _, err := m.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if m.Num == 2 {
			break
		}
	}
	for _, m := range messages {
		if n, err := m.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF {
			t.Errorf("a message was read after its turn: %d, %v", n, err)
		}
	}
	if err := c.Noop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"RETR 1\r\nRETR 2\r\nRETR 3\r\nRETR 4\r\n", "NOOP\r\n", "QUIT\r\n"}; !slices.Equal(conn.writes, want) {
		t.Errorf("sent %q", conn.writes)
	}
}

// TestRetrieveLeftToSilence leaves the loop when the server is silent, and checks that the
// next command does not wait forever.
func TestRetrieveLeftToSilence(t *testing.T) {
	src := segments{greeting, "+OK\r\nPIPELINING\r\n.\r\n", message("a")}
	c, err := pop3proto.NewClient(t.Context(), &scriptConn{src: &src, silent: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Capabilities(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range c.Retrieve(t.Context(), numberedEntries(4)) {
		break
	}
	wantBroken(t, c, c.Noop(t.Context()), os.ErrDeadlineExceeded)
}

func TestCommandInsideLoop(t *testing.T) {
	c, _ := newPipeliningClient(t, nil, message("a"), message("b"))
	for m, err := range c.Retrieve(t.Context(), numberedEntries(2)) {
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Noop(t.Context()); err == nil {
			t.Error("a command was sent inside the loop")
		}
		if got, err := io.ReadAll(m); err != nil || len(got) != 3 {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// TestRetrieveUnread does not read the bodies, or reads only a part.
func TestRetrieveUnread(t *testing.T) {
	c, _ := newClient(t, nil, message("abc"), message("def"), message("ghi"), "+OK\r\n")
	var got []string
	for m, err := range c.Retrieve(t.Context(), numberedEntries(3)) {
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, m.Num-1)
		if _, err := io.ReadFull(m, p); err != nil {
			t.Fatal(err)
		}
		got = append(got, string(p))
	}
	if want := []string{"", "d", "gh"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if err := c.Noop(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestRetrieveCut loses the connection in the second body: first Read returns the error,
// then the loop yields it, with the same message.
func TestRetrieveCut(t *testing.T) {
	c, _ := newPipeliningClient(t, nil, message("a"), "+OK\r\nhalf")
	var turns []string
	for m, err := range c.Retrieve(t.Context(), numberedEntries(5)) {
		n, readErr := io.Copy(io.Discard, m)
		turns = append(turns, fmt.Sprint(m.Num, " ", n, " ", errors.Is(err, pop3proto.ErrBroken), errors.Is(readErr, io.ErrUnexpectedEOF)))
	}
	want := []string{"1 3 false false", "2 4 false true", "2 0 true true"}
	if !slices.Equal(turns, want) {
		t.Errorf("turns %q, want %q", turns, want)
	}
	for m, err := range c.Retrieve(t.Context(), numberedEntries(5)) {
		if !errors.Is(err, pop3proto.ErrBroken) || m == nil {
			t.Errorf("a broken client: %v, %v", m, err)
		}
	}
}

// TestRetrieveCutUnread is TestRetrieveCut for a body of which only a part was read.
func TestRetrieveCutUnread(t *testing.T) {
	c, _ := newClient(t, nil, "+OK\r\nhalf")
	turns := 0
	for m, err := range c.Retrieve(t.Context(), numberedEntries(1)) {
		_, readErr := m.Read(make([]byte, 1))
		if turns++; turns == 1 && (err != nil || readErr != nil) {
			t.Errorf("the first turn: %v, read %v", err, readErr)
		} else if turns == 2 && (!errors.Is(err, io.ErrUnexpectedEOF) || readErr != err) {
			t.Errorf("the second turn: %v, read %v", err, readErr)
		}
	}
	if turns != 2 {
		t.Errorf("%d turns", turns)
	}
}

// TestRetrieveContext cancels the context in the middle of a body.
func TestRetrieveContext(t *testing.T) {
	client, server := loopback(t)
	go runTranscript(server, "S: +OK\nC: RETR 1\nS: +OK\nS: half")
	c, err := pop3proto.NewClient(t.Context(), client, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for m, err := range c.Retrieve(ctx, numberedEntries(1)) {
		if err != nil {
			break
		}
		if _, err := io.ReadFull(m, make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := m.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
			t.Errorf("Read: %v", err)
		}
	}
	wantBroken(t, c, c.Noop(t.Context()), context.Canceled)
}

// TestNoDeadlock has a server that reads a command only after it has written the reply to
// the last one, and sockets with small buffers.
func TestNoDeadlock(t *testing.T) {
	const n, size = 300, 20_000
	client, server := loopback(t)
	for _, err := range []error{client.SetWriteBuffer(1), server.SetReadBuffer(1), server.SetWriteBuffer(1)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	text := bytes.Repeat([]byte("All work and no play makes Jack a dull boy. "), size/44)
	go func() {
		r := bufio.NewReaderSize(server, 16)
		io.WriteString(server, greeting)
		for {
			line, err := r.ReadString('\n')
			switch {
			case err != nil:
				return
			case line == "CAPA\r\n":
				io.WriteString(server, "+OK\r\nPIPELINING\r\n.\r\n")
			default:
				io.WriteString(server, "+OK\r\n")
				server.Write(text)
				io.WriteString(server, "\r\n.\r\n")
			}
		}
	}()
	c, err := pop3proto.NewClient(t.Context(), client, &pop3proto.Options{Window: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Capabilities(t.Context()); err != nil {
		t.Fatal(err)
	}
	read := 0
	for m, err := range c.Retrieve(t.Context(), numberedEntries(n)) {
		if err != nil {
			t.Fatal(err)
		}
		if octets, err := io.Copy(io.Discard, m); octets != int64(len(text)+2) || err != nil {
			t.Fatal(octets, err)
		}
		read++
	}
	if read != n {
		t.Errorf("%d messages of %d", read, n)
	}
}

// TestRealMessages retrieves sample messages and compares every byte.
func TestRealMessages(t *testing.T) {
	files, _ := filepath.Glob("../testdata/messages/*")
	if len(files) == 0 {
		t.Fatal("no messages in ../testdata/messages")
	}
	var replies, want []string
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n", "\r\n")
		if text != "" && !strings.HasSuffix(text, "\r\n") {
			text += "\r\n"
		}
		replies = append(replies, "+OK\r\n"+stuff(text, "\r\n"))
		want = append(want, text)
	}
	c, _ := newPipeliningClient(t, nil, replies...)
	got, err := retrieve(t.Context(), c, len(files))
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%d messages of %d, %v", len(got), len(want), err)
	}
}
