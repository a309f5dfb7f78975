package takeover_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/takeover"
)

func translateMpop(path string) (*takeover.Config, error) { return takeover.Mpop(path, "/home/me") }

func TestMpop(t *testing.T) {
	checkTestdata(t, "mpop-*.conf", translateMpop)
}

// What mpop refuses is an error that names the place, but shows no password.
func TestMpopRefuses(t *testing.T) {
	checkRefused(t, translateMpop, map[string]string{
		"host x":                                  "line 1: the first command must be account or defaults",
		"\n# a\ndefaults x":                       "line 3: command defaults does not take an argument",
		"account":                                 "line 1: missing account name",
		"account : a":                             "line 1: account a is not (yet) defined",
		"account a\naccount b : a, c":             "line 2: account c is not (yet) defined",
		"account a\naccount b : a,":               "line 2: account  is not (yet) defined",
		"account a,b":                             "line 1: an account name must not contain colons or commas",
		"account a\naccount \"a\"":                "line 2: account a was already defined",
		"defaults\nfoo bar":                       "line 2: unknown command foo",
		"defaults\neval":                          "line 2: command eval needs an argument",
		"defaults\nhost":                          "line 2: command host needs an argument",
		"defaults\nport 0":                        "line 2: invalid argument 0 for command port",
		"defaults\nport 65536":                    "line 2: invalid argument 65536 for command port",
		"defaults\nport pop3":                     "line 2: invalid argument pop3 for command port",
		"defaults\ntimeout 0":                     "line 2: invalid argument 0 for command timeout",
		"defaults\ntls yes":                       "line 2: invalid argument yes for command tls",
		"defaults\npipelining 3":                  "line 2: invalid argument 3 for command pipelining",
		"defaults\nauth PLAIN":                    "line 2: invalid argument PLAIN for command auth",
		"defaults\nauth off":                      "line 2: invalid argument off for command auth",
		"defaults\nkeep 3":                        "line 2: invalid argument 3 for command keep",
		"defaults\nkeep d":                        "line 2: invalid argument d for command keep",
		"defaults\nkillsize":                      "line 2: command killsize needs an argument",
		"defaults\nkillsize 10g":                  "line 2: invalid argument 10g for command killsize",
		"defaults\nskipsize 9223372036854775807k": "line 2: invalid argument 9223372036854775807k for command skipsize",
		"defaults\ntls_fingerprint 00:11":         "line 2: invalid argument 00:11 for command tls_fingerprint",
		"defaults\ndelivery maildir":              "line 2: invalid argument maildir for command delivery",
		"defaults\ndelivery smtp x":               "line 2: invalid argument smtp x for command delivery",
		"defaults\npassword caf\xe9":              "line 2: is not UTF-8: iconv makes it so",
		"account a\nhost x\ndelivery mbox /x\ntls_key_file k":      "account a: tls_key_file and tls_cert_file need each other",
		"account a\nhost x\ndelivery mbox /x\ntls\ntls_trust_file": "account a: tls needs tls_trust_file or tls_fingerprint, or tls_certcheck off",
	})
}

// Without a path, ~/.mpoprc is read, and if there is none, the file in
// $XDG_CONFIG_HOME or ~/.config.
func TestMpopPath(t *testing.T) {
	home, xdg := t.TempDir(), t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", "")
	if _, err := takeover.Mpop("", home); err == nil || !strings.Contains(err.Error(), filepath.Join(home, ".mpoprc")) {
		t.Error(err)
	}
	for _, test := range []struct{ xdg, path string }{
		{"", filepath.Join(home, ".config/mpop/config")},
		{xdg, filepath.Join(xdg, "mpop/config")},
		{xdg, filepath.Join(home, ".mpoprc")},
	} {
		t.Setenv("XDG_CONFIG_HOME", test.xdg)
		if err := os.MkdirAll(filepath.Dir(test.path), 0o700); err != nil {
			t.Fatal(err)
		}
		text := "account a\nhost pop.example.org\ndelivery mbox " + test.path
		if err := os.WriteFile(test.path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := takeover.Mpop("", home)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Sinks[0].Keys[0].Value; got != test.path {
			t.Errorf("%s was read, want %s", got, test.path)
		}
	}
}

func FuzzMpop(f *testing.F) {
	const begin = "account a\nhost h\nuser u\npassword p\n"
	for _, line := range []string{
		"delivery mbox ~/x\naccount b:a\nuser c", `delivery mda "a '%F' $x"`, "delivery maildir a\nproxy_host x\nproxy_port 1",
		"delivery mbox /x\nkeep 1d\nkillsize 1k\nsocket /x", "delivery mbox /x\ntls\ntls_host_override x\nauth external\ntls_cert_file c\ntls_key_file k",
		"delivery exchange x\npasswordeval x\ntimeout off\nsource_ip 127.0.0.1",
	} {
		f.Add(begin + line)
	}
	path := filepath.Join(f.TempDir(), "mpoprc")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := takeover.Mpop(path, "/home/me"); err == nil {
			checkSafe(t, c)
		}
	})
}
