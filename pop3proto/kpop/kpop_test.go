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

// TestKPOP opens connections to krb5_recvauth of MIT's library, with tickets of a real KDC,
// and checks the errors.
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
	principals := make(chan string, 8)
	addr := servertest.KPOP(t, r, r.File("pop.keytab"), pop.Addr(), func(principal string) { principals <- principal })
	withCache := kpop.Options{Host: "localhost", Kerberos: mech.Kerberos{Cache: cache}}

	for name, o := range map[string]kpop.Options{
		"cache":  withCache,
		"keytab": {Host: "localhost", User: "alice", Kerberos: mech.Kerberos{Keytab: r.File("alice.keytab")}},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, addr)
			if err := kpop.Authenticate(t.Context(), conn, o); err != nil {
				t.Fatal(err)
			}
			if principal := <-principals; principal != "alice@EXAMPLE.ORG" {
				t.Errorf("the server authenticated %q", principal)
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
		// The server sends 0, an empty message, and the proof.
		replies := recordReplies(t, addr, withCache)
		if len(replies) < 50 {
			t.Fatalf("the server sends %d bytes", len(replies))
		}
		for n := range replies {
			conn := dialScript(t, replies[:n])
			err := kpop.Authenticate(t.Context(), conn, withCache)
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.ErrClosedPipe) {
				t.Fatalf("cut after %d bytes: %v", n, err)
			}
		}
		// The proof of an earlier exchange is invalid.
		if err := kpop.Authenticate(t.Context(), dialScript(t, replies), withCache); !errors.Is(err, mech.ErrUnproven) {
			t.Errorf("an old proof: %v", err)
		}
	})

	t.Run("the server is silent", func(t *testing.T) { checkSilence(t, withCache) })

	t.Run("the server has another key", func(t *testing.T) {
		r.Admin("addprinc -randkey pop/old")
		r.Admin("ktadd -k " + r.File("old.keytab") + " pop/old")
		addr := servertest.KPOP(t, r, r.File("old.keytab"), pop.Addr(), nil)
		checkRefusal(t, kpop.Authenticate(t.Context(), dial(t, addr), withCache), "operator")
	})

	t.Run("the server's key has changed", func(t *testing.T) {
		// The ticket in the cache is encrypted with the old key.
		cache := r.NewCache("before")
		o := kpop.Options{Host: "localhost", Kerberos: mech.Kerberos{Cache: cache}}
		r.Run("kvno", "-c", cache, "pop/localhost")
		r.Admin("ktadd -k " + r.File("new.keytab") + " pop/localhost")
		t.Cleanup(func() { r.Admin("ktadd -k " + r.File("pop.keytab") + " pop/localhost") })
		addr := servertest.KPOP(t, r, r.File("new.keytab"), pop.Addr(), nil)
		checkRefusal(t, kpop.Authenticate(t.Context(), dial(t, addr), o), "keytab")
	})

	t.Run("no ticket", func(t *testing.T) {
		for name, c := range map[string]struct {
			o    kpop.Options
			hint string
		}{
			"no cache":       {kpop.Options{Host: "localhost", Kerberos: mech.Kerberos{Cache: r.File("none")}}, "kinit"},
			"unknown user":   {kpop.Options{Host: "localhost", User: "bob", Kerberos: mech.Kerberos{Keytab: r.File("alice.keytab")}}, "user"},
			"another server": {kpop.Options{Host: "elsewhere", Kerberos: mech.Kerberos{Cache: cache}}, "server must be the name"},
			"expired":        {kpop.Options{Host: "localhost", Kerberos: mech.Kerberos{Cache: expiredCache(t, r)}}, "kinit"},
		} {
			err := kpop.Authenticate(t.Context(), dialScript(t, nil), c.o)
			e, ok := errors.AsType[*mech.TicketError](err)
			if !ok || e.Temporary() || !strings.Contains(e.Hint(), c.hint) || strings.Contains(err.Error(), "Root cause") {
				t.Errorf("%s: error %v", name, err)
			} else {
				t.Logf("%s: %v (%s)", name, e, e.Hint())
			}
		}
	})
}

// checkSilence checks that Authenticate obeys its context with a silent server.
func checkSilence(t *testing.T, o kpop.Options) {
	client, server := net.Pipe()
	defer client.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("cancelled")
	go func() {
		_, _ = server.Read(make([]byte, 64)) // the client now waits for the reply
		cancel(cause)
		_, _ = io.Copy(io.Discard, server)
	}()
	if err := kpop.Authenticate(ctx, client, o); !errors.Is(err, cause) {
		t.Errorf("error %v", err)
	}
}

// expiredCache returns a credential cache whose ticket has expired.
func expiredCache(t *testing.T, r *servertest.Realm) string {
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

// checkRefusal checks that err is a RefusedError with a hint that contains hint.
func checkRefusal(t *testing.T, err error, hint string) {
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

// recordingConn records what is read from it.
type recordingConn struct {
	net.Conn
	read []byte
}

func (c *recordingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read = append(c.read, b[:n]...)
	return n, err
}

// recordReplies returns what a server sends in a successful exchange.
func recordReplies(t *testing.T, addr string, o kpop.Options) []byte {
	t.Helper()
	conn := &recordingConn{Conn: dial(t, addr)}
	if err := kpop.Authenticate(t.Context(), conn, o); err != nil {
		t.Fatal(err)
	}
	return conn.read
}

// dialScript returns a connection to a server that sends reply, whatever it receives, and
// hangs up.
func dialScript(t *testing.T, reply []byte) net.Conn {
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

// anyProof is an exchange that accepts any proof.
type anyProof struct{}

func (anyProof) Request() ([]byte, error) { return []byte("request"), nil }
func (anyProof) Verify([]byte) error      { return nil }

// TestNotKPOP has servers of other protocols, and servers that violate KPOP.
func TestNotKPOP(t *testing.T) {
	for name, reply := range map[string]string{
		"a POP3 server":              "+OK POP3 ready\r\n",
		"another sendauth":           "\x01",
		"another application":        "\x02",
		"a length of four gigabytes": "\x00\xff\xff\xff\xff",
		"a length of 16 KiB and one": "\x00\x00\x00\x40\x01",
		"no Kerberos message":        "\x00\x00\x00\x00\x05hello",
		"a proof too long":           "\x00\x00\x00\x00\x00\x80\x00\x00\x00",
	} {
		if err := kpop.Sendauth(dialScript(t, []byte(reply)), anyProof{}); !errors.Is(err, kpop.ErrNotKPOP) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// refusalReply returns what a server sends that refuses a ticket.
func refusalReply(tb testing.TB, code int32, text string) []byte {
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
		code int32
		text string // of the server
		want string // in the error
		hint string
	}{
		{errorcode.KRB_AP_ERR_SKEW, "Clock skew too great\x00", `Clock skew too great`, "clock"},
		{errorcode.KRB_AP_ERR_TKT_EXPIRED, "", "KRB_AP_ERR_TKT_EXPIRED", "kinit"},
		{errorcode.KRB_ERR_GENERIC, strings.Repeat("x", 5000), strings.Repeat("x", 200) + `"`, "operator"},
		{errorcode.KRB_AP_ERR_MODIFIED, "\x1b[2J", `"\x1b[2J"`, "keytab"},
	} {
		err := kpop.Sendauth(dialScript(t, refusalReply(t, c.code, c.text)), anyProof{})
		checkRefusal(t, err, c.hint)
		if err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %s in it", err, c.want)
		}
	}
}

func FuzzSendauth(f *testing.F) {
	f.Add([]byte("+OK"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\x02ok"))
	f.Add([]byte("\x00\x00\x00\x00\x02no"))
	f.Add(refusalReply(f, errorcode.KRB_AP_ERR_SKEW, "skew"))
	f.Fuzz(func(t *testing.T, reply []byte) {
		in := bytes.NewReader(reply)
		conn := struct {
			io.Reader
			io.Writer
		}{in, io.Discard}
		if err := kpop.Sendauth(conn, anyProof{}); err == nil && !bytes.HasPrefix(reply, make([]byte, 5)) {
			t.Errorf("%q is accepted", reply)
		}
	})
}
