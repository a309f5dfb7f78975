package pop3proto_test

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto"
)

// TestDeletePipelined deletes more messages than may be in flight at once.
func TestDeletePipelined(t *testing.T) {
	const n = 2500
	c, conn := newPipeliningClient(t, nil, append(slices.Repeat([]string{"+OK\r\n"}, n), "+OK bye\r\n")...)
	marked, refused, err := c.DeleteAndQuit(t.Context(), messageNumbers(n))
	if len(marked) != n || refused != nil || err != nil {
		t.Errorf("%d marked, %v, %v", len(marked), refused, err)
	}
	var got []int
	for _, write := range conn.writes {
		got = append(got, strings.Count(write, "DELE"))
	}
	// 16 KiB of commands, and more when half of them have a reply.
	if want := []int{1590, 744, 166}; !slices.Equal(got, want) {
		t.Errorf("%d commands at once, want %d", got, want)
	}
}

func TestDeleteAndQuit(t *testing.T) {
	three := "DELE 1\r\nDELE 2\r\nDELE 3\r\n"
	for name, test := range map[string]struct {
		start  newClientFunc
		window int
		writes []string
	}{
		"one by one":      {newClient, 0, []string{"DELE 1\r\n", "DELE 2\r\n", "DELE 3\r\n", "QUIT\r\n"}},
		"pipelined":       {newPipeliningClient, 0, []string{three + "QUIT\r\n"}},
		"window of three": {newPipeliningClient, 3, []string{three, "QUIT\r\n"}},
		"window of one":   {newPipeliningClient, 1, []string{"DELE 1\r\n", "DELE 2\r\n", "DELE 3\r\n", "QUIT\r\n"}},
		"window of two":   {newPipeliningClient, 2, []string{"DELE 1\r\nDELE 2\r\n", "DELE 3\r\n", "QUIT\r\n"}},
	} {
		opts := &pop3proto.Options{Window: test.window}
		// The server refuses the second DELE.
		c, conn := test.start(t, opts, "+OK\r\n", "-ERR no\r\n", "+OK\r\n", "+OK bye\r\n")
		marked, refused, err := c.DeleteAndQuit(t.Context(), messageNumbers(3))
		if !slices.Equal(marked, []int{1, 3}) || refused == nil || errors.Is(refused, pop3proto.ErrBroken) || err != nil {
			t.Errorf("%s: %v marked, %v, %v", name, marked, refused, err)
		}
		if !slices.Equal(conn.writes, test.writes) {
			t.Errorf("%s: sent %q", name, conn.writes)
		}
		wantBroken(t, c, c.Noop(t.Context()), net.ErrClosed)

		// It refuses QUIT.
		c, _ = test.start(t, opts, "+OK\r\n", "+OK\r\n", "+OK\r\n", "-ERR some remain\r\n")
		marked, refused, err = c.DeleteAndQuit(t.Context(), messageNumbers(3))
		if r, ok := errors.AsType[*pop3proto.ReplyError](err); len(marked) != 3 || refused != nil || !ok || r.Verb != "QUIT" {
			t.Errorf("%s, refused: %v marked, %v, %v", name, marked, refused, err)
		}

		// It replies to the second DELE with something else.
		c, conn = test.start(t, opts, "+OK\r\n", "what?\r\n")
		marked, refused, err = c.DeleteAndQuit(t.Context(), messageNumbers(3))
		if len(marked) != 1 || refused != nil || !conn.closed {
			t.Errorf("%s, out of step: %v marked, %v, %v, closed: %v", name, marked, refused, err, conn.closed)
		}
		wantProtocolError(t, c, err)

		// It sends a reply too many. That to QUIT then arrives in a read of its own, or
		// together with the last one to DELE.
		c, _ = test.start(t, opts, "-ERR one too many\r\n", "+OK\r\n", "+OK\r\n", "+OK\r\n", "+OK bye\r\n")
		marked, refused, err = c.DeleteAndQuit(t.Context(), messageNumbers(3))
		if len(marked) != 2 || refused == nil {
			t.Errorf("%s, a reply too many: %v marked, %v, %v", name, marked, refused, err)
		}
		wantProtocolError(t, c, err)

		c, _ = test.start(t, opts, "-ERR one too many\r\n", "+OK\r\n", "+OK\r\n", "+OK\r\n+OK bye\r\n")
		_, _, err = c.DeleteAndQuit(t.Context(), messageNumbers(3))
		wantProtocolError(t, c, err)

		// It refuses every second DELE of 60.
		c, conn = test.start(t, opts, append(slices.Concat([]string{"+OK\r\n", "-ERR already deleted\r\n"},
			slices.Repeat([]string{"+OK\r\n", "-ERR no more\r\n"}, 29)), "+OK bye\r\n")...)
		marked, refused, err = c.DeleteAndQuit(t.Context(), messageNumbers(60))
		if r, ok := errors.AsType[*pop3proto.ReplyError](refused); len(marked) != 30 || !ok || r.Verb != "DELE" || r.Text != "already deleted" || err != nil {
			t.Errorf("%s, half refused: %v marked, %v, %v", name, marked, refused, err)
		}
		if sent := strings.Join(conn.writes, ""); strings.Count(sent, "DELE ") != 60 {
			t.Errorf("%s: sent %q", name, sent)
		}
	}
}
