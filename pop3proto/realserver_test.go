package pop3proto_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"iter"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"

	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

const (
	realUser = "alice@example.org"
	realPass = "correct horse"
)

// realServer is a real server with the user realUser.
type realServer struct {
	*servertest.Server
	name string
}

// eachRealServer runs a test with every POP3 server of servertest.
func eachRealServer(t *testing.T, test func(*testing.T, realServer)) {
	t.Helper()
	for name, start := range map[string]func(testing.TB) *servertest.Server{
		"dovecot": func(tb testing.TB) *servertest.Server {
			return servertest.Dovecot(tb, servertest.DovecotOptions{Mechanisms: []string{"plain", "login", "apop"}})
		},
		"mailutils": servertest.Mailutils,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := realServer{start(t), name}
			s.AddUser(realUser, realPass)
			test(t, s)
		})
	}
}

// dial returns a client that has read the greeting.
func (s realServer) dial(t *testing.T, opts *pop3proto.Options) *pop3proto.Client {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	return newTestClient(t, conn, opts)
}

func newTestClient(t *testing.T, conn net.Conn, opts *pop3proto.Options) *pop3proto.Client {
	t.Helper()
	c, err := pop3proto.NewClient(t.Context(), conn, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// login returns a client that has logged in and knows the capabilities.
func (s realServer) login(t *testing.T, opts *pop3proto.Options) *pop3proto.Client {
	t.Helper()
	c := s.dial(t, opts)
	if err := c.Login(t.Context(), realUser, realPass); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Capabilities(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRealServerLogin(t *testing.T) {
	eachRealServer(t, func(t *testing.T, s realServer) {
		ctx := t.Context()
		userPass := func(c *pop3proto.Client) error { return c.Login(ctx, realUser, realPass) }
		saslPlain := func(c *pop3proto.Client) error {
			return c.Authenticate(ctx, sasl.NewPlainClient("", realUser, realPass))
		}
		saslLogin := func(c *pop3proto.Client) error {
			return c.Authenticate(ctx, sasl.NewLoginClient(realUser, realPass))
		}
		apop := func(c *pop3proto.Client) error { return c.APOP(ctx, realUser, realPass) }
		wrong := func(c *pop3proto.Client) error { return c.Login(ctx, realUser, "wrong") }

		for _, login := range []struct {
			name    string
			do      func(*pop3proto.Client) error
			works   bool
			dovecot bool // Mailutils has no user database for it
		}{
			{"USER and PASS", userPass, true, false},
			{"PLAIN", saslPlain, true, true},
			{"LOGIN", saslLogin, true, true},
			{"APOP", apop, true, true},
			{"wrong password", wrong, false, false},
		} {
			if login.dovecot && s.name != "dovecot" {
				continue
			}
			check := func(channel string, c *pop3proto.Client) {
				t.Helper()
				err := login.do(c)
				var refused *pop3proto.ReplyError
				switch {
				case login.works && err != nil:
					t.Errorf("%s, %s: %v", login.name, channel, err)
				case !login.works && (!errors.As(err, &refused) || refused.Code != pop3proto.CodeAuth):
					t.Errorf("%s, %s: the error is %v, want a ReplyError with [AUTH]", login.name, channel, err)
				case login.works:
					if _, err := c.List(ctx); err != nil {
						t.Errorf("%s, %s: %v", login.name, channel, err)
					}
				}
				if err := c.Quit(ctx); err != nil {
					t.Errorf("%s, %s: QUIT: %v", login.name, channel, err)
				}
			}

			check("in the clear", s.dial(t, nil))

			c := s.dial(t, nil)
			if err := c.StartTLS(ctx, s.TLSConfig()); err != nil {
				t.Fatal(err)
			}
			if state, ok := c.TLS(); !ok || !state.HandshakeComplete {
				t.Error("no TLS after STLS")
			}
			check("after STLS", c)

			conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.TLSAddr)
			if err != nil {
				t.Fatal(err)
			}
			check("over TLS", newTestClient(t, tls.Client(conn, s.TLSConfig()), nil))
		}
	})
}

func TestRealServerWrongName(t *testing.T) {
	eachRealServer(t, func(t *testing.T, s realServer) {
		cfg := s.TLSConfig()
		cfg.ServerName = "mail.example.org"
		c := s.dial(t, nil)
		var name *tls.CertificateVerificationError
		if err := c.StartTLS(t.Context(), cfg); !errors.As(err, &name) {
			t.Errorf("StartTLS with another name: %v", err)
		}
		if _, err := c.Capabilities(t.Context()); !errors.Is(err, pop3proto.ErrBroken) {
			t.Errorf("after a failed handshake: error %v, want ErrBroken", err)
		}
	})
}

func TestRealServerCapabilities(t *testing.T) {
	eachRealServer(t, func(t *testing.T, s realServer) {
		ctx := t.Context()
		c := s.dial(t, nil)
		before, err := c.Capabilities(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Login(ctx, realUser, realPass); err != nil {
			t.Fatal(err)
		}
		after, err := c.Capabilities(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"USER", "STLS", "UIDL", "TOP", "PIPELINING"} {
			if !before.Has(name) {
				t.Errorf("%s is not offered before the login", name)
			}
		}
		for _, name := range []string{"UIDL", "TOP", "PIPELINING"} {
			if !after.Has(name) {
				t.Errorf("%s is not offered after the login", name)
			}
		}
		if want := []string{"PLAIN", "LOGIN"}; s.name == "dovecot" && !slices.Equal(before.SASL(), want) {
			t.Errorf("SASL mechanisms are %q, want %q", before.SASL(), want)
		}
		// Mailutils offers IMPLEMENTATION only after the login.
		if program := strings.Join(after.Params("IMPLEMENTATION"), " "); s.name == "mailutils" && !strings.Contains(program, "Mailutils") {
			t.Errorf("the implementation is %q, want one with Mailutils", program)
		}
	})
}

// TestRealServerMaildrop retrieves all sample messages, one by one and pipelined, and
// deletes all but one.
func TestRealServerMaildrop(t *testing.T) {
	eachRealServer(t, func(t *testing.T, s realServer) {
		ctx := t.Context()
		want := s.AddMessages(realUser, sampleMessages(t, s)...)

		c := s.login(t, &pop3proto.Options{Window: 1})
		entries := mustList(t, c, want)
		compareMessages(t, "one by one", c.Retrieve(ctx, slices.Values(entries)), want)
		compareHeaders(t, c, entries, want)
		if err := c.Quit(ctx); err != nil {
			t.Fatal(err)
		}

		c = s.login(t, nil)
		again := mustList(t, c, want)
		if !slices.EqualFunc(again, entries, func(a, b pop3proto.Entry) bool { return a.UID == b.UID }) {
			t.Error("a second session lists other unique-ids")
		}
		compareMessages(t, "pipelined", c.Retrieve(ctx, slices.Values(again)), want)

		if n, refused, err := c.DeleteAndQuit(ctx, messageNumbers(len(want)-1)); len(n) != len(want)-1 || refused != nil || err != nil {
			t.Fatalf("%v of %d messages marked: %v, %v", n, len(want)-1, refused, err)
		}
		if left := s.Messages(realUser); len(left) != 1 || !bytes.Equal(left[0], want[len(want)-1]) {
			t.Errorf("%d messages are left, want the last", len(left))
		}
	})
}

// sampleMessages returns the messages in testdata that the server returns unchanged.
func sampleMessages(t *testing.T, s realServer) [][]byte {
	t.Helper()
	files, err := filepath.Glob("../testdata/messages/*.eml")
	if err != nil {
		t.Fatal(err)
	}
	var msgs [][]byte
	for _, file := range files {
		if s.name == "mailutils" && slices.Contains(mangledByMailutils, filepath.Base(file)) {
			continue
		}
		msg, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		msgs = append(msgs, msg)
	}
	if len(msgs) < 40 {
		t.Fatalf("testdata has %d messages only", len(msgs))
	}
	return msgs
}

// mangledByMailutils are messages of which GNU Mailutils 3.15 does not recognise the header,
// or only a part of it, and omits the rest of the header.
var mangledByMailutils = []string{"odd-bad-fields.eml", "odd-header-only.eml", "odd-no-header.eml"}

// mustList returns the entries of the listing. It fails the test unless there is one for
// each message of want.
func mustList(t *testing.T, c *pop3proto.Client, want [][]byte) []pop3proto.Entry {
	t.Helper()
	listing, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !listing.UIDL || listing.Odd != 0 || listing.Count != len(want) || len(listing.Entries) != len(want) {
		t.Fatalf("%d messages listed, %d counted, %d odd lines, want %d",
			len(listing.Entries), listing.Count, listing.Odd, len(want))
	}
	uids := make(map[string]bool)
	for i, e := range listing.Entries {
		if e.Num != i+1 || e.UID == "" || uids[e.UID] || e.Size <= 0 {
			t.Errorf("entry %d is %+v", i+1, e)
		}
		uids[e.UID] = true
	}
	return listing.Entries
}

// compareMessages reads all messages and compares them with want, byte by byte.
func compareMessages(t *testing.T, name string, got iter.Seq2[*pop3proto.Message, error], want [][]byte) {
	t.Helper()
	i := 0
	for m, err := range got {
		if err != nil {
			t.Fatalf("%s: message %d: %v", name, i+1, err)
		}
		body, err := io.ReadAll(m)
		if err != nil {
			t.Fatalf("%s: message %d: %v", name, i+1, err)
		}
		if !bytes.Equal(body, want[i]) {
			t.Errorf("%s: message %d: got %.300q (%d bytes), want %.300q (%d bytes)",
				name, i+1, body, len(body), want[i], len(want[i]))
		}
		i++
	}
	if i != len(want) {
		t.Errorf("%s: %d messages of %d", name, i, len(want))
	}
}

// compareHeaders compares the replies to TOP with the headers of want.
func compareHeaders(t *testing.T, c *pop3proto.Client, entries []pop3proto.Entry, want [][]byte) {
	t.Helper()
	var headers [][]byte
	for _, msg := range want {
		end := len(msg) // a header need not end in a blank line
		if i := bytes.Index(append([]byte("\r\n"), msg...), []byte("\r\n\r\n")); i >= 0 {
			end = i + len("\r\n")
		}
		headers = append(headers, msg[:end])
	}
	compareMessages(t, "TOP", c.Top(t.Context(), slices.Values(entries), 0), headers)
}

// messageNumbers yields the message numbers from 1 to n.
func messageNumbers(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := range n {
			if !yield(i + 1) {
				return
			}
		}
	}
}

// TestRealServerCancel cancels the context in the middle of a message.
func TestRealServerCancel(t *testing.T) {
	eachRealServer(t, func(t *testing.T, s realServer) {
		s.AddMessages(realUser, bytes.Repeat([]byte("Subject: long\n\nA line of a long message.\n"), 50_000))
		c := s.login(t, nil)
		listing, err := c.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for m, err := range c.Retrieve(ctx, slices.Values(listing.Entries)) {
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			if _, err := io.Copy(io.Discard, m); !errors.Is(err, context.Canceled) {
				t.Errorf("reading after the context ended: %v", err)
			}
			break
		}
		if err := c.Noop(t.Context()); !errors.Is(err, pop3proto.ErrBroken) {
			t.Errorf("in the middle of a message: error %v, want ErrBroken", err)
		}
	})
}
