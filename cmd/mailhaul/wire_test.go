package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// After a reload, token sources of unchanged clients are kept.
func TestSourcesOutliveReloads(t *testing.T) {
	text := `
state: state
oauth: { sso: { token_url: https://sso.example.org/token, device_url: https://sso.example.org/device, client_id: me, client_secret_env: SECRET } }
sinks: { home: { maildir: Maildir } }
accounts:
  ada: { server: pop.example.org, user: ada, oauth: { token_url: https://other.example.org/token, device_url: https://other.example.org/device, client_id: me } }
  bob: { server: pop.example.org, user: bob, oauth: sso }
`
	path := filepath.Join(t.TempDir(), "config.yaml")
	load := func(text string, old *wiring) *wiring {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := loadConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		w, err := rewire(old, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Close)
		return w
	}
	first := load(text, nil)
	if len(first.tokenSources) != 2 {
		t.Fatalf("%d sources", len(first.tokenSources))
	}
	again := load("# read again\n"+text, first)
	if !maps.Equal(first.tokenSources, again.tokenSources) {
		t.Error("the sources of an unchanged configuration are not shared")
	}
	other := load(strings.Replace(text, "SECRET", "OTHER", 1), again)
	same := 0
	for key, s := range other.tokenSources {
		if again.tokenSources[key] == s {
			same++
		}
	}
	if same != 1 || len(other.tokenSources) != 2 {
		t.Errorf("%d of %d sources are shared after one client has changed: %q", same, len(other.tokenSources), slices.Collect(maps.Keys(other.tokenSources)))
	}
}

// IMAP sinks share connections if their server and login are the same, and only then.
func TestSharedLogins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	pin := strings.Repeat("ab", 32)
	_, ca, err := pop3test.Certificate(pop3test.CertOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "ca.pem"), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	err = os.WriteFile(path, []byte(`
state: state
oauth: { sso: { token_url: https://sso.example.org/token, device_url: https://sso.example.org/device, client_id: me } }
sinks:
  one:      { imap: imap.example.org, user: me, password_command: [pass, show, me] }
  folder:   { imap: imap.example.org, user: me, password_command: [pass, show, me], folder: Lists, create_folder: true, flags: ['\Seen'] }
  user:     { imap: imap.example.org, user: you, password_command: [pass, show, me] }
  password: { imap: imap.example.org, user: me, password_command: [pass, show, you] }
  server:   { imap: imap.example.net, user: me, password_command: [pass, show, me] }
  trust:    { imap: imap.example.org, user: me, password_command: [pass, show, me], tls_fingerprint: `+pin+` }
  way:      { imap: imap.example.org, user: me, password_command: [pass, show, me], tunnel: [ssh, gateway] }
  ca:       { imap: imap.example.org, user: him, password: secret, tls_ca: ca.pem, socks5: { server: "localhost:1080" } }
  ca2:      { imap: imap.example.org, user: him, password: secret, tls_ca: ca.pem, socks5: { server: "localhost:1080" }, folder: Lists }
  token:    { imap: imap.example.org, user: her, oauth: sso }
  token2:   { imap: imap.example.org, user: her, oauth: sso, folder: Lists }
accounts:
  ada: { server: pop.example.org, user: ada, password: hunter2, deliver: one }
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := loadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := wire(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	sinks := map[string][]string{}
	for _, s := range cfg.Sinks {
		login := w.sinkLoginID(s.IMAP.Server)
		sinks[login] = append(sinks[login], s.Name)
	}
	var shared []string
	for _, names := range sinks {
		if len(names) > 1 {
			shared = append(shared, strings.Join(names, " "))
		}
	}
	slices.Sort(shared)
	if want := []string{"ca ca2", "one folder", "token token2"}; !slices.Equal(shared, want) {
		t.Errorf("%q share connections, want %q", shared, want)
	}
}
