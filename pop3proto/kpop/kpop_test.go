package kpop_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/credentials"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/kpop"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

// TestKPOP opens connections to krb5_recvauth of MIT's library, with tickets
// of a real KDC, and what stands in their way.
func TestKPOP(t *testing.T) {
	r := servertest.NewRealm(t)
	t.Setenv("KRB5_CONFIG", r.File("krb5.conf"))
	cache := r.NewCache("cache")
	pop := pop3test.New(pop3test.Options{})
	pop.Account("alice", "alice").Add("1", []byte("Subject: one\n\n"))
	if err := pop.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pop.Close() })
	passed := make(chan string, 8)
	addr := servertest.KPOP(t, r, r.File("pop.keytab"), pop.Addr(), func(principal string) { passed <- principal })
	byCache := kpop.Options{Host: "localhost", Kerberos: mech.Kerberos{Cache: cache}}

	for name, o := range map[string]kpop.Options{
		"cache":  byCache,
		"keytab": {Host: "localhost", User: "alice", Kerberos: mech.Kerberos{Keytab: r.File("alice.keytab")}},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, addr)
			if err := kpop.Authenticate(t.Context(), conn, o); err != nil {
				t.Fatal(err)
			}
			if principal := <-passed; principal != "alice@EXAMPLE.ORG" {
				t.Errorf("the server sees %q", principal)
			}
			c, err := pop3proto.NewClient(t.Context(), conn, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Login(t.Context(), "alice", "alice"); err != nil {
				t.Fatal(err)
			}
			if err := c.Quit(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}

	t.Run("the connection is cut", func(t *testing.T) {
		// What the server sends: 0, four bytes of zero, a length, a proof.
		replies := record(t, addr, byCache)
		if len(replies) < 50 {
			t.Fatalf("the server sends %d bytes", len(replies))
		}
		for n := range replies {
			conn := answering(t, replies[:n])
			err := kpop.Authenticate(t.Context(), conn, byCache)
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.ErrClosedPipe) {
				t.Fatalf("cut after %d bytes: %v", n, err)
			}
		}
		// Another time's proof is none.
		if err := kpop.Authenticate(t.Context(), answering(t, replies), byCache); !errors.Is(err, mech.ErrUnproven) {
			t.Errorf("a proof that is not for this request: %v", err)
		}
	})

	t.Run("the server is silent", func(t *testing.T) { silence(t, byCache) })

	t.Run("the server has another key", func(t *testing.T) {
		r.Admin("addprinc -randkey pop/old")
		r.Admin("ktadd -k " + r.File("old.keytab") + " pop/old")
		addr := servertest.KPOP(t, r, r.File("old.keytab"), pop.Addr(), nil)
		refusal(t, kpop.Authenticate(t.Context(), dial(t, addr), byCache), "operator")
	})

	t.Run("the server's key has changed", func(t *testing.T) {
		// The ticket is in the cache, and was made for the key before.
		kinit := r.NewCache("before")
		o := kpop.Options{Host: "localhost", Kerberos: mech.Kerberos{Cache: kinit}}
		r.Run("kvno", "-c", kinit, "pop/localhost")
		r.Admin("ktadd -k " + r.File("new.keytab") + " pop/localhost")
		t.Cleanup(func() { r.Admin("ktadd -k " + r.File("pop.keytab") + " pop/localhost") })
		addr := servertest.KPOP(t, r, r.File("new.keytab"), pop.Addr(), nil)
		refusal(t, kpop.Authenticate(t.Context(), dial(t, addr), o), "keytab")
	})

	t.Run("no ticket", func(t *testing.T) {
		for name, c := range map[string]struct {
			o    kpop.Options
			hint string
		}{
			"no cache":       {kpop.Options{Host: "localhost", Kerberos: mech.Kerberos{Cache: r.File("none")}}, "kinit"},
			"a stranger":     {kpop.Options{Host: "localhost", User: "bob", Kerberos: mech.Kerberos{Keytab: r.File("alice.keytab")}}, "user"},
			"another server": {kpop.Options{Host: "elsewhere", Kerberos: mech.Kerberos{Cache: cache}}, "server must be the name"},
			"it ran out":     {kpop.Options{Host: "localhost", Kerberos: mech.Kerberos{Cache: expired(t, r)}}, "kinit"},
		} {
			err := kpop.Authenticate(t.Context(), answering(t, nil), c.o)
			e, ok := errors.AsType[*mech.TicketError](err)
			if !ok || e.Temporary() || !strings.Contains(e.Hint(), c.hint) || strings.Contains(err.Error(), "Root cause") {
				t.Errorf("%s: error %v", name, err)
			} else {
				t.Logf("%s: %v (%s)", name, e, e.Hint())
			}
		}
	})
}

// silence leaves a server that says nothing.
func silence(t *testing.T, o kpop.Options) {
	client, server := net.Pipe()
	defer client.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	go func() {
		_, _ = server.Read(make([]byte, 64)) // it waits for the answer now
		cancel(enough)
		_, _ = io.Copy(io.Discard, server)
	}()
	if err := kpop.Authenticate(ctx, client, o); !errors.Is(err, enough) {
		t.Errorf("error %v", err)
	}
}

// expired returns a cache whose ticket has run out.
func expired(t *testing.T, r *servertest.Realm) string {
	t.Helper()
	path := r.NewCache("expired")
	cache, err := credentials.LoadCCache(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seconds := func(at time.Time) []byte { return binary.BigEndian.AppendUint32(nil, uint32(at.Unix())) }
	for _, cred := range cache.GetEntries() {
		text = bytes.ReplaceAll(text, seconds(cred.EndTime), seconds(time.Now().Add(-time.Hour)))
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func refusal(t *testing.T, err error, hint string) {
	t.Helper()
	e, ok := errors.AsType[*kpop.RefusedError](err)
	if !ok || !strings.Contains(e.Hint(), hint) {
		t.Errorf("error %v, want a refusal with the hint %q", err, hint)
		return
	}
	t.Logf("%v (%s)", e, e.Hint())
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// tap records what is read through it.
type tap struct {
	net.Conn
	read []byte
}

func (c *tap) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read = append(c.read, b[:n]...)
	return n, err
}

// record returns what a server says to a client that it lets in.
func record(t *testing.T, addr string, o kpop.Options) []byte {
	t.Helper()
	conn := &tap{Conn: dial(t, addr)}
	if err := kpop.Authenticate(t.Context(), conn, o); err != nil {
		t.Fatal(err)
	}
	return conn.read
}

// answering returns a connection to a server that says the same to all, and
// hangs up.
func answering(t *testing.T, reply []byte) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	go func() {
		go func() { _, _ = io.Copy(io.Discard, server) }()
		_, _ = server.Write(reply)
		server.Close()
	}()
	t.Cleanup(func() { client.Close() })
	return client
}

// ticket is an exchange that takes any proof.
type ticket struct{}

func (ticket) Request() ([]byte, error) { return []byte("request"), nil }
func (ticket) Verify([]byte) error      { return nil }

// TestGarbage talks to servers that speak something else, or lie.
func TestGarbage(t *testing.T) {
	for name, reply := range map[string]string{
		"a POP3 server":              "+OK POP3 ready\r\n",
		"another sendauth":           "\x01",
		"another application":        "\x02",
		"a length of four gigabytes": "\x00\xff\xff\xff\xff",
		"a length of 16 KiB and one": "\x00\x00\x00\x40\x01",
		"no Kerberos message":        "\x00\x00\x00\x00\x05hello",
		"a proof without end":        "\x00\x00\x00\x00\x00\x80\x00\x00\x00",
	} {
		if err := kpop.Sendauth(answering(t, []byte(reply)), ticket{}); !errors.Is(err, kpop.ErrNotKPOP) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// refusing returns what a server sends that does not want a ticket.
func refusing(tb testing.TB, code int32, text string) []byte {
	tb.Helper()
	refusal := messages.NewKRBError(types.PrincipalName{NameString: []string{"pop", "x"}}, "X", code, text)
	message, err := refusal.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		code       int32
		text, said string // what the server says of it, what is made of that
		hint       string
	}{
		{errorcode.KRB_AP_ERR_SKEW, "Clock skew too great\x00", `Clock skew too great`, "clock"},
		{errorcode.KRB_AP_ERR_TKT_EXPIRED, "", "KRB_AP_ERR_TKT_EXPIRED", "kinit"},
		{errorcode.KRB_ERR_GENERIC, strings.Repeat("x", 5000), strings.Repeat("x", 200) + `"`, "operator"},
		{errorcode.KRB_AP_ERR_MODIFIED, "\x1b[2J", `"\x1b[2J"`, "keytab"},
	} {
		err := kpop.Sendauth(answering(t, refusing(t, c.code, c.text)), ticket{})
		refusal(t, err, c.hint)
		if err != nil && !strings.Contains(err.Error(), c.said) {
			t.Errorf("error %v, want %s in it", err, c.said)
		}
	}
}

func FuzzSendauth(f *testing.F) {
	f.Add([]byte("+OK"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\x02ok"))
	f.Add([]byte("\x00\x00\x00\x00\x02no"))
	f.Add(refusing(f, errorcode.KRB_AP_ERR_SKEW, "skew"))
	f.Fuzz(func(t *testing.T, reply []byte) {
		in := bytes.NewReader(reply)
		conn := struct {
			io.Reader
			io.Writer
		}{in, io.Discard}
		if err := kpop.Sendauth(conn, ticket{}); err == nil && !bytes.HasPrefix(reply, make([]byte, 5)) {
			t.Errorf("%q is taken for a welcome", reply)
		}
	})
}
