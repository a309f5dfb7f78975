package pop3proto_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

// TestRealServerGSSAPI logs in to Dovecot with tickets of a real KDC, from a keytab and from
// a credential cache.
func TestRealServerGSSAPI(t *testing.T) {
	r := servertest.NewRealm(t)
	cache := r.NewCache("cache")
	const user = "alice@example.org"
	s := servertest.Dovecot(t, servertest.DovecotOptions{
		Mechanisms: []string{"gssapi"},
		Config: fmt.Sprintf("auth_krb5_keytab = %s\nauth_gssapi_hostname = localhost\nimport_environment = TZ KRB5_CONFIG=%s\n",
			r.File("pop.keytab"), r.File("krb5.conf")),
	})
	s.AddUser(user, "unused")
	t.Setenv("KRB5_CONFIG", r.File("krb5.conf"))
	t.Setenv("KRB5CCNAME", "FILE:"+cache)

	for name, cred := range map[string]mech.Credentials{
		"keytab":              {User: "alice", Kerberos: mech.Kerberos{Keytab: r.File("alice.keytab")}},
		"keytab, principal":   {Kerberos: mech.Kerberos{Keytab: r.File("alice.keytab"), Principal: "alice@EXAMPLE.ORG"}},
		"cache":               {Kerberos: mech.Kerberos{Config: r.File("krb5.conf"), Cache: cache}},
		"cache of KRB5CCNAME": {},
		"with an authzid":     {Authzid: "alice@EXAMPLE.ORG"},
	} {
		for _, twoSteps := range []bool{false, true} {
			c := dialTLS(t, s.TLSAddr, s.TLSConfig(), nil)
			cred.Host = "localhost"
			m := newMech(t, "gssapi", c, cred)
			if twoSteps {
				m = mech.WithoutInitialResponse(m)
			}
			if err := c.Authenticate(t.Context(), m); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := c.Quit(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}

	t.Run("another user's mail", func(t *testing.T) {
		s.AddUser("bob@example.org", "unused")
		c := dialTLS(t, s.TLSAddr, s.TLSConfig(), nil)
		err := c.Authenticate(t.Context(), newMech(t, "gssapi", c, mech.Credentials{Authzid: "bob@EXAMPLE.ORG", Host: "localhost"}))
		var refused *pop3proto.ReplyError
		if !errors.As(err, &refused) {
			t.Errorf("error %v", err)
		}
	})

	t.Run("no ticket", func(t *testing.T) {
		truncated := r.File("truncated")
		content, err := os.ReadFile(cache)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(truncated, content[:len(content)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		for name, test := range map[string]struct {
			cred mech.Credentials
			want string
		}{
			"no such cache":     {mech.Credentials{Host: "localhost", Kerberos: mech.Kerberos{Cache: r.File("none")}}, "run kinit"},
			"damaged cache":     {mech.Credentials{Host: "localhost", Kerberos: mech.Kerberos{Cache: truncated}}, "run kinit"},
			"cache of a kernel": {mech.Credentials{Host: "localhost", Kerberos: mech.Kerberos{Cache: "KEYRING:x"}}, "not a file"},
			"no such service":   {mech.Credentials{Host: "elsewhere"}, "pop/elsewhere"},
			"no such keytab":    {mech.Credentials{Host: "localhost", Kerberos: mech.Kerberos{Keytab: r.File("none")}}, "keytab"},
			"not in the keytab": {mech.Credentials{Host: "localhost", User: "bob", Kerberos: mech.Kerberos{Keytab: r.File("alice.keytab")}}, "bob@EXAMPLE.ORG"},
			"no krb5.conf":      {mech.Credentials{Host: "localhost", Kerberos: mech.Kerberos{Config: r.File("none")}}, "none"},
		} {
			_, err := mech.New(t.Context(), "gssapi", test.cred)
			if err == nil {
				t.Errorf("%s: no error", name)
			} else if e, ok := errors.AsType[*mech.TicketError](err); !ok || !strings.Contains(err.Error()+"; "+e.Hint(), test.want) || e.Temporary() {
				t.Errorf("%s: error %v, want %q in it or its hint", name, err, test.want)
			}
		}
	})
}
