package imap_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

// Dovecot lets us in by every mechanism that it has, and by the command LOGIN,
// which auth restricts as it does mechanisms.
func TestDovecotMechanisms(t *testing.T) {
	r := servertest.NewRealm(t)
	r.Admin("addprinc -randkey imap/localhost")
	r.Admin("ktadd -k " + r.File("pop.keytab") + " imap/localhost")
	r.Admin("addprinc -randkey me")
	r.Admin("ktadd -k " + r.File("me.keytab") + " me")
	names := []string{"gssapi", "scram-sha-256", "scram-sha-1", "plain", "login", "cram-md5", "digest-md5"}
	d := startDovecot(t, "auth_krb5_keytab = "+r.File("pop.keytab")+"\nauth_gssapi_hostname = localhost\nimport_environment = TZ KRB5_CONFIG="+r.File("krb5.conf")+
		"\nauth_username_format = %n@example.org\n", names...)
	check := func(t *testing.T, auth []string, kerberos bool) error {
		o := options(strings.Replace(d.Addr, "127.0.0.1", "localhost", 1), durable.OS, t.TempDir())
		o.Server.Security, o.Server.Auth = remote.PlainText, auth
		if kerberos {
			o.Server.Kerberos = &mech.Kerberos{Config: r.File("krb5.conf"), Keytab: r.File("me.keytab"), Principal: "me"}
		}
		_, err := open(t, o).Check(t.Context())
		return err
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			if err := check(t, []string{name}, name == "gssapi"); err != nil {
				t.Error(err)
			}
		})
	}
	for _, test := range []struct {
		auth []string
		want bool
	}{{nil, true}, {[]string{"login"}, true}, {[]string{"scram-sha-1", "plain"}, false}} {
		t.Run("none offered, allowed "+strings.Join(test.auth, " "), func(t *testing.T) {
			s := script{caps: ""}
			o := options(s.start(t), durable.OS, t.TempDir())
			o.Server.Security, o.Server.Auth = remote.PlainText, test.auth
			_, err := open(t, o).Begin(t.Context())
			if (err == nil) != test.want {
				t.Errorf("Begin = %v", err)
			}
			if said := s.commands(); strings.Contains(said, "LOGIN") != test.want {
				t.Errorf("the server was sent %q", said)
			}
			if e, ok := errors.AsType[*deliver.Error](err); !test.want && (!ok || e.Fault != deliver.FaultOperator || !strings.Contains(e.Hint, "auth")) {
				t.Errorf("Begin = %v", err)
			}
		})
	}
}
