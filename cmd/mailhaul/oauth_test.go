package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch/oauth/oauthtest"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

// A person logs in once; from then on a real server lets mailhaul in, until
// the access is withdrawn. Then that account needs a person, and others go on.
func TestFetchByOAuth(t *testing.T) {
	p := oauthtest.New(oauthtest.Options{User: "ada@example.org", Rotate: true, Interval: time.Second})
	p.Start()
	t.Cleanup(p.Close)
	server := servertest.Dovecot(t, servertest.DovecotOptions{
		Mechanisms: []string{"plain", "xoauth2", "oauthbearer"}, Introspect: p.URL + "/introspect",
	})
	for _, user := range []string{"ada@example.org", "bob@example.org"} {
		server.AddUser(user, password)
		server.Fill(user, []byte("Subject: hello\n\nHello.\n"))
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
state: state
oauth: { sso: { issuer: %q, client_id: client, client_secret: %s } }
sinks: { home: { maildir: Maildir } }
defaults: { server: %q, tls: starttls, tls_ca: %q }
accounts:
  ada: { user: ada@example.org, oauth: sso, keep: forever, auth: xoauth2 }
  twin: { user: ada@example.org, oauth: sso, keep: forever }
  bob: { user: bob@example.org, password: %s }
`, p.URL, p.Secret(), server.Addr, server.CAFile, password), 0o600); err != nil {
		t.Fatal(err)
	}
	// mailhaul runs a command and returns its exit code and all it says.
	mailhaul := func(args ...string) (int, string) {
		var said bytes.Buffer
		code := run(t.Context(), append([]string{"mailhaul", args[0], "--config", config}, args[1:]...), stdio{&said, &said})
		for _, secret := range append(p.Secrets(), password) {
			if strings.Contains(said.String(), secret) {
				t.Errorf("%s shows a secret:\n%s", args, &said)
			}
		}
		return code, said.String()
	}

	if code, said := mailhaul("login", "--device", "ada"); code != exitOK {
		t.Fatalf("login: exit code %d:\n%s", code, said)
	}
	if code, said := mailhaul("fetch", "-v"); code != exitOK {
		t.Fatalf("fetch: exit code %d:\n%s", code, said)
	}
	mail, err := filepath.Glob(filepath.Join(dir, "Maildir", "new", "*"))
	if err != nil || len(mail) != 3 {
		t.Errorf("%d messages were fetched, want one an account; error %v", len(mail), err)
	}
	if n := p.Refreshes(); n != 1 {
		t.Errorf("%d refreshes for two accounts with one grant", n)
	}
	if code, said := mailhaul("check", "twin"); code != exitOK || !strings.Contains(said, "logged in as ada@example.org by oauthbearer") {
		t.Errorf("check: exit code %d:\n%s", code, said)
	}

	p.Revoke()
	server.Fill("bob@example.org", []byte("Subject: more\n\nMore.\n"))
	code, said := mailhaul("fetch")
	if code != exitPerson || !strings.Contains(said, "run mailhaul login ada") || !strings.Contains(said, "bob:  1 new message") {
		t.Errorf("fetch after the access was withdrawn: exit code %d:\n%s", code, said)
	}
	if code, said := mailhaul("status", "ada"); code != exitOK || !strings.Contains(said, "run mailhaul login ada") {
		t.Errorf("status: exit code %d:\n%s", code, said)
	}

	// Where the provider is in trouble, nobody is needed.
	if code, said := mailhaul("login", "--device", "ada"); code != exitOK {
		t.Fatalf("login: exit code %d:\n%s", code, said)
	}
	p.Next(oauthtest.Status(500))
	if code, said := mailhaul("fetch", "ada"); code != exitRetry {
		t.Errorf("fetch with a provider in trouble: exit code %d:\n%s", code, said)
	}
	if code, said := mailhaul("fetch", "ada"); code != exitOK {
		t.Errorf("fetch: exit code %d:\n%s", code, said)
	}
}
