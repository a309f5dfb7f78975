package program_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/program"
	"github.com/mailhaul/mailhaul/deliver/program/playtest"
)

// run returns a Run of the test binary in a role, with the input on standard input.
func run(t *testing.T, input string, role ...string) *program.Run {
	t.Helper()
	name := filepath.Join(t.TempDir(), "stdin")
	if err := os.WriteFile(name, []byte(input), 0o600); err != nil {
		t.Fatal(err)
	}
	stdin, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close() })
	argv := playtest.Argv(role[0], role[1:]...)
	return &program.Run{
		Path: argv[0], Name: "agent", Args: argv[1:], Stdin: stdin,
		Timeout: time.Hour, Grace: time.Hour,
	}
}

// listen returns the path of a socket, and a function that waits until a program connects to
// it, at most until the test ends.
func listen(t *testing.T) (socket string, accept func() net.Conn) {
	t.Helper()
	l := playtest.Listen(t)
	return l.Addr().String(), func() net.Conn {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
}

func TestExit(t *testing.T) {
	for _, test := range []struct {
		role []string
		code int
		text string
	}{
		{[]string{"exit", "0"}, 0, "exit status 0"},
		{[]string{"exit", "67", "no", "such", "user"}, 67, `exit status 67: "no such user"`},
		{[]string{"exit", "75", "a\nb\x1b[1m\xff"}, 75, `exit status 75: "a\nb\x1b[1m\xff"`},
		{[]string{"die"}, -1, "signal: killed"},
	} {
		exit, err := run(t, "", test.role...).Do(t.Context())
		if err != nil || exit.Code != test.code || exit.Text != test.text {
			// What a program says before it ends well need not be waited for.
			t.Errorf("%q: %+v, %v, want %d, %s", test.role, exit, err, test.code, test.text)
		}
	}
}

func TestStdout(t *testing.T) {
	input := strings.Repeat("a line\n", 100_000) + "\x00\r\xff"
	for _, input := range []string{"", input} {
		var out bytes.Buffer
		r := run(t, input, "cat")
		r.Stdout = &out
		exit, err := r.Do(t.Context())
		if err != nil || exit.Code != 0 || out.String() != input {
			t.Errorf("%d of %d octets, %+v, %v", out.Len(), len(input), exit, err)
		}
	}
}

// A program need not read its standard input.
func TestStdinUnread(t *testing.T) {
	exit, err := run(t, strings.Repeat("x", 1<<20), "exit", "0").Do(t.Context())
	if err != nil || exit.Code != 0 {
		t.Errorf("%+v, %v", exit, err)
	}
}

func TestArguments(t *testing.T) {
	var out bytes.Buffer
	r := run(t, "", "args", "", "a b", "$HOME", "*")
	r.Stdout = &out
	if _, err := r.Do(t.Context()); err != nil || out.String() != "\"\"\n\"a b\"\n\"$HOME\"\n\"*\"\n" {
		t.Errorf("%s, %v", &out, err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("MAIL_PASSWORD", "secret-1")
	t.Setenv("SSH_AUTH_SOCK", "secret-2")
	t.Setenv("HOMEPAGE", "secret-3")
	t.Setenv("LC_ALL", "C")
	var out bytes.Buffer
	r := run(t, "", "environment")
	r.Stdout, r.Env = &out, []string{"MAILHAUL_UID=x y"}
	if _, err := r.Do(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := "\n" + out.String()
	for _, want := range []string{"\nPATH=", "\nLC_ALL=C\n", "\nMAILHAUL_UID=x y\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	if strings.Contains(got, "secret") {
		t.Errorf("a secret leaked: %s", got)
	}
}

func TestUmask(t *testing.T) {
	old := syscall.Umask(0o022)
	defer syscall.Umask(old)
	name := filepath.Join(t.TempDir(), "mail")
	if _, err := run(t, "", "create", name).Do(t.Context()); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(name)
	if err != nil || fi.Mode() != 0o600 {
		t.Errorf("created with %v, %v", fi, err)
	}
	if now := syscall.Umask(0o022); now != 0o022 {
		t.Errorf("our own umask is now %#o", now)
	}
}

func TestWorkingFolder(t *testing.T) {
	dir := t.TempDir()
	r := run(t, "", "create", "here")
	r.Dir = dir
	if _, err := r.Do(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "here")); err != nil {
		t.Error(err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	exit, err := run(t, "", "shout").Do(t.Context())
	if err != nil || exit.Code != 1 {
		t.Fatalf("%+v, %v", exit, err)
	}
	if n := len(exit.Text); n > 5000 || !strings.HasSuffix(exit.Text, `the end"`) || !strings.Contains(exit.Text, "…") {
		t.Errorf("kept %d octets: %.50s … %s", n, exit.Text, exit.Text[max(0, n-50):])
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func TestStdoutError(t *testing.T) {
	full := errors.New("the disk is full")
	r := run(t, "", "write without end")
	r.Stdout = brokenWriter{full}
	if _, err := r.Do(t.Context()); !errors.Is(err, full) {
		t.Error(err)
	}
}

func TestTimeout(t *testing.T) {
	socket, _ := listen(t)
	r := run(t, "", "hang", socket)
	r.Timeout = 50 * time.Millisecond
	_, err := r.Do(t.Context())
	var e *program.TimeoutError
	if !errors.As(err, &e) || e.Limit != r.Timeout {
		t.Errorf("%v", err)
	}
}

// When the context is cancelled, the program and its child, which ignores SIGTERM, are
// killed.
func TestGroupIsKilled(t *testing.T) {
	socket, accept := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	r := run(t, "", "hang with a child", socket)
	r.Grace = 20 * time.Millisecond
	done := make(chan error, 1)
	go func() {
		_, err := r.Do(ctx)
		done <- err
	}()
	first, second := accept(), accept()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for _, conn := range []net.Conn{first, second} {
		if n, err := io.Copy(io.Discard, conn); n != 0 || err != nil { // it returns when the process is gone
			t.Errorf("%d, %v", n, err)
		}
	}
}

// A program first gets SIGTERM and time to end. Its exit code after that does not count.
func TestTermComesFirst(t *testing.T) {
	socket, accept := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	r := run(t, "", "hang and say bye", socket)
	done := make(chan error, 1)
	go func() {
		_, err := r.Do(ctx)
		done <- err
	}()
	conn := accept()
	cancel()
	if said, err := io.ReadAll(conn); string(said) != "bye" || err != nil {
		t.Errorf("%q, %v", said, err)
	}
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A child process that outlives the program and holds its output open is not waited for.
func TestOutputLeftOpen(t *testing.T) {
	socket, accept := listen(t)
	exit, err := run(t, "", "leave a child", socket).Do(t.Context())
	if err != nil || exit.Code != 0 {
		t.Errorf("%+v, %v", exit, err)
	}
	accept().Close()

	// If its standard output is wanted, that is an error: the output may be incomplete.
	r := run(t, "", "leave a child", socket)
	r.Stdout, r.Grace = io.Discard, 20*time.Millisecond
	if _, err := r.Do(t.Context()); err == nil || !strings.Contains(err.Error(), "keeps its standard output open") {
		t.Errorf("%v, want an error about the output", err)
	}
	accept().Close()
}

// If the parent is killed while the program reads, the program can still read the whole
// message: it never takes a part for the whole.
func TestKilledWhileItReads(t *testing.T) {
	socket, accept := listen(t)
	r := run(t, "a whole message", "")
	argv := playtest.Argv("run", r.Stdin.Name(), "read in two steps", socket)
	parent := exec.Command(argv[0], argv[1:]...)
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	conn := accept()
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it was killed
	if _, err := conn.Write([]byte("!")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != "a whole message, <nil>" || err != nil {
		t.Errorf("the program read %s, %v", got, err)
	}
}

func TestContextIsObeyed(t *testing.T) {
	dead, cancel := context.WithCancel(t.Context())
	cancel()
	name := filepath.Join(t.TempDir(), "x")
	if _, err := run(t, "", "create", name).Do(dead); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := os.Stat(name); err == nil {
		t.Error("the program was run")
	}
}

func TestStartError(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("not a program\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*program.Run)
		want   deliver.Fault
	}{
		"missing":        {func(r *program.Run) { r.Path = filepath.Join(dir, "missing") }, deliver.FaultOperator},
		"not a program":  {func(r *program.Run) { r.Path = script }, deliver.FaultOperator},
		"no such folder": {func(r *program.Run) { r.Dir = filepath.Join(dir, "missing") }, deliver.FaultOperator},
		"too long":       {func(r *program.Run) { r.Args = []string{strings.Repeat("x", 4<<20)} }, deliver.FaultMessage},
	} {
		r := run(t, "", "exit", "0")
		test.change(r)
		_, err := r.Do(t.Context())
		var e *program.StartError
		if !errors.As(err, &e) || e.Fault() != test.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
