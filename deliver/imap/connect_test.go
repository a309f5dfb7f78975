package imap_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/imap"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/channel/channeltest"
)

// certificate returns a certificate for example.com, and who trusts it.
func certificate() (tls.Certificate, *x509.CertPool) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s.TLS.Certificates[0], roots
}

func TestTLS(t *testing.T) {
	cert, roots := certificate()
	for name, security := range map[string]remote.Security{"implicit": remote.ImplicitTLS, "STARTTLS": remote.StartTLS} {
		t.Run(name, func(t *testing.T) {
			m := serveTLS(t, security, &tls.Config{Certificates: []tls.Certificate{cert}}, goimap.CapUIDPlus, goimap.CapLiteralPlus)
			o := options(m.addr, durable.OS, t.TempDir())
			o.Server.Security = security
			o.Server.TLS = &tls.Config{RootCAs: roots, ServerName: "example.com"}
			message := letter("a", 100_000)
			put(t, open(t, o), message)
			if got := m.texts(); len(got) != 1 || got[0] != message {
				t.Errorf("%d messages arrived", len(got))
			}

			o.Server.TLS = &tls.Config{RootCAs: roots, ServerName: "example.org"}
			_, err := open(t, o).Begin(t.Context())
			if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultOperator || e.Hint == "" {
				t.Errorf("a certificate for another name: %v", err)
			}
		})
	}
}

// A server that hangs up before it greets is not offered the TLS session that it did it on.
func TestSessionInVain(t *testing.T) {
	cert, roots := certificate()
	channeltest.CheckNotResumed(t, cert, func(addr string) func() error {
		o := options(addr, durable.OS, t.TempDir())
		o.Server.Security, o.Server.TLS = remote.ImplicitTLS, channel.Trust{}.Config(addr, channel.NewSessions(t.TempDir()))
		o.Server.TLS.RootCAs = roots
		s := open(t, o)
		return func() error { _, err := s.Begin(t.Context()); return err }
	})
}

// TestReconnect has the server hang up between batches.
func TestReconnect(t *testing.T) {
	m := serve(t, goimap.CapUIDPlus)
	connections := func() []net.Conn {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.conns
	}
	s := open(t, options(m.addr, durable.OS, t.TempDir()))
	put(t, s, letter("a", 1))
	put(t, s, letter("b", 1))
	conns := connections()
	if len(conns) != 1 {
		t.Errorf("%d connections for two batches", len(conns))
	}
	conns[0].Close()
	put(t, s, letter("c", 1))
	if got, n := m.texts(), len(connections()); len(got) != 3 || n != 2 {
		t.Errorf("%d messages over %d connections", len(got), n)
	}
}

func TestNew(t *testing.T) {
	for _, o := range []imap.Options{
		{Folder: "a\nb"}, {Folder: "\xff"}, {Folder: strings.Repeat("x", 501)},
		{Flags: []string{""}}, {Flags: []string{`\Recent`}}, {Flags: []string{"a b"}}, {Flags: []string{"ä"}},
		{Flags: []string{`\*`}}, {Flags: []string{strings.Repeat("x", 500)}},
	} {
		_, err := imap.New(o)
		if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultOperator || e.Hint == "" || len(err.Error()) > 500 {
			t.Errorf("folder %.20q, flags %.20q: %v", o.Folder, o.Flags, err)
		}
	}
}

// A connection that nothing needs is given back, in time or at Close, and one
// that is used after Close is not kept.
func TestIdle(t *testing.T) {
	for name, after := range map[string]func(*testing.T, *imap.Sink, string){
		"idle":  func(*testing.T, *imap.Sink, string) {},
		"close": func(_ *testing.T, s *imap.Sink, _ string) { s.Close() },
		"settle after close": func(t *testing.T, s *imap.Sink, token string) {
			s.Close()
			if v, err := s.Settle(t.Context(), token); v != deliver.Landed || err != nil {
				t.Errorf("Settle = %v, %v", v, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := serve(t, goimap.CapUIDPlus)
			o := options(m.addr, durable.OS, t.TempDir())
			if o.Idle = time.Hour; name == "idle" {
				o.Idle = time.Millisecond
			}
			s := open(t, o)
			b, promises := stage(t, s, letter("a", 100))
			if _, err := commit(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			after(t, s, promises[0].Token)
			m.wait()
		})
	}
}
