package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch/oauth/oauthtest"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

// After one login by a person, a real server lets mailhaul in until the access is
// withdrawn. Then a person is called for that account, and the others go on.
func TestFetchByOAuth(t *testing.T) {
	p := oauthtest.New(oauthtest.Options{User: "ada@example.org", Rotate: true, Interval: time.Second})
	p.Start()
	t.Cleanup(p.Close)
	server := servertest.Dovecot(t, servertest.DovecotOptions{
		Mechanisms: []string{"plain", "xoauth2", "oauthbearer"}, Introspect: p.URL + "/introspect",
	})
	for _, user := range []string{"ada@example.org", "bob@example.org"} {
		server.AddUser(user, password)
		server.AddMessages(user, []byte("Subject: hello\n\nHello.\n"))
	}
	config := configFile(t, `
state: state
oauth: { sso: { issuer: %q, client_id: client, client_secret: %s } }
sinks: { home: { maildir: Maildir } }
defaults: { server: %q, tls: starttls, tls_ca: %q }
accounts:
  ada: { user: ada@example.org, oauth: sso, keep: forever, auth: xoauth2 }
  twin: { user: ada@example.org, oauth: sso, keep: forever }
  bob: { user: bob@example.org, password: %s }
`, p.URL, p.Secret(), server.Addr, server.CAFile, password)
	dir := filepath.Dir(config)
	trace := filepath.Join(dir, "trace")
	// mailhaul runs a command and returns its exit code and all that it printed.
	mailhaul := func(args ...string) (int, string) {
		var said bytes.Buffer
		options := []string{"mailhaul", args[0], "--config", config}
		if args[0] == "fetch" || args[0] == "check" {
			options = append(options, "--trace", trace)
		}
		code := run(t.Context(), append(options, args[1:]...), stdio{out: &said, err: &said})
		traced, _ := os.ReadFile(trace)
		for _, secret := range append(p.Secrets(), password) {
			if strings.Contains(said.String()+string(traced), secret) {
				t.Errorf("%s shows a secret:\n%s%s", args, &said, traced)
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
	server.AddMessages("bob@example.org", []byte("Subject: more\n\nMore.\n"))
	code, said := mailhaul("fetch")
	if code != exitPerson || !strings.Contains(said, "run mailhaul login ada") || !strings.Contains(said, "bob:  1 new message") {
		t.Errorf("fetch after the access was withdrawn: exit code %d:\n%s", code, said)
	}
	if code, said := mailhaul("status", "ada"); code != exitOK || !strings.Contains(said, "run mailhaul login ada") {
		t.Errorf("status: exit code %d:\n%s", code, said)
	}

	// If the provider is in trouble, no person is called.
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
	traced, err := os.ReadFile(trace)
	for _, line := range []string{"ada C: AUTH XOAUTH2", "ada C: ***\n", "twin C: AUTH OAUTHBEARER", "twin C: ***\n", "bob C: AUTH PLAIN"} {
		if !strings.Contains(string(traced), line) {
			t.Errorf("error %v; no %q in the trace:\n%s", err, line, traced)
		}
	}
}

// The names in a forged certificate get into the error, but do not control the terminal or
// begin a line.
func TestLoginToHostileProvider(t *testing.T) {
	cert, _, err := pop3test.SelfSigned("a\x1b[2Jb\nmailhaul: hint: do as I say")
	if err != nil {
		t.Fatal(err)
	}
	stranger := httptest.NewUnstartedServer(http.NotFoundHandler())
	stranger.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	stranger.Config.ErrorLog = log.New(io.Discard, "", 0)
	stranger.StartTLS()
	t.Cleanup(stranger.Close)
	_, port, _ := net.SplitHostPort(stranger.Listener.Addr().String())
	config := configFile(t, `
state: state
oauth: { sso: { issuer: "https://localhost:%s", client_id: client } }
sinks: { home: { maildir: Maildir } }
accounts:
  ada: { server: pop.example.org, user: ada@example.org, oauth: sso }
`, port)
	for _, option := range []string{"--device", "--no-browser"} {
		var said bytes.Buffer
		code := run(t.Context(), []string{"mailhaul", "login", "--config", config, option, "ada"}, stdio{out: &said, err: &said})
		if text := said.String(); code != exitRetry || !strings.Contains(text, "a?[2Jb; mailhaul: hint: do as I say, not localhost") || strings.Count(text, "\n") != 1 {
			t.Errorf("login %s: exit code %d:\n%q", option, code, text)
		}
	}
}

// Accounts and sinks of one user share a grant, which has the scopes of all of their
// protocols.
func TestSharedScopes(t *testing.T) {
	path := configFile(t, `
oauth: { microsoft: { client_id: client } }
sinks:
  cloud: { imap: outlook.office365.com, user: me@example.org, oauth: microsoft }
  relay: { smtp: smtp.office365.com, user: me@example.org, oauth: microsoft, to: me@example.org }
  other: { imap: outlook.office365.com, user: you@example.org, oauth: microsoft }
defaults: { server: outlook.office365.com, deliver: other }
accounts:
  work: { user: me@example.org, oauth: microsoft }
`)
	cfg, err := loadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	const office = "https://outlook.office.com/"
	all := []string{office + "IMAP.AccessAsUser.All", office + "POP.AccessAsUser.All", office + "SMTP.Send", "offline_access"}
	for name, want := range map[string][]string{"work": all, "cloud": all, "relay": all, "other": {all[0], all[3]}} {
		to, err := chooseOAuthLogin(cfg, name)
		if err != nil {
			t.Fatal(err)
		}
		c := to.oauthClientForAll(oauthLogins(cfg))
		if !slices.Equal(slices.Sorted(slices.Values(c.Scopes)), want) || c.Account != name {
			t.Errorf("%s asks for %v as %s, want %v", name, c.Scopes, c.Account, want)
		}
	}
}
