package pop3proto_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// TestRFC1939Session is the session of RFC 1939 §10, with UIDL from its §7.
func TestRFC1939Session(t *testing.T) {
	c := newTranscriptClient(t, `
S: +OK POP3 server ready <1896.697170952@dbc.mtview.ca.us>
C: APOP mrose c4c9334bac560ecc979e58001b3e22fb
S: +OK mrose's maildrop has 2 messages (320 octets)
C: STAT
S: +OK 2 320
C: LIST
S: +OK 2 messages (320 octets)
S: 1 120
S: 2 200
S: .
C: UIDL
S: +OK
S: 1 whqtswO00WBw418f9t5JxYwZ
S: 2 QhdPYR:00WBw1Ph7x7
S: .
C: RETR 1
S: +OK 120 octets
S: Subject: one
S: .
C: RETR 2
S: +OK 200 octets
S: ..two
S: .
C: NOOP
S: +OK
C: TOP 2 0
S: +OK
S: .
C: DELE 1
S: +OK message 1 deleted
C: DELE 2
S: +OK message 2 deleted
C: QUIT
S: +OK dewey POP3 server signing off (maildrop empty)
`, nil)
	ctx := t.Context()
	if err := c.APOP(ctx, "mrose", "tanstaaf"); err != nil {
		t.Fatal(err)
	}
	l, err := c.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := []pop3proto.Entry{{Num: 1, UID: "whqtswO00WBw418f9t5JxYwZ", Size: 120}, {Num: 2, UID: "QhdPYR:00WBw1Ph7x7", Size: 200}}
	if !slices.Equal(l.Entries, want) || l.Count != 2 || l.Octets != 320 || !l.UIDL || l.Odd != 0 {
		t.Errorf("listing %+v", l)
	}
	var got []string
	for m, err := range c.Retrieve(ctx, slices.Values(l.Entries)) {
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(m)
		got = append(got, fmt.Sprintf("%s %s %v", m.UID, body, err))
	}
	if want := []string{want[0].UID + " Subject: one\r\n <nil>", want[1].UID + " .two\r\n <nil>"}; !slices.Equal(got, want) {
		t.Errorf("messages %q, want %q", got, want)
	}
	if err := c.Noop(ctx); err != nil {
		t.Error(err)
	}
	for m, err := range c.Top(ctx, slices.Values(l.Entries[1:]), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, m); n != 0 || err != nil {
			t.Errorf("empty TOP: %d octets, %v", n, err)
		}
	}
	if marked, refused, err := c.DeleteAndQuit(ctx, slices.Values([]int{1, 2})); len(marked) != 2 || refused != nil || err != nil {
		t.Errorf("DeleteAndQuit: %v, %v, %v", marked, refused, err)
	}
	wantBroken(t, c, c.Noop(ctx), net.ErrClosed)
}

func TestGreeting(t *testing.T) {
	for _, test := range []struct {
		greeting, text string
		want           error // the error, or a value of its type
	}{
		{"+OK Dovecot ready.\r\n", "Dovecot ready.", nil},
		{"+ok\r\n", "", nil},
		{"-ERR [IN-USE] too many\r\n", "", &pop3proto.ReplyError{}},
		{"220 mx.example.org ESMTP\r\n", "", &pop3proto.ProtocolError{}},
		{"+OKAY\r\n", "", &pop3proto.ProtocolError{}},
		{"\r\n", "", &pop3proto.ProtocolError{}},
		{"+OK " + strings.Repeat("x", 1<<20), "", &pop3proto.ProtocolError{}},
		{"+OK half", "", io.ErrUnexpectedEOF},
		{"", "", io.ErrUnexpectedEOF},
	} {
		c, err := pop3proto.NewClient(t.Context(), &scriptConn{src: strings.NewReader(test.greeting)}, nil)
		if test.want == nil {
			if err != nil || c.Greeting() != test.text {
				t.Errorf("%.40q: %v", test.greeting, err)
			}
			continue
		}
		if c != nil || !errors.Is(err, test.want) && !hasType(err, test.want) {
			t.Errorf("%.40q: error %v (%T), want %T", test.greeting, err, err, test.want)
		}
	}
}

func TestGreetingRefused(t *testing.T) {
	_, err := pop3proto.NewClient(t.Context(), &scriptConn{src: strings.NewReader("-ERR [IN-USE] too many\r\n")}, nil)
	if want := `server refused the connection [IN-USE]: "too many"`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// hasType reports whether err wraps an error of want's type.
func hasType(err, want error) bool {
	switch want.(type) {
	case *pop3proto.ReplyError:
		var e *pop3proto.ReplyError
		return errors.As(err, &e)
	case *pop3proto.ProtocolError:
		var e *pop3proto.ProtocolError
		return errors.As(err, &e)
	}
	return false
}

// TestUnsolicited checks that the client is broken when the server sends a reply too many,
// which could be taken for the reply to the next command.
func TestUnsolicited(t *testing.T) {
	ctx := t.Context()
	c, _ := newClient(t, nil, "+OK\r\n+OK forged\r\n")
	if err := c.Noop(ctx); err != nil {
		t.Fatal(err)
	}
	wantProtocolError(t, c, c.Noop(ctx))

	c, conn := newPipeliningClient(t, nil, "+OK\r\na\r\n.\r\n+OK forged\r\nforged\r\n.\r\n")
	got, err := retrieve(ctx, c, 1)
	if err != nil || !slices.Equal(got, []string{"a\r\n"}) {
		t.Errorf("got %q, %v", got, err)
	}
	marked, _, err := c.DeleteAndQuit(ctx, slices.Values([]int{1}))
	if len(marked) != 0 {
		t.Error("a forged reply was accepted")
	}
	wantProtocolError(t, c, err)
	if len(conn.writes) != 1 {
		t.Errorf("writes %q, want only RETR", conn.writes)
	}

	// The password is not sent after two replies to USER.
	c, conn = newClient(t, nil, "+OK\r\n+OK forged\r\n")
	wantProtocolError(t, c, c.Login(ctx, "joe", "open sesame"))
	if !slices.Equal(conn.writes, []string{"USER joe\r\n"}) {
		t.Errorf("writes %q, want only USER", conn.writes)
	}

	// QUIT is not sent either.
	c, conn = newClient(t, nil, "+OK\r\n+OK forged\r\n")
	if err := c.Noop(ctx); err != nil {
		t.Fatal(err)
	}
	wantProtocolError(t, c, c.Quit(ctx))
	if len(conn.writes) != 1 {
		t.Errorf("writes %q, want only NOOP", conn.writes)
	}
}

func TestOddReplies(t *testing.T) {
	for _, reply := range []string{"", " +OK", "OK", "+", "+OKAY", "-ERROR", "* OK", "+OK a\nb"} {
		c, _ := newClient(t, nil, reply+"\r\n")
		wantProtocolError(t, c, c.Noop(t.Context()))
	}
	for _, reply := range []string{"+OK", "+ok", "+Ok\tdone", "+OK: done"} {
		c, _ := newClient(t, nil, reply+"\r\n")
		if err := c.Noop(t.Context()); err != nil {
			t.Errorf("%q: %v", reply, err)
		}
	}
}

func TestReplyError(t *testing.T) {
	const offered = "+OK\r\nRESP-CODES\r\n.\r\n"
	for _, test := range []struct {
		caps, reply, code, text string
	}{
		{offered, "-ERR [IN-USE] Do you have another POP session running?", "IN-USE", "Do you have another POP session running?"},
		{offered, "-err [sys/temp]", "SYS/TEMP", ""},
		{offered, "-ERR [X-NEW/two] words", "X-NEW/TWO", "words"},
		{offered, "-ERR [not a code] words", "", "[not a code] words"},
		{offered, "-ERR [] words", "", "[] words"},
		{offered, "-ERR [AUTH", "", "[AUTH"},
		{offered, "-ERR see [AUTH]", "", "see [AUTH]"},
		{"-ERR\r\n", "-ERR [AUTH] wrong", "AUTH", "wrong"},
		{"-ERR\r\n", "-ERR [192.0.2.1] go away", "", "[192.0.2.1] go away"},
		{"-ERR\r\n", "-ERR[LOGIN-DELAY] wait", "LOGIN-DELAY", "wait"},
		{"-ERR\r\n", "-ERR " + strings.Repeat("x", 4000), "", strings.Repeat("x", 200) + "..."},
	} {
		c, _ := newClient(t, nil, test.caps, test.reply+"\r\n", "+OK\r\n")
		if _, err := c.Capabilities(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := c.Noop(t.Context())
		want := pop3proto.ReplyError{Verb: "NOOP", Code: pop3proto.ReplyCode(test.code), Text: test.text}
		var refused *pop3proto.ReplyError
		if !errors.As(err, &refused) || *refused != want {
			t.Errorf("%.60q: got %+v, want %+v", test.reply, refused, want)
		}
		if err := c.Noop(t.Context()); err != nil {
			t.Errorf("the session did not go on: %v", err)
		}
	}
	err := &pop3proto.ReplyError{Verb: "PASS", Code: pop3proto.CodeAuth, Text: "no\x1b[31m"}
	if got, want := err.Error(), `server refused PASS [AUTH]: "no\x1b[31m"`; got != want {
		t.Errorf("text %s, want %s", got, want)
	}
}

func TestCapabilities(t *testing.T) {
	c, _ := newClient(t, nil,
		"+OK\r\ntop\r\nSASL plain CRAM-MD5\r\nSASL LOGIN\r\nLogin-Delay 900 USER\r\nEXPIRE NEVER\r\n\r\nIMPLEMENTATION Some server 1.2\r\n.\r\n",
		"+OK\r\nLOGIN-DELAY soon\r\n.\r\n",
		"-ERR what?\r\n")
	caps, err := c.Capabilities(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !caps.Has("Top") || caps.Has("UIDL") || len(caps.Lines()) != 6 || caps.Lines()[0] != "TOP" {
		t.Errorf("capabilities %q", caps.Lines())
	}
	if got := caps.SASL(); !slices.Equal(got, []string{"PLAIN", "CRAM-MD5", "LOGIN"}) {
		t.Errorf("SASL %q", got)
	}
	if d, ok := caps.LoginDelay(); d != 15*time.Minute || !ok {
		t.Errorf("login delay %v, %v", d, ok)
	}
	caps, err = c.Capabilities(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d, ok := caps.LoginDelay(); ok {
		t.Errorf("login delay %v, want none", d)
	}
	if caps, err = c.Capabilities(t.Context()); err != nil || len(caps.Lines()) != 0 {
		t.Errorf("refused CAPA: %v, %v", caps, err)
	}

	lines := []string{"TOP", "SASL PLAIN", "PIPELINING", ""}
	assumed := pop3proto.ParseCapabilities(lines)
	if got := assumed.Lines(); !slices.Equal(got, lines[:3]) || !assumed.Equal(pop3proto.ParseCapabilities(got)) || assumed.Equal(caps) {
		t.Errorf("lines %q", got)
	}
	c, conn := newClient(t, nil, "+OK 0 0\r\n", "+OK\r\n.\r\n", "+OK\r\n.\r\n")
	c.Assume(assumed)
	if _, err := c.List(t.Context()); err != nil || len(conn.writes) != 1 {
		t.Errorf("%v; writes %q, want one with all commands", err, conn.writes)
	}

	flood := "+OK\r\n" + strings.Repeat("X\r\n", 100_000)
	c, _ = newClient(t, nil, flood)
	_, err = c.Capabilities(t.Context())
	wantProtocolError(t, c, err)
}

// commands are all methods that send a command, by its verb.
var commands = map[string]func(context.Context, *pop3proto.Client) error{
	"CAPA": func(ctx context.Context, c *pop3proto.Client) error { _, err := c.Capabilities(ctx); return err },
	"STLS": func(ctx context.Context, c *pop3proto.Client) error { return c.StartTLS(ctx, nil) },
	"USER": func(ctx context.Context, c *pop3proto.Client) error { return c.Login(ctx, "joe", "secret") },
	"APOP": func(ctx context.Context, c *pop3proto.Client) error { return c.APOP(ctx, "joe", "secret") },
	"UTF8": func(ctx context.Context, c *pop3proto.Client) error { return c.UTF8(ctx) },
	"AUTH": func(ctx context.Context, c *pop3proto.Client) error {
		return c.Authenticate(ctx, sasl.NewPlainClient("", "joe", "secret"))
	},
	"LIST": func(ctx context.Context, c *pop3proto.Client) error { _, err := c.List(ctx); return err },
	"RETR": func(ctx context.Context, c *pop3proto.Client) error { _, err := retrieve(ctx, c, 3); return err },
	"TOP": func(ctx context.Context, c *pop3proto.Client) error {
		for _, err := range c.Top(ctx, numberedEntries(1), 0) {
			if err != nil {
				return err
			}
		}
		return nil
	},
	"DELE": func(ctx context.Context, c *pop3proto.Client) error {
		_, _, err := c.DeleteAndQuit(ctx, slices.Values([]int{1, 2}))
		return err
	},
	"NOOP": func(ctx context.Context, c *pop3proto.Client) error { return c.Noop(ctx) },
	"QUIT": func(ctx context.Context, c *pop3proto.Client) error { return c.Quit(ctx) },
}

// TestCommandsObeyContext cancels the context of each command: before the command is
// called, and while the server is silent, whether or not it has read the command.
func TestCommandsObeyContext(t *testing.T) {
	for verb, call := range commands {
		for _, reads := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/%v", verb, reads), func(t *testing.T) {
				client, server := net.Pipe()
				defer server.Close()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() {
					io.WriteString(server, "+OK <1@x>\r\n")
					if reads {
						server.Read(make([]byte, 1000))
					}
					cancel()
				}()
				c, err := pop3proto.NewClient(t.Context(), client, nil)
				if err != nil {
					t.Fatal(err)
				}
				err = call(ctx, c)
				if !errors.Is(err, context.Canceled) {
					t.Errorf("error %v, want context.Canceled", err)
				}
				if reads {
					wantBroken(t, c, err, context.Canceled)
				}
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			})
		}

		c, conn := newClient(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := call(ctx, c)
		if verb == "APOP" {
			continue // no timestamp here
		}
		if !errors.Is(err, context.Canceled) || errors.Is(err, pop3proto.ErrBroken) {
			t.Errorf("%s: error %v, want only context.Canceled", verb, err)
		}
		if len(conn.writes) > 0 {
			t.Errorf("%s was sent", verb)
		}
	}

	client, server := net.Pipe()
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := pop3proto.NewClient(ctx, client, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("greeting: error %v", err)
	}
}

// TestContextIsForOneCommand checks that a context that is cancelled after its command
// does not affect the next command.
func TestContextIsForOneCommand(t *testing.T) {
	const times = 300
	client, server := loopback(t)
	go runTranscript(server, "S: +OK\n"+strings.Repeat("C: NOOP\nS: +OK\n", times))
	c, err := pop3proto.NewClient(t.Context(), client, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range times {
		ctx, cancel := context.WithCancel(t.Context())
		err := c.Noop(ctx)
		go cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestSilence(t *testing.T) {
	for verb, call := range commands {
		conn := &scriptConn{src: strings.NewReader("+OK <1@x>\r\n"), silent: true}
		c, err := pop3proto.NewClient(t.Context(), conn, &pop3proto.Options{Timeout: 1500 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		err = call(t.Context(), c)
		want := "no answer from server for 1.5s"
		if _, ok := errors.AsType[*pop3proto.CapabilitiesError](err); ok != (verb == "CAPA") {
			t.Errorf("%s: error %#v", verb, err)
		} else if ok {
			want += ", when it was asked what it can do (CAPA)"
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.Is(err, pop3proto.ErrBroken) || err.Error() != want {
			t.Errorf("%s: error %v", verb, err)
		}
	}

	// The same with a real socket.
	client, _ := loopback(t)
	_, err := pop3proto.NewClient(t.Context(), client, &pop3proto.Options{Timeout: time.Millisecond})
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("greeting: error %v", err)
	}
}

func TestCloseInterrupts(t *testing.T) {
	client, server := loopback(t)
	go func() {
		io.WriteString(server, greeting)
	}()
	c, err := pop3proto.NewClient(t.Context(), client, nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		server.Read(make([]byte, 100))
		c.Close()
	}()
	wantBroken(t, c, c.Noop(t.Context()), net.ErrClosed)
	if err := c.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}

func TestQuit(t *testing.T) {
	c, conn := newClient(t, nil, "-ERR some deleted messages not removed\r\n")
	var refused *pop3proto.ReplyError
	if err := c.Quit(t.Context()); !errors.As(err, &refused) || refused.Verb != "QUIT" {
		t.Errorf("error %v", err)
	}
	if !slices.Equal(conn.writes, []string{"QUIT\r\n"}) {
		t.Errorf("writes %q", conn.writes)
	}
	c, _ = newClient(t, nil, "")
	wantBroken(t, c, c.Quit(t.Context()), io.ErrUnexpectedEOF)
}

// TestLeave checks that Leave does not wait for the reply to QUIT.
func TestLeave(t *testing.T) {
	client, server := loopback(t)
	go server.Write([]byte(greeting))
	c, err := pop3proto.NewClient(t.Context(), client, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	if sent, err := io.ReadAll(server); string(sent) != "QUIT\r\n" || err != nil {
		t.Errorf("the server received %q, %v", sent, err)
	}
	wantBroken(t, c, c.Noop(t.Context()), net.ErrClosed)
}

func FuzzReply(f *testing.F) {
	for _, seed := range []string{"+OK", "-ERR [AUTH] no", "-ERR [SYS/TEMP", "+ abc", "-err\t[]", "-ERR[[]", "", "+OK\r\n+OK"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data string) {
		c, _ := newClient(t, nil, "+OK\r\nRESP-CODES\r\n.\r\n", data+"\r\n")
		if _, err := c.Capabilities(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := c.Noop(t.Context())
		var refused *pop3proto.ReplyError
		switch {
		case err == nil:
			if !strings.EqualFold(data[:3], "+OK") {
				t.Errorf("%q was taken for +OK", data)
			}
		case errors.As(err, &refused):
			if !strings.EqualFold(data[:4], "-ERR") {
				t.Errorf("%q was taken for -ERR", data)
			}
			if len(refused.Text) > 203 || strings.ContainsAny(string(refused.Code), " ]\r\n\t") || string(refused.Code) != strings.ToUpper(string(refused.Code)) {
				t.Errorf("%q: %#v", data, refused)
			}
		case !errors.Is(err, pop3proto.ErrBroken):
			t.Errorf("%q: error %v", data, err)
		}
		if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) {
			t.Errorf("%q: control characters in error %q", data, err)
		}
	})
}
