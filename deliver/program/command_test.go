package program_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/program"
)

var values = program.Values{
	User: "me@example.org", Account: "work", Sender: "you@example.org", Recipient: "me", UID: "a b", Size: 12,
}

func TestFill(t *testing.T) {
	for _, test := range []struct{ argv, want []string }{
		{[]string{"x"}, nil},
		{[]string{"x", "", "-d", "{user}"}, []string{"", "-d", "me@example.org"}},
		{
			[]string{"x", "{account}", "{sender}", "{recipient}", "{size}", "{uid}"},
			[]string{"work", "you@example.org", "me", "12", "a b"},
		},
		{[]string{"x", "--from={sender},{size};{uid}"}, []string{"--from=you@example.org,12;a b"}},
		{[]string{"x", "{{user}", "{{{size}}", "{}", "{ user }", "${HOME}", "{", "a}b"}, []string{"{user}", "{12}", "{}", "{ user }", "${HOME}", "{", "a}b"}},
		{[]string{"sh", "-c", `deliver "$MAILHAUL_SENDER" ${{x}`}, []string{"-c", `deliver "$MAILHAUL_SENDER" ${x}`}},
		{[]string{"env", "A=b", "nice", "deliver", "-c", "{user}"}, []string{"A=b", "nice", "deliver", "-c", "me@example.org"}},
		{[]string{"flock", "lock", "deliver", "{user}", "ssh"}, []string{"lock", "deliver", "me@example.org", "ssh"}},
		{[]string{"maildrop", "-c", "{account}"}, []string{"-c", "work"}},
	} {
		c, err := program.Parse(test.argv)
		if err != nil {
			t.Errorf("Parse(%q) = %v", test.argv, err)
			continue
		}
		args, env, err := c.Fill(values)
		if err != nil || !slices.Equal(args, test.want) {
			t.Errorf("%q became %q, %v, want %q", test.argv, args, err, test.want)
		}
		want := []string{
			"MAILHAUL_USER=me@example.org", "MAILHAUL_ACCOUNT=work", "MAILHAUL_SENDER=you@example.org",
			"MAILHAUL_RECIPIENT=me", "MAILHAUL_SIZE=12", "MAILHAUL_UID=a b",
		}
		if !slices.Equal(env, want) {
			t.Errorf("the environment is %q, want %q", env, want)
		}
	}
}

// A value from a message fills one argument. Placeholders in it are not replaced.
func TestFillOddValues(t *testing.T) {
	c, err := program.Parse([]string{"x", "--uid={uid}", "<{sender}>"})
	if err != nil {
		t.Fatal(err)
	}
	for _, odd := range []string{
		"", " ", "-x", "--", "{user}", "{{", "$(id)", "`id`", "; id", "a b\tc", `"'\`, "*", "\x01\x7f", "\xff\xfe", "%s%n",
		strings.Repeat("x", 100_000),
	} {
		args, env, err := c.Fill(program.Values{UID: odd, Sender: odd})
		if want := []string{"--uid=" + odd, "<" + odd + ">"}; err != nil || !slices.Equal(args, want) {
			t.Errorf("%.20q: %.200q, %v", odd, args, err)
		}
		if !slices.Contains(env, "MAILHAUL_UID="+odd) {
			t.Errorf("%.20q is not in the environment", odd)
		}
	}
}

func TestFillRefuses(t *testing.T) {
	c, err := program.Parse([]string{"x", "{sender}", "{uid}{user}"})
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]program.Values{
		"CR":                {Account: "a\rb"},
		"LF":                {Sender: "a\nb"},
		"NUL":               {UID: "a\x00b"},
		"an option":         {Sender: "-oops@example.org"},
		"a second value":    {User: "-x"},
		"a lone hyphen":     {Sender: "-"},
		"LF in a recipient": {Recipient: "\n"},
	} {
		args, env, err := c.Fill(v)
		var e *deliver.Error
		if !errors.As(err, &e) || e.Fault != deliver.FaultMessage || args != nil || env != nil {
			t.Errorf("%s: %q, %q, %v", name, args, env, err)
		}
	}
	if _, _, err := c.Fill(program.Values{}); err != nil {
		t.Errorf("empty values: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, argv := range map[string][]string{
		"nothing":             nil,
		"an empty name":       {""},
		"an unknown word":     {"x", "a{from}b"},
		"a name to be filled": {"{user}"},
		"NUL":                 {"x", "a\x00"},
	} {
		_, err := program.Parse(argv)
		var e *deliver.Error
		if !errors.As(err, &e) || e.Fault != deliver.FaultOperator || e.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// No value of a message may become part of the script that an interpreter runs, whatever
// precedes the interpreter and whatever its options are.
func TestParseRefusesScripts(t *testing.T) {
	for _, line := range []string{
		"sh|-c|deliver {sender}",
		"sh|-ce|deliver {sender}",
		"bash|-Ec|deliver {sender}",
		"bash|-c|-x|deliver {sender}",
		"bash|--norc|-c|deliver {sender}",
		`sh|-c|deliver "$1"|sh|{sender}`,
		"ssh|host|deliver {sender}",
		"ssh|-l|{user}|host|deliver",
		"perl|-e|print '{sender}'",
		"/usr/bin/perl5.36|-e|print '{sender}'",
		"python3|-c|print('{sender}')",
		"/opt/bin/python3.13|-c|print('{sender}')",
		"ksh93|-c|deliver {sender}",
		"busybox|sh|-c|deliver {sender}",
		"env|sh|-c|deliver {sender}",
		"env|A=b|/usr/bin/bash|-ec|deliver {user}",
		"nice|-n|5|sudo|-u|me|sh|-c|deliver {sender}",
		"env|-S|deliver {sender}",
		"env|-iS|deliver {sender}",
		"env|-Sdeliver {sender}",
		"env|--split-string=deliver {sender}",
		"flock|lock|-c|deliver {sender}",
		"su|me|-c|deliver {sender}",
		"x|/{user}/sh",
	} {
		_, err := program.Parse(strings.Split(line, "|"))
		e, ok := errors.AsType[*deliver.Error](err)
		if !ok || e.Fault != deliver.FaultOperator || !strings.Contains(e.Hint, "MAILHAUL_") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestUses(t *testing.T) {
	c, err := program.Parse([]string{"x", "-f", "<{sender}>", "{{user}"})
	if err != nil {
		t.Fatal(err)
	}
	if !c.Uses("sender") || c.Uses("user") || c.Name() != "x" {
		t.Errorf("%q uses sender: %v, user: %v", c.Name(), c.Uses("sender"), c.Uses("user"))
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	for name, mode := range map[string]os.FileMode{"good": 0o700, "plain": 0o600} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	find := func(name string) (string, error) {
		c, err := program.Parse([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		return c.Find()
	}
	good := filepath.Join(dir, "good")
	for _, name := range []string{"good", good} {
		if path, err := find(name); path != good || err != nil {
			t.Errorf("Find(%q) = %q, %v", name, path, err)
		}
	}
	for _, name := range []string{"missing", "plain", dir, filepath.Join(dir, "missing"), filepath.Join(dir, "plain")} {
		_, err := find(name)
		var e *deliver.Error
		if !errors.As(err, &e) || e.Fault != deliver.FaultOperator || e.Hint == "" || strings.Count(err.Error(), name) != 1 {
			t.Errorf("Find(%q): %v", name, err)
		}
	}
}
