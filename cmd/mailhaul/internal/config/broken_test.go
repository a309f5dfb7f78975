package config_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
)

var update = flag.Bool("update", false, "rewrite the messages expected of broken configurations")

const configs = "../../../../testdata/configs"

// Next to each broken configuration is a file with the exact error message.
func TestBroken(t *testing.T) {
	files, err := filepath.Glob(configs + "/broken/*.yaml")
	if err != nil || len(files) < 20 {
		t.Fatalf("found %d configurations, error %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Setenv("HOME", "/home/me")
			// A checkout may let others read the file; some hold a password.
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			private := filepath.Join(dir, filepath.Base(file))
			if err := os.WriteFile(private, text, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = config.Load(private)
			if err == nil {
				t.Fatal("it was accepted")
			}
			got := strings.ReplaceAll(err.Error(), dir, "DIR") + "\n"
			if strings.Contains(got, "hunter2") {
				t.Errorf("the message holds the password:\n%s", got)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

// For common mistakes in YAML, the error names the right line and has a helpful hint.
func TestSyntax(t *testing.T) {
	const (
		mapping = "sinks:\n  home: { maildir: /m }\naccounts:\n  a:\n    server: pop.example.com\n    user: me\n    keep: forever\n    every: 5m\n"
		inFlow  = "{ server: x, user: me, password: hunter2"
	)
	for _, test := range []struct {
		text string // what follows mapping
		line int
		want string
	}{
		{"   keep: false", 9, "keys of one mapping are indented alike"},
		{"   keep: false\n    user: me", 9, "keys of one mapping are indented alike"},
		{"     keep: false", 9, "keys of one mapping are indented alike"},
		{"  - b", 9, "items of a list, which begin with -,"},
		{"    deliver:\n      - b\n     - c", 11, "items of a list, which begin with -, are indented alike"},
		{"  b: " + inFlow + "}b }", 9, "a value that holds a quote, a bracket or a brace is quoted as a whole"},
		{"    password: 'it's hunter2'", 9, "a value that holds a quote, a bracket or a brace is quoted as a whole"},
		{"  b: " + inFlow + "]b }", 9, "quote a value that holds a bracket or a brace"},
		{"  b: " + inFlow, 9, "close the {"},
		{"  b: " + inFlow + "\n  c: " + inFlow + " }", 9, "close the {"},
		{"    deliver: [home", 9, "close the ["},
		{"    deliver: [home\n    user: me", 9, "close the ["},
		{"    deliver: [home,\n      b,\n    ]\n    auth: [plain", 12, "close the ["},
		{"    deliver: ]", 9, "quote a value that starts with , ] or }"},
		{"    deliver: [home,", 9, "close what [ or { opens"},
		{"    password: |hunter2", 9, "quote a value that starts with | or >"},
		{"    password: &", 9, "quote a value that starts with & or *"},
		{"    password: !hunter2", 9, "quote a value that starts with !"},
		{"    keep false", 9, "write key: value, with a space after the colon"},
		{"    keep:false\n    user: me", 9, "write key: value, with a space after the colon"},
		{"    password: \"hunter2", 9, "close the quote"},
		{"    password: 'hunter2\n    user: me", 9, "close the quote"},
		{"\tkeep: false", 9, "indent with spaces, not tabs"},
	} {
		_, err := config.Parse("/c.yaml", []byte(mapping+test.text+"\n"))
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("line %d: ", test.line)) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v\nwant line %d, %s", test.text, err, test.line, test.want)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: the message holds the password: %v", test.text, err)
		}
	}
	_, err := config.Parse("/c.yaml", []byte(strings.Replace(mapping, " }", "", 1)))
	if err == nil || !strings.Contains(err.Error(), "line 2: ") || !strings.Contains(err.Error(), "close the {") {
		t.Error(err)
	}
}

// No error message repeats a piece of a password that a comma has cut.
func TestSecretWithComma(t *testing.T) {
	for keys, want := range map[string]string{
		"password: SE,hunter2":                  "account a: password ends at a comma, and no key follows (quote a value that holds a comma)",
		"password: SE,hunter2,hunter2":          "account a: password ends at a comma, and no key follows (quote a value that holds a comma)",
		"password: SE,deliver":                  "account a: password ends at a comma, and no key follows (quote a value that holds a comma)",
		"password_env: X, delivr: home":         `account a: unknown key "delivr" (did you mean "deliver"?)`,
		"password: hunter2, delivr: home":       `account a: unknown key "delivr" (did you mean "deliver"?)`,
		"password_env: X, delivr":               `account a: unknown key "delivr" (did you mean "deliver"?)`,
		"password: hunter2, keep: 14d, delivr,": `account a: unknown key "delivr" (did you mean "deliver"?)`,
	} {
		text := "sinks: { home: { maildir: /m } }\naccounts:\n  a: { server: x, user: u, " + keys + " }\n"
		_, err := config.Parse("/c.yaml", []byte(text))
		if got := fmt.Sprint(err); got != "/c.yaml: line 3: "+want {
			t.Errorf("%s: got %s, want %s", keys, got, want)
		}
	}
}

// If no colon and space separate a secret from its key, YAML reads both as one key. No
// error message repeats such a key.
func TestSecretInKey(t *testing.T) {
	const glued = " (write key: value, with a space after the colon)"
	for key, want := range map[string]string{
		"password;hunter2":         `account a: unknown key "password…"` + glued,
		"password hunter2":         `account a: unknown key "password…"` + glued,
		"password\u00a0hunter2":    `account a: unknown key "password…"` + glued,
		"Password=hunter2":         `account a: unknown key "Password…"` + glued,
		"pass/hunter2":             `account a: unknown key "pass…"` + glued,
		"'password: hunter2'":      `account a: unknown key "password…"` + glued,
		"password7hunter2":         `account a: unknown key "password…"` + glued,
		"password_file-hunter2":    `account a: unknown key "password…"`,
		"password_comand":          `account a: unknown key "password…" (did you mean "password_command"?)`,
		"client_secret hunter2":    `account a: unknown key "client_secret…"` + glued,
		"token hunter2":            `account a: unknown key "token…"` + glued,
		"passwords":                `account a: unknown key "passwords" (did you mean "password"?)`,
		"user;me":                  `account a: unknown key "user;me"`,
		"a: b\n  password hunter2": `"password…" cannot be a name (use up to 64 letters, digits and . _ - + @)`,
	} {
		for _, flow := range []bool{false, true} {
			text := "sinks: { home: { maildir: /m } }\naccounts:\n  a:\n    server: x\n    " + key + ": x\n"
			if flow {
				text = "sinks: { home: { maildir: /m } }\naccounts: { a: { server: x, " + key + ": x } }\n"
			}
			if strings.Contains(key, "\n") && flow {
				continue
			}
			_, err := config.Parse("/c.yaml", []byte(text))
			if got := fmt.Sprintln(err); !strings.Contains(got, ": "+want+"\n") || strings.Contains(got, "hunter2") {
				t.Errorf("%s: %s\nwant %s", key, got, want)
			}
		}
	}
	for _, key := range []string{"password_file", "password_timeout", "token_command", "client_secret_env", "token_url"} {
		text := fmt.Sprintf("sinks: { home: { maildir: /m } }\n%s: x\naccounts: { a: { server: x, %[1]s: x, %[1]s: x } }\n", key)
		_, err := config.Parse("/c.yaml", []byte(text))
		for _, want := range []string{fmt.Sprintf("unknown key %q", key), fmt.Sprintf("key %q appears twice", key)} {
			if got := fmt.Sprintln(err); !strings.Contains(got, want) {
				t.Errorf("%s: %s\nwant %s", key, got, want)
			}
		}
	}
	text := "sinks:\n  password hunter2: { }\naccounts:\n  a: { server: x, user: u, password hunter2: x, password hunter2: x, deliver: home }\n"
	if _, err := config.Parse("/c.yaml", []byte(text)); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}
