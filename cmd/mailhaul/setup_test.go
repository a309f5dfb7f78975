package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
)

// The file that init writes looks like the one in the README.
func TestSetupText(t *testing.T) {
	s := setup{
		path: "/home/me/.config/mailhaul/config.yaml", name: "work", server: "pop.example.com:110", tls: config.TLSStart,
		user: "me@example.com", typed: password, kind: "lmtp", place: "/run/dovecot/lmtp", to: "me", keep: "forever",
	}
	const want = `# Written by mailhaul init. mailhaul.yaml(5) explains every option, mailhaul
# config show shows it with all defaults, and mailhaul check tries it out.

# Where the mail goes.
sinks:
  home:
    lmtp: /run/dovecot/lmtp
    to: me

# The maildrops to poll.
accounts:
  work:
    server: pop.example.com:110           # STARTTLS, verified
    tls: starttls
    user: me@example.com
    password_file: work.password          # not readable by everyone
    keep: forever                         # never delete mail from the server
`
	if diff := cmp.Diff(want, s.yaml()); diff != "" {
		t.Error(diff)
	}
	if _, err := s.parse(); err != nil {
		t.Error(err)
	}
	if strings.Contains(s.yaml(), password) {
		t.Error("the password is in the configuration")
	}
}

// Whatever is typed is in the file as it was typed, or is refused.
func FuzzSetup(f *testing.F) {
	for _, s := range []string{"me", "~", "null", "- x", "a: b", "a #b", "#", `"'\`, "{a}", "[x]", "@me", "*x", "&x", "!x", "%x", "`x`", "x:", "0123", "yes", "é", "<>&", "\u2028", "a,b", "|", "?", "\x7f", "=", "<<", "..."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return // a prompt does not accept it
		}
		s := setup{path: "/c.yaml", user: text, passwordCommand: "x"}
		cfg, err := s.parse()
		if err != nil {
			if e, ok := err.(*config.Error); !ok || len(e.Problems) != 1 {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if text != "" && cfg.Accounts[0].User != text {
			t.Errorf("%q is %q in\n%s", text, cfg.Accounts[0].User, s.withPlaceholders().yaml())
		}
	})
}

// If the configuration cannot be written, the file of the password is not left behind
// either.
func TestSetupWrite(t *testing.T) {
	dir := t.TempDir()
	s := setup{path: filepath.Join(dir, "config.yaml"), typed: password}.withPlaceholders()
	if err := os.WriteFile(s.path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.write(); err == nil {
		t.Error("it wrote over a file")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("there are %v, %v", entries, err)
	}
	if text, _ := os.ReadFile(s.path); string(text) != "mine" {
		t.Errorf("the file holds %q", text)
	}
}
