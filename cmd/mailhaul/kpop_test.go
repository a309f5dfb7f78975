package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

// Check reports on an account behind Kerberos, and that the mail is not encrypted.
func TestCheckKPOP(t *testing.T) {
	k := servertest.NewRealm(t)
	t.Setenv("KRB5_CONFIG", k.File("krb5.conf"))
	pop := pop3test.New(pop3test.Options{})
	pop.Account("alice", "alice").Add("1", []byte("Subject: one\n\n"))
	if err := pop.Start(); err != nil {
		t.Fatal(err)
	}
	defer pop.Close()
	_, port, _ := strings.Cut(servertest.KPOP(t, k, k.File("pop.keytab"), pop.Addr(), nil), ":")
	path := configFile(t, `
state: state
sinks: { home: { maildir: Maildir } }
accounts: { campus: { server: "localhost:%s", protocol: kpop, user: alice, kerberos: { keytab: %q } } }
`, port, k.File("alice.keytab"))
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"mailhaul", "check", "--config", path}, stdio{out: &out, err: &errs})
	for _, want := range []string{"not encrypted: Kerberos says who you are", "logged in as alice by kpop", "download 1 ("} {
		if code != exitOK || !strings.Contains(out.String(), want) {
			t.Fatalf("exit code %d, no %q in\n%s%s", code, want, &out, &errs)
		}
	}
}
