// Package ttytest runs programs in a terminal, for tests of what a person sees. Start runs
// a program on a pseudo-terminal of its own. The test types keys and resizes the window,
// and compares the Screen, on which a terminal emulator shows what the program writes.
//
// Every wait ends with an event, or fails the test and shows the screen.
package ttytest

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
)

// deadline bounds every wait. Only a test that fails reaches it.
const deadline = time.Minute

// Terminal is a window with a program in it. Its methods are called by the
// goroutine of the test.
type Terminal struct {
	t       testing.TB
	cmd     *exec.Cmd
	pty     *os.File
	timeout time.Duration

	mu      sync.Mutex
	screen  *vt.Emulator
	hidden  bool          // whether the cursor is hidden
	output  []byte        // all that the program wrote
	ended   bool          // whether the terminal was closed
	changed chan struct{} // closed and replaced when one of the above changes
}

// Start runs cmd in a window of columns and rows. Its standard input, output and error are
// the terminal unless cmd sets them. Its environment is that of the test, with TERM
// xterm-256color and NO_COLOR empty, and cmd.Env. The program is killed when the test ends.
func Start(t testing.TB, cmd *exec.Cmd, columns, rows int) *Terminal {
	t.Helper()
	cmd.Env = append(append(os.Environ(), "TERM=xterm-256color", "NO_COLOR="), cmd.Env...)
	term := &Terminal{t: t, cmd: cmd, timeout: deadline, screen: vt.NewEmulator(columns, rows), changed: make(chan struct{})}
	term.screen.SetCallbacks(vt.Callbacks{CursorVisibility: func(visible bool) { term.hidden = !visible }})
	// A program inherits which signals are ignored, as background jobs ignore ^C.
	// Signals that are caught are not ignored.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, os.Interrupt, syscall.SIGQUIT, syscall.SIGHUP)
	var err error
	term.pty, err = pty.StartWithSize(cmd, winsize(columns, rows))
	signal.Stop(caught)
	if err != nil {
		t.Fatalf("cannot run %s in a terminal: %v", cmd, err)
	}
	answers := term.screen.InputPipe().(io.Closer)
	var copying sync.WaitGroup
	copying.Go(term.read)
	copying.Go(func() { io.Copy(term.pty, term.screen) }) // the terminal's answers to queries
	t.Cleanup(func() {
		cmd.Process.Kill() // does nothing if the program has ended
		cmd.Wait()
		term.pty.Close()
		answers.Close()
		copying.Wait()
	})
	return term
}

func winsize(columns, rows int) *pty.Winsize {
	return &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)}
}

// read feeds the screen until the program and its children have closed the terminal, which
// Linux reports as EIO.
func (t *Terminal) read() {
	buf := make([]byte, 32<<10)
	for {
		n, err := t.pty.Read(buf)
		t.mu.Lock()
		t.screen.Write(buf[:n])
		t.output = append(t.output, buf[:n]...)
		t.ended = err != nil
		close(t.changed)
		t.changed = make(chan struct{})
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Type presses keys: "\r" is Enter, "\x03" is ^C.
func (t *Terminal) Type(keys string) {
	t.t.Helper()
	if _, err := io.WriteString(t.pty, keys); err != nil {
		t.t.Fatalf("cannot type %q: %v", keys, err)
	}
}

// Resize changes the size of the window, and so sends SIGWINCH. As in most terminals the
// line with the cursor stays in view: in a window too low for it, the top scrolls off.
// Longer lines are cut.
func (t *Terminal) Resize(columns, rows int) {
	t.t.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	if at := t.screen.CursorPosition(); at.Y >= rows {
		off := at.Y - rows + 1
		// Back to the bottom, off lines up (IND scrolls there), and to the cursor.
		t.screen.WriteString("\x1b[999;1H" + strings.Repeat("\x1bD", off) + cursorTo(at.X, at.Y-off))
	}
	t.screen.Resize(columns, rows)
	if err := pty.Setsize(t.pty, winsize(columns, rows)); err != nil {
		t.t.Fatalf("cannot resize the window: %v", err)
	}
}

// Screen returns the visible rows, without trailing blanks and without empty rows at the
// bottom.
func (t *Terminal) Screen() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.visibleText()
}

func (t *Terminal) visibleText() string {
	var rows []string
	for y := range t.screen.Height() {
		rows = append(rows, rowText(t.screen.Width(), func(x int) *cell { return t.screen.CellAt(x, y) }))
	}
	return strings.TrimRight(strings.Join(rows, "\n"), "\n")
}

// History returns what has scrolled off the top, and the screen below it.
func (t *Terminal) History() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var rows []string
	for y := range t.screen.ScrollbackLen() {
		rows = append(rows, rowText(t.screen.Width(), func(x int) *cell { return t.screen.ScrollbackCellAt(x, y) }))
	}
	return strings.Join(append(rows, t.visibleText()), "\n")
}

// Output returns every byte that the program wrote so far.
func (t *Terminal) Output() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.output)
}

// Cursor returns the position of the cursor, from 0, and whether it is visible.
func (t *Terminal) Cursor() (column, row int, visible bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.screen.CursorPosition()
	return at.X, at.Y, !t.hidden
}

// Await waits until text is on the screen. It ignores blanks at the end of text.
func (t *Terminal) Await(text string) {
	t.t.Helper()
	text = strings.TrimRight(text, " ")
	t.AwaitFunc("\""+text+"\" on the screen", func(screen string) bool { return strings.Contains(screen, text) })
}

// AwaitFunc waits until the screen satisfies a condition, which what describes. It checks
// whenever the program has written.
func (t *Terminal) AwaitFunc(what string, satisfies func(screen string) bool) {
	t.t.Helper()
	t.wait("there never was "+what+"\nbut in the end", func(screen string, ended bool) bool {
		t.t.Helper()
		satisfied := satisfies(screen)
		if ended && !satisfied {
			t.t.Fatalf("the program has ended without %s\nin the end there was:\n%s", what, frame(screen))
		}
		return satisfied
	})
}

// wait waits until done returns true, and calls it whenever the program has written or has
// closed the terminal. If the deadline passes, the test fails with the message failure.
func (t *Terminal) wait(failure string, done func(screen string, ended bool) bool) {
	t.t.Helper()
	limit := time.After(t.timeout)
	for {
		t.mu.Lock()
		screen, ended, changed := t.visibleText(), t.ended, t.changed
		t.mu.Unlock()
		if done(screen, ended) {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.t.Fatalf("%s:\n%s", failure, frame(screen))
		}
	}
}

// Exit waits until the program has ended and no child of it holds the terminal. It returns
// the exit code, -1 if a signal killed the program.
func (t *Terminal) Exit() int {
	t.t.Helper()
	t.wait("the program does not end; there is", func(_ string, ended bool) bool { return ended })
	if err := t.cmd.Wait(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.t.Fatal(err)
		}
	}
	return t.cmd.ProcessState.ExitCode()
}
