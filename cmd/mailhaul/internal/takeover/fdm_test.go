package takeover_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/takeover"
)

func translateFdm(path string) (*takeover.Config, error) { return takeover.Fdm(path, "/home/me") }

func TestFdm(t *testing.T) {
	checkTestdata(t, "fdm-*.conf", translateFdm)
}

// What fdm refuses is a mistake, and its place is named; no password is.
func TestFdmRefuses(t *testing.T) {
	checkRefused(t, translateFdm, map[string]string{
		"account":                          "line 1: a string or a number is expected",
		"account \"a\"":                    "line 1: the kind of the account is expected",
		"account \"a\" pop3 server \"h":    "line 1: a string lacks a quote at its end",
		"\naccount \"a\" pop3 pass secret": "line 2: a string or a number is expected",
		"account \"a\" pop3 server \"h\" \"secret\" secret": "line 1: a command is expected",
		"account $a pop3":                            "line 1: macro $a is not defined",
		"$a \"secret\"":                              "line 1: = is expected",
		"$a = \"x\" + action":                        "line 1: a string or a number is expected",
		"%a = $(secret":                              "line 1: a command lacks the ) at its end",
		"account \"a\" pop3s user \"secret\"":        "line 1: the account has no server",
		"account \"a\" pop3s server \"h\" pass \"\"": "line 1: pass is empty",
		"action \"a\" secret \"x\"":                  "line 1: there is no action secret",
		"action \"a\" { drop":                        "line 1: an action is expected",
		"match all":                                  "line 1: action is expected",
		"match all {":                                "line 1: } is expected",
		"match all action 3 }":                       "line 1: } closes nothing",
		"set":                                        "line 1: the name of an option is expected",
		"endif":                                      "line 1: endif ends nothing",
		"ifdef $x\n":                                 "line 2: endif is missing",
		"ifdef x":                                    "line 1: ifdef wants the name of a macro",
		"include secret":                             "line 1: include wants a path in quotes",
		"# a\n;":                                     `line 2: ";" is not expected`,
	})
}

// A file is included from the folder of the first one, and knows its macros. What is wrong
// in it is found there.
func TestFdmInclude(t *testing.T) {
	home := t.TempDir()
	for name, text := range map[string]string{
		".fdm.conf": `$a = "b" include "${a}" account "ann" $kind server "h" user "u" pass "p" match all action maildir "/m"`,
		"b":         "$kind2 = \"x\" ifdef $kind2 include '~/c' endif\n",
		"c":         "account \"bob\" pop3s server \"h\" user \"v\" pass $p",
	} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := takeover.Fdm("", home); err == nil || err.Error() != filepath.Join(home, "c")+": line 1: macro $p is not defined" {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(home, "c"), []byte(`include "b"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := takeover.Fdm("", home); err == nil || !strings.HasSuffix(err.Error(), "includes itself") {
		t.Error(err)
	}
}

// fdm looks for a user and a password in ~/.netrc.
func TestNetrcOfFdm(t *testing.T) {
	for _, tt := range []struct {
		netrc, options string
		user, password any
	}{
		{"machine h login u password p", "", "u", "p"},
		{"machine h login v password x\nmachine h login u password p", `user "u"`, "u", "p"},
		{"machine h login v password x\ndefault login u password p", `user "u"`, "u", "p"},
		{"machine h login u password x", `user "u" pass "p"`, "u", "p"},
		{"machine other login u password x", `user "u"`, "u", nil},
		{"", "", nil, nil},
	} {
		home := homeWithNetrc(t, tt.netrc)
		text := `account "a" pop3s server "h" ` + tt.options + ` match all action maildir "/m"`
		if err := os.WriteFile(filepath.Join(home, ".fdm.conf"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := takeover.Fdm("", home)
		if err != nil {
			t.Fatal(err)
		}
		if user, password := valueOf(t, c, "user"), valueOf(t, c, "password"); user != tt.user || password != tt.password {
			t.Errorf("%+v: got %v, %v", tt, user, password)
		}
	}
}

func FuzzFdm(f *testing.F) {
	for _, path := range testdataFiles(f, "fdm-*.conf") {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
		for line := range strings.Lines(string(text)) {
			f.Add(`account "a" pop3s server "h" user "u" pass "p"` + "\n" + line + "\nmatch all action maildir '/m'")
		}
	}
	path := filepath.Join(f.TempDir(), "fdm.conf")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "include") {
			t.Skip("it might read any file")
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := takeover.Fdm(path, "/home/me"); err == nil {
			checkSafe(t, c)
		}
	})
}
