package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/ttytest"
)

// Password commands that ask at the terminal run one at a time.
func TestPasswordCommandsAskInTurn(t *testing.T) {
	b := newTestServer(t, "", "a", "b", "c")
	const ask = `printf 'password of %s? ' >/dev/tty; mkdir asking || : >overlap; read answer </dev/tty; rmdir asking; echo "$answer"`
	var accounts strings.Builder
	for _, name := range []string{"a", "b", "c"} {
		fmt.Fprintf(&accounts, "  %s: { user: %s, password_command: %q }\n", name, name, fmt.Sprintf(ask, name))
	}
	b.home = filepath.Dir(configFile(t, "state: state\nsinks: { home: { maildir: Maildir } }\ndefaults: { server: %q, tls: none }\naccounts:\n%s", b.server.Addr(), &accounts))
	for _, command := range []string{"check", "plan"} {
		cmd := b.command(command)
		cmd.Dir = b.home
		log := strings.Builder{}
		cmd.Stdout = &log
		term := ttytest.Start(t, cmd, 80, 20)
		for n := range 3 {
			term.AwaitFunc("a question", func(screen string) bool { return strings.Count(screen, "password of ") == n+1 })
			term.Type(password + "\n")
		}
		if code := term.Exit(); code != 0 {
			t.Errorf("%s: exit code %d:\n%s", command, code, &log)
		}
		if _, err := os.Stat(filepath.Join(b.home, "overlap")); err == nil {
			t.Errorf("%s: two asked at once", command)
		}
	}
}
