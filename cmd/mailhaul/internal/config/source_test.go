package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
)

const thorough = `
oauth: { sso: { issuer: "https://sso.example.com", client_id: me } }
sinks:
  home: { maildir: /m }
  lists: { maildir: /lists }
  bad: { maildir: /bad }
  other: { maildir: /other }
defaults: { server: pop.example.com, password_env: X }
accounts:
  work:
    user: me
    deliver: home
    route: { header: Delivered-To, map: { "me@example.com": lists } }
    refused: quarantine
    quarantine: bad
  else: { user: you, deliver: other }
`

// An account is the same unless its own text or something that it refers to changes.
func TestSameAs(t *testing.T) {
	was := load(t, thorough).Account("work")
	for old, test := range map[string]struct {
		new  string
		same bool
	}{
		"\noauth":               {"\n# a comment\n\noauth", true},
		"home: { maildir: /m }": {"home: { maildir: \"/m\" } # as before", true},
		"/other":                {"/another", true},
		"user: you":             {"user: they", true},
		"user: me":              {"user: us", false},
		"maildir: /m }":         {"maildir: /n }", false},
		"/lists":                {"/list", false},
		"/bad":                  {"/worse", false},
		"pop.example.com":       {"pop.example.org", false},
		"client_id: me":         {"client_id: us", false},
	} {
		if strings.Count(thorough, old) != 1 {
			t.Fatalf("%q does not stand there once", old)
		}
		is := load(t, strings.Replace(thorough, old, test.new, 1)).Account("work")
		if same := was.SameAs(is); same != test.same {
			t.Errorf("%q for %q: same is %v", test.new, old, same)
		}
	}
}

// many returns a file with the given number of accounts, each with a sink of its own.
func many(accounts int, deliver string) string {
	var b strings.Builder
	b.WriteString("sinks:\n")
	for i := range accounts {
		fmt.Fprintf(&b, "  sink%d: { maildir: /m/%[1]d, mode: 0600 }\n", i)
	}
	b.WriteString("accounts:\n")
	for i := range accounts {
		fmt.Fprintf(&b, "  account%d: { server: pop.example.com, user: user%[1]d, password_file: /p/%[1]d, keep: forever, every: 1h, max_size: 1M, timeout: 30s, return_path: yes, "+deliver+" }\n", i)
	}
	return b.String()
}

// A file may have thousands of accounts: the time to read, show and compare it grows only
// in proportion to their number.
func TestManyAccounts(t *testing.T) {
	const accounts = 4000
	text := many(accounts, "deliver: sink%[1]d")
	c, again := load(t, text), load(t, "# another\n"+text)
	for i := range c.Accounts {
		if !c.Accounts[i].SameAs(&again.Accounts[i]) {
			t.Fatalf("%s is another", c.Accounts[i].Name)
		}
	}
	shown := show(t, c, "")
	for line, want := range map[string]int{"keep: forever": accounts, "every: 1h": accounts, "mode: 0600": accounts} {
		if n := strings.Count(shown, line); n != want {
			t.Errorf("%s is shown %d times, want %d", line, n, want)
		}
	}
}

// Thousands of mistakes are reported, but one that all accounts share only once, and no
// hint lists thousands of names.
func TestManyMistakes(t *testing.T) {
	const accounts = 1000
	for name, test := range map[string]struct {
		deliver string
		lines   int
	}{"no sink": {"keep: false", 2}, "a wrong one": {"deliver: sunk%[1]d", accounts}} {
		text := strings.ReplaceAll(many(accounts, test.deliver), "keep: forever, ", "")
		err := refusal(t, text)
		if n := strings.Count(err, "\n"); n != test.lines || !strings.Contains(err, fmt.Sprintf(": %d mistakes\n", accounts)) {
			t.Errorf("%s: %d lines", name, n)
		}
		if len(err) > 200*accounts {
			t.Errorf("%s: they are told in %d bytes", name, len(err))
		}
	}
}

// refusal returns the error of a file that must not load.
func refusal(t *testing.T, text string) string {
	t.Helper()
	_, err := config.Load(write(t, text, 0o600))
	if err == nil {
		t.Fatal("it was accepted")
	}
	return err.Error()
}
