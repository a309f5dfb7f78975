package fetch_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/kpop"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

// TestKPOP polls a server that uses krb5_recvauth of MIT's library.
func TestKPOP(t *testing.T) {
	k := servertest.NewRealm(t)
	t.Setenv("KRB5_CONFIG", k.File("krb5.conf"))
	r := newRig(t, pop3test.Behaviour{})
	r.server.Account("alice", "alice")
	front := servertest.KPOP(t, k, k.File("pop.keytab"), r.server.Addr(), nil)
	r.drop = r.server.Account("alice", "alice")
	want := r.fill(2)

	s := &r.account.Server
	through := func(addr string) {
		host, port, _ := net.SplitHostPort(addr)
		s.Host = host
		s.Port, _ = strconv.Atoi(port)
	}
	through(front)
	r.account.User, r.account.Secret = "alice", nil
	s.KPOP = &kpop.Options{Host: "localhost", User: "alice", Kerberos: mech.Kerberos{Keytab: k.File("alice.keytab")}}
	r.mustPoll()
	r.expectDelivered(want...)
	if in := eventsOf[fetch.LoggedIn](r); len(in) != 1 || in[0].Mechanism != "kpop" {
		t.Errorf("logged in: %v", in)
	}

	for _, c := range []struct {
		name  string
		spoil func()
		class fetch.Class
		hint  string
	}{
		{"another's maildrop", func() { r.account.User = "bob" }, fetch.ClassOperator,
			"the server does not let the owner of the ticket into this maildrop: check user"},
		{"no ticket", func() { s.KPOP.Kerberos = mech.Kerberos{Cache: k.File("none")} }, fetch.ClassOperator,
			"run kinit, or name a keytab"},
		{"no KDC", func() { t.Setenv("KRB5_CONFIG", noKDC(t, k)) }, fetch.ClassRetry,
			"the KDC did not answer: check krb5.conf and the network"},
		{"no KPOP", func() { through(r.server.Addr()) }, fetch.ClassOperator,
			"is this where the provider has KPOP? protocol: pop3 is for a server without Kerberos"},
	} {
		account, server, options := *r.account, *s, *s.KPOP
		r.account.Name = "new" // has never worked
		c.spoil()
		sum := r.poll()
		if sum.Class != c.class || fetch.Hint(sum.Err) != c.hint {
			t.Errorf("%s: %v: %v (%s)", c.name, sum.Class, sum.Err, fetch.Hint(sum.Err))
		}
		if _, ok := errors.AsType[*fetch.LoginError](sum.Err); !ok {
			t.Errorf("%s: error %v", c.name, sum.Err)
		}
		*r.account, *s = account, server
		s.KPOP = &options
		t.Setenv("KRB5_CONFIG", k.File("krb5.conf"))
	}
	s.Port = 0
	if addr := s.Addr(); addr != "127.0.0.1:1109" {
		t.Errorf("the port is that of %s", addr)
	}
}

// noKDC returns a krb5.conf that names a KDC which does not run.
func noKDC(t *testing.T, k *servertest.Realm) string {
	t.Helper()
	text, err := os.ReadFile(k.File("krb5.conf"))
	check(t, err)
	path := filepath.Join(t.TempDir(), "krb5.conf")
	check(t, os.WriteFile(path, kdcAddr.ReplaceAll(text, []byte("kdc = 127.0.0.1:9")), 0o600))
	return path
}

var kdcAddr = regexp.MustCompile(`kdc = 127.*`)
