package ttytest

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func shell(script string) *exec.Cmd { return exec.Command("sh", "-c", script) }

func TestScreen(t *testing.T) {
	term := Start(t, shell(`printf 'one\ntwo\n\033[1A\033[31mTWO\033[0m\n日本 |\n'; stty size; echo $TERM; exit 3`), 20, 6)
	if code := term.Exit(); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	// Two columns for each of the wide characters, one character in the text.
	if got, want := term.Screen(), "one\nTWO\n日本 |\n6 20\nxterm-256color"; got != want {
		t.Errorf("the screen is\n%swant\n%s", frame(got), frame(want))
	}
	if column, row, visible := term.Cursor(); column != 0 || row != 5 || !visible {
		t.Errorf("the cursor is at %d, %d, visible %v", column, row, visible)
	}
	if !strings.Contains(term.Output(), "\x1b[31mTWO") {
		t.Errorf("the output is %q", term.Output())
	}
}

func TestScroll(t *testing.T) {
	term := Start(t, shell(`printf '\033[?25l'; seq 5`), 10, 3)
	term.Exit()
	if got := term.Screen(); got != "4\n5" {
		t.Errorf("the screen is %q", got)
	}
	if got := term.History(); got != "1\n2\n3\n4\n5" {
		t.Errorf("the history is %q", got)
	}
	if _, _, visible := term.Cursor(); visible {
		t.Error("the cursor is visible")
	}
}

func TestType(t *testing.T) {
	term := Start(t, shell(`printf 'name: '; read name; stty -echo; printf 'secret: '; read secret; echo; echo "$name, ${#secret}"`), 40, 5)
	term.Await("name: ")
	term.Type("ada\r")
	term.Await("secret: ")
	term.Type("hunter2\r")
	term.AwaitFunc("what was typed", func(screen string) bool { return screen == "name: ada\nsecret:\nada, 7" })
	term.Exit()
}

func TestInterrupt(t *testing.T) {
	term := Start(t, shell(`trap 'echo stopped; exit 9' INT; echo ready; while read x; do :; done`), 40, 5)
	term.Await("ready")
	term.Type("\x03")
	if code := term.Exit(); code != 9 {
		t.Errorf("exit code %d, want 9", code)
	}
	term.Await("stopped")
}

func TestResize(t *testing.T) {
	term := Start(t, shell(`trap 'echo; stty size' WINCH; seq 5; printf 'a long line'; while :; do read x; done`), 40, 10)
	term.Await("a long line")
	term.Resize(4, 3)
	term.Await("3 4")
	if got := term.History(); !strings.HasPrefix(got, "1\n2\n3\n4\n5\na lo") {
		t.Errorf("the history is\n%s", frame(got))
	}
}

// Standard streams that the command sets are not redirected to the terminal.
func TestRedirect(t *testing.T) {
	cmd := shell(`echo out; echo err >&2`)
	var out strings.Builder
	cmd.Stdout = &out
	term := Start(t, cmd, 40, 5)
	term.Exit()
	if out.String() != "out\n" || term.Screen() != "err" {
		t.Errorf("out %q, screen %q", out.String(), term.Screen())
	}
}

// A wait that fails shows the screen.
func TestFailures(t *testing.T) {
	for name, test := range map[string]struct {
		script  string
		timeout time.Duration
		wait    func(*Terminal)
		want    string
	}{
		"program ended": {`echo this`, deadline, func(term *Terminal) { term.Await("that") }, "the program has ended without \"that\" on the screen"},
		"timeout":       {`echo this; read x`, time.Millisecond, func(term *Terminal) { term.Await("that") }, "there never was \"that\" on the screen"},
		"no exit":       {`echo this; read x`, time.Millisecond, func(term *Terminal) { term.Exit() }, "the program does not end"},
	} {
		t.Run(name, func(t *testing.T) {
			fake := &recorder{TB: t}
			term := Start(fake, shell(test.script), 40, 5)
			term.Await("this")
			term.timeout = test.timeout
			func() {
				defer func() { recover() }()
				test.wait(term)
			}()
			if !strings.Contains(fake.message, test.want) || !strings.Contains(fake.message, "| this") {
				t.Errorf("the failure says %q", fake.message)
			}
		})
	}
}

// recorder is a testing.TB that records the message of Fatalf, and panics.
type recorder struct {
	testing.TB
	message string
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.message = fmt.Sprintf(format, args...)
	panic("failed")
}
