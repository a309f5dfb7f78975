package config_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
)

// password loads an account with the given keys, and returns its password.
func password(t *testing.T, keys string) config.Password {
	t.Helper()
	c := load(t, "sinks: { home: { maildir: /m } }\naccounts:\n  work:\n    server: pop.example.com\n    user: me\n    "+keys+"\n")
	return c.Accounts[0].Password
}

func TestPassword(t *testing.T) {
	t.Setenv("MAILHAUL_TEST_PASSWORD", "hunter2")
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("hunter2\r\nsecond line\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	marked := filepath.Join(t.TempDir(), "marked")
	if err := os.WriteFile(marked, []byte("\ufeffhunter2\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ keys, want string }{
		{"password: hunter2", "hunter2"},
		{"password: 0123", "0123"}, // not 83
		{"password: 1e3", "1e3"},
		{"password: no", "no"},
		{"password: 2001-01-01", "2001-01-01"},
		{`password: " pass word "`, " pass word "},
		{`password: "#:*"`, "#:*"},
		{"password_env: MAILHAUL_TEST_PASSWORD", "hunter2"},
		{"password_file: " + file, "hunter2"},
		{"password_file: " + marked, "hunter2"},
		{"password_command: echo hunter2; echo more", "hunter2"},
		{"password_command: [echo, 'hunter2;', echo]", "hunter2; echo"},
		{"password_command: [echo]\n    password_timeout: 1h", ""},
	} {
		got, err := password(t, test.keys).Read(t.Context())
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s: got %q, %v; want %q", test.keys, got, err, test.want)
		}
	}
}

// Read returns when its context or password_timeout ends, even if reading the file blocks.
// What the file has in the end goes to the caller that waits then.
func TestPasswordBlocks(t *testing.T) {
	fifo, other := filepath.Join(t.TempDir(), "fifo"), filepath.Join(t.TempDir(), "other")
	if err := errors.Join(unix.Mkfifo(fifo, 0o600), unix.Mkfifo(other, 0o600)); err != nil {
		t.Fatal(err)
	}
	pw := password(t, "password_file: "+fifo)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 3 {
		if _, err := pw.Read(over); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), fifo) {
			t.Fatalf("error %v", err)
		}
	}
	// The read of this pipe goes on after the timeout, so it must be a pipe of its own.
	brief := password(t, "password_file: "+other+"\n    password_timeout: 1s")
	if _, err := brief.Read(t.Context()); err == nil || !strings.Contains(err.Error(), other+" within 1s (password_timeout ") {
		t.Errorf("error %v", err)
	}
	go os.WriteFile(fifo, []byte("hunter2\n"), 0o600) // blocks until it is read
	if got, err := pw.Read(t.Context()); got != "hunter2" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestPasswordErrors(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"open": 0o604, "long": 0o600, "empty": 0o600, "wide": 0o600} {
		text := map[string]string{
			"open": "hunter2", "long": strings.Repeat("hunter2", 1000), "empty": "\nhunter2",
			"wide": "\xff\xfeh\x00u\x00n\x00t\x00e\x00r\x002\x00\r\x00\n\x00",
		}[name]
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ keys, want string }{
		{"password_env: MAILHAUL_TEST_UNSET", "MAILHAUL_TEST_UNSET is not set"},
		{"password_file: " + dir + "/missing", "no such file"},
		{"password_file: " + dir, "password_file: read " + dir + ": is a directory"},
		{"password_file: " + dir + "/open", "chmod 600 " + dir + "/open"},
		{"password_file: " + dir + "/long", "more than 4096 bytes"},
		{"password_file: " + dir + "/empty", "is empty"},
		{"password_file: " + dir + "/wide", "password_file: " + dir + "/wide holds a NUL, as text in UTF-16 does: make it UTF-8"},
		{`password_command: printf 'hunter2\0\n'`, "password_command: its output holds a NUL"},
		{"password_command: echo hunter2; echo the vault is locked >&2; exit 3", `exit status 3: "the vault is locked"`},
		{"password_command: [/nonexistent/pass]", "no such file"},
		{"password_command: true", "is empty"},
		{"password_command: sleep 100\n    password_timeout: 1s", "no answer within 1s"},
	} {
		got, err := password(t, test.keys).Read(t.Context())
		if got != "" || err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %q, %v; want an error with %q", test.keys, got, err, test.want)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error holds the password: %v", test.keys, err)
		}
	}
}

func TestPasswordCommandObeysContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	pipe := filepath.Join(t.TempDir(), "started")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	pw := password(t, "password_command: echo > "+pipe+"; sleep 100")
	done := make(chan error)
	go func() {
		_, err := pw.Read(ctx)
		done <- err
	}()
	started, err := os.Open(pipe) // waits until the command opens it, too
	if err != nil {
		t.Fatal(err)
	}
	defer started.Close()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestSecretIsNeverShown(t *testing.T) {
	c := load(t, strings.Replace(minimal, "password_env: X", "password: hunter2", 1))
	pw := c.Accounts[0].Password
	text, err := json.Marshal([]any{c, pw})
	if err != nil {
		t.Fatal(err)
	}
	shownAs := []string{string(text), fmt.Sprint(c)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shownAs = append(shownAs, fmt.Sprintf(verb, pw), fmt.Sprintf(verb, &pw), fmt.Sprintf(verb, c.Accounts))
	}
	for _, shown := range shownAs {
		if strings.Contains(shown, "hunter2") || strings.Contains(shown, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("shown: %s", shown)
		}
	}
}
