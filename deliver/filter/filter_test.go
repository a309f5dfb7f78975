package filter_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/delivertest"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
	"github.com/mailhaul/mailhaul/deliver/filter"
	"github.com/mailhaul/mailhaul/deliver/program/playtest"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

func TestMain(m *testing.M) { playtest.Main(m, play) }

// play runs a role of the test binary.
func play(role string, args []string) int {
	switch role {
	case "tag": // a field before the message
		fmt.Printf("X-Filter: %s\n", strings.Join(args, " "))
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "copy":
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "CRLF":
		b, _ := io.ReadAll(os.Stdin)
		_, _ = os.Stdout.Write(bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")))
	case "exit": // after some output
		fmt.Fprintln(os.Stderr, "for a reason")
		fmt.Print(strings.Join(args[1:], " "))
		code, _ := strconv.Atoi(args[0])
		return code
	case "die":
		fmt.Print("half a mess")
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Hour)
	case "hang":
		fmt.Print("half a mess")
		time.Sleep(time.Hour)
	case "never end":
		for line := []byte(strings.Repeat("x", 1<<10) + "\n"); ; {
			if _, err := os.Stdout.Write(line); err != nil {
				time.Sleep(time.Hour)
			}
		}
	case "touch":
		_ = os.WriteFile(args[0], nil, 0o600)
	}
	return 0
}

// open returns a filter with a spool of its own, which must be empty when the
// test ends.
func open(t *testing.T, o filter.Options) *filter.Filter {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "spool")
	o.Spool = spool.New(dir, durable.OS)
	f, err := filter.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, err := os.ReadDir(dir); len(left) > 0 || err != nil && !os.IsNotExist(err) {
			t.Errorf("left in the spool: %v, %v", left, err)
		}
	})
	return f
}

const hello = "Subject: hello\r\n\r\nHello.\r\n"

var mail = deliver.Mail{Account: "work", User: "me@example.org", Sender: "you@example.org", UID: "7"}

// pass runs a filter on a message. It returns the verdict, the message that is to be
// delivered, and the warning.
func pass(t *testing.T, f *filter.Filter, wire string) (v filter.Verdict, out, warning string, err error) {
	t.Helper()
	r, err := f.Run(t.Context(), mail, strings.NewReader(wire))
	if err != nil {
		return 0, "", "", err
	}
	defer r.Close()
	for range 2 { // the result can be read more than once
		b, err := io.ReadAll(r.Open())
		if err != nil || out != "" && out != string(b) {
			t.Fatalf("%q, then %q, %v", out, b, err)
		}
		out = string(b)
	}
	return r.Verdict, out, r.Warning, nil
}

// The exit code decides the verdict, by default or by the codes of the options.
func TestVerdicts(t *testing.T) {
	own := filter.Options{Keep: []int{0, 1, 2}, Quarantine: []int{3}, Drop: []int{4}, AllowDrop: true}
	for _, test := range []struct {
		role    []string
		o       filter.Options
		verdict filter.Verdict
		on      string
		warning string
	}{
		{role: []string{"tag", "{sender}", "{size}"}, on: "X-Filter: you@example.org 23\r\n" + hello},
		{role: []string{"copy"}, on: hello},
		{role: []string{"exit", "0", "a\nb"}, on: "a\r\nb"},
		{role: []string{"exit", "100"}, verdict: filter.Quarantine, on: hello},
		{role: []string{"exit", "100", "bad\n"}, verdict: filter.Quarantine, on: "bad\r\n"},
		{role: []string{"exit", "99", "x"}, o: filter.Options{AllowDrop: true}, verdict: filter.Drop, on: hello},
		{role: []string{"exit", "99", "x"}, on: hello, warning: "not allowed to (exit status 99"},
		{role: []string{"exit", "99", "x"}, o: filter.Options{OnFailure: filter.Wait}, on: hello, warning: "not allowed to"},

		{role: []string{"exit", "1", "changed"}, o: own, on: "changed"},
		{role: []string{"exit", "2", "changed"}, o: own, on: "changed"},
		{role: []string{"exit", "3"}, o: own, verdict: filter.Quarantine, on: hello},
		{role: []string{"exit", "4"}, o: own, verdict: filter.Drop, on: hello},
		{role: []string{"exit", "99", "changed"}, o: own, on: hello, warning: "exit status 99"},
	} {
		o := test.o
		o.Argv = playtest.Argv(test.role[0], test.role[1:]...)
		verdict, on, warning, err := pass(t, open(t, o), hello)
		if err != nil || verdict != test.verdict || on != test.on ||
			!strings.Contains(warning, test.warning) || (warning == "") != (test.warning == "") {
			t.Errorf("%q: %v, %q, %q, %v", test.role, verdict, on, warning, err)
		}
	}
}

// If a filter fails, the original message is delivered unchanged, or waits if the options
// say so.
func TestFailures(t *testing.T) {
	original := "Subject: x\r\n\r\na\nb\r\r\nc\x00\r"
	missing := filepath.Join(t.TempDir(), "missing")
	for _, test := range []struct {
		argv    []string
		timeout time.Duration
		warning string
		fault   deliver.Fault // with Wait
	}{
		{argv: playtest.Argv("exit", "3", "half a mess"), warning: `exit status 3: "for a reason"`},
		{argv: playtest.Argv("exit", "75"), warning: "exit status 75"},
		{argv: playtest.Argv("exit", "0"), warning: "it wrote nothing"},
		{argv: playtest.Argv("die"), warning: "signal: killed"},
		{argv: playtest.Argv("hang"), timeout: 100 * time.Millisecond, warning: "did not end within 100ms"},
		{argv: playtest.Argv("never end"), warning: "it wrote more than"},
		{argv: []string{missing}, warning: "find the program", fault: deliver.FaultOperator},
		{argv: []string{"sh", "-c", missing}, warning: "exit status 127", fault: deliver.FaultOperator},
	} {
		o := filter.Options{Argv: test.argv, Timeout: test.timeout}
		verdict, on, warning, err := pass(t, open(t, o), original)
		if err != nil || verdict != filter.Keep || on != original ||
			!strings.Contains(warning, test.warning) || !strings.HasSuffix(warning, ")") {
			t.Errorf("%q: %v, %q, %q, %v", test.argv, verdict, on, warning, err)
		}

		o.OnFailure = filter.Wait
		_, _, _, err = pass(t, open(t, o), original)
		if delivertest.FaultOf(err) != test.fault || !strings.Contains(err.Error(), test.warning) {
			t.Errorf("%q, with Wait: %v", test.argv, err)
		}
	}
}

// A filter that copies a message does not change it, except that every line end becomes CRLF.
func TestLineEnds(t *testing.T) {
	large := strings.Repeat("a line of some length\r\n", 20_000)
	for _, test := range []struct{ in, out string }{
		{hello, hello},
		{"", ""},
		{"no line end", "no line end"},
		{"\r\n\r\n", "\r\n\r\n"},
		{"a\rb\r\n\x00\xff\r\n\r", "a\rb\r\n\x00\xff\r\n\r"},
		{"a\nb\r\n", "a\r\nb\r\n"},
		{"a\r\r\nb\r\n", "a\r\nb\r\n"},
		{large, large},
	} {
		for _, role := range []string{"copy", "CRLF"} {
			if role == "CRLF" && strings.Contains(test.in, "\r\r\n") {
				continue // what it writes then is up to it
			}
			_, on, warning, err := pass(t, open(t, filter.Options{Argv: playtest.Argv(role)}), test.in)
			if err != nil || on != test.out || warning != "" {
				t.Errorf("%s of %.100q: %.100q, %q, %v", role, test.in, on, warning, err)
			}
		}
	}
}

// A message that could not be read completely is not passed to the program.
func TestBrokenBody(t *testing.T) {
	touched := filepath.Join(t.TempDir(), "touched")
	f := open(t, filter.Options{Argv: playtest.Argv("touch", touched)})
	for _, broken := range []error{errors.New("the line went dead"), io.ErrUnexpectedEOF} {
		r, err := f.Run(t.Context(), mail, io.MultiReader(strings.NewReader(hello), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) || r != nil {
			t.Errorf("%v, %v, want %v", r, err, broken)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Run(cancelled, mail, strings.NewReader(hello)); !errors.Is(err, context.Canceled) || delivertest.FaultOf(err) != deliver.FaultTemporary {
		t.Errorf("with a cancelled context: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := f.Run(ctx, mail, io.MultiReader(strings.NewReader(hello), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, io.EOF
	})))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is cancelled meanwhile: %v", err)
	}
	if _, err := os.Stat(touched); err == nil {
		t.Error("the program was run")
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestValuesRefused(t *testing.T) {
	f := open(t, filter.Options{Argv: playtest.Argv("copy", "{sender}")})
	for _, sender := range []string{"-x", "a\nb"} {
		_, err := f.Run(t.Context(), deliver.Mail{Sender: sender}, strings.NewReader(hello))
		if delivertest.FaultOf(err) != deliver.FaultMessage {
			t.Errorf("%q: %v", sender, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, o := range map[string]filter.Options{
		"no command line":   {},
		"a recipient":       {Argv: []string{"x", "{recipient}"}},
		"two meanings":      {Argv: []string{"x"}, Keep: []int{0, 99}},
		"no exit code":      {Argv: []string{"x"}, Drop: []int{256}},
		"a shell's program": {Argv: []string{"sh", "-c", "x {uid}"}},
	} {
		_, err := filter.New(o)
		if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultOperator || e.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheck(t *testing.T) {
	if err := open(t, filter.Options{Argv: playtest.Argv("copy")}).Check(); err != nil {
		t.Error(err)
	}
	err := open(t, filter.Options{Argv: []string{filepath.Join(t.TempDir(), "missing")}}).Check()
	if delivertest.FaultOf(err) != deliver.FaultOperator {
		t.Error(err)
	}
}

// An error of the spool is not one of the filter: no message is delivered, not even the
// original, and no file is left in the spool.
func TestSpoolFails(t *testing.T) {
	operations := 0 // until nothing fails any more
	for n := 1; operations == 0; n++ {
		fsys := durabletest.New()
		fsys.OnOp(func(op durabletest.Op) error {
			if op.N == n && op.Verb != durabletest.Remove {
				return syscall.ENOSPC
			}
			return nil
		})
		f, err := filter.New(filter.Options{Argv: playtest.Argv("copy"), Spool: spool.New("/spool", fsys)})
		if err != nil {
			t.Fatal(err)
		}
		r, err := f.Run(t.Context(), mail, strings.NewReader(hello))
		if err == nil {
			operations = n
			if on, err := io.ReadAll(r.Open()); string(on) != hello || err != nil || r.Warning != "" {
				t.Errorf("%q, %v, %q", on, err, r.Warning)
			}
			r.Close()
		} else if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultMachine || e.Target != "/spool" || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("operation %d: %v", n, err)
		}
		if left, err := fsys.ReadDir("/spool"); err == nil && len(left) > 0 || len(fsys.OpenFiles()) > 0 {
			t.Errorf("operation %d: left: %v, open: %v", n, left, fsys.OpenFiles())
		}
	}
	if operations < 8 {
		t.Errorf("only %d operations", operations)
	}
}

// If the message or the output of the filter exceeds the maximum size of a file, the message
// is refused.
func TestTooLargeForAFile(t *testing.T) {
	for n := 1; n <= 3; n++ { // the original, the program's and its output
		fsys := durabletest.New()
		writes := 0
		fsys.OnOp(func(op durabletest.Op) error {
			if op.Verb != durabletest.Write {
				return nil
			}
			if writes++; writes == n {
				return syscall.EFBIG
			}
			return nil
		})
		f, err := filter.New(filter.Options{Argv: playtest.Argv("copy"), Spool: spool.New("/spool", fsys)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Run(t.Context(), mail, strings.NewReader(hello)); delivertest.FaultOf(err) != deliver.FaultMessage || !errors.Is(err, syscall.EFBIG) {
			t.Errorf("write %d: %v", n, err)
		}
		if left, _ := fsys.ReadDir("/spool"); len(left) > 0 {
			t.Errorf("write %d: left: %v", n, left)
		}
	}
}

// Sweep removes the files of a dead process.
func TestSweep(t *testing.T) {
	fsys := durabletest.New()
	open := func(fsys *durabletest.FS) *filter.Filter {
		f, err := filter.New(filter.Options{Argv: playtest.Argv("copy"), Spool: spool.New("/spool", fsys)})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if _, err := open(fsys).Run(t.Context(), mail, strings.NewReader(hello)); err != nil {
		t.Fatal(err)
	}
	fsys = fsys.Kill()
	if left, err := fsys.ReadDir("/spool"); err != nil || len(left) == 0 {
		t.Fatalf("nothing was left: %v", err)
	}
	if err := open(fsys).Sweep(t.Context(), mail.Account); err != nil {
		t.Error(err)
	}
	if left, err := fsys.ReadDir("/spool"); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := open(fsys).Sweep(cancelled, mail.Account); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A program that hangs twice is not run for a pause of five minutes. After each pause it is
// tried once.
func TestProgramHangs(t *testing.T) {
	argv := playtest.Argv("hang")
	self, program := argv[0], filepath.Join(t.TempDir(), "program")
	install := func() {
		if err := os.Symlink(self, program); err != nil {
			t.Fatal(err)
		}
	}
	install()
	argv[0] = program
	now := time.Now()
	f := open(t, filter.Options{Argv: argv, Timeout: 20 * time.Millisecond, Now: func() time.Time { return now }})
	want := func(what string, warnings ...string) {
		t.Helper()
		for _, want := range warnings {
			_, on, warning, err := pass(t, f, hello)
			if err != nil || on != hello || !strings.Contains(warning, want) {
				t.Errorf("%s: %q, %q, %v, want %q", what, on, warning, err, want)
			}
		}
	}
	const timedOut, paused = "did not end within", "is not run again"
	want("it hangs", timedOut, timedOut, paused, paused)
	now = now.Add(4 * time.Minute)
	want("the pause is not over", paused)
	now = now.Add(time.Minute)
	want("it still hangs", timedOut, paused)
	now = now.Add(5 * time.Minute)
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	want("it fails at once", "find the program", "find the program")
	install()
	want("it hangs again", timedOut, timedOut, paused)
}

// With OnFailure: Wait, messages are kept back during the pause as well.
func TestProgramHangsWait(t *testing.T) {
	f := open(t, filter.Options{Argv: playtest.Argv("hang"), Timeout: 20 * time.Millisecond, OnFailure: filter.Wait})
	for range 3 {
		_, _, _, err := pass(t, f, hello)
		if delivertest.FaultOf(err) != deliver.FaultTemporary {
			t.Error(err)
		}
	}
	_, _, _, err := pass(t, f, hello)
	if delivertest.FaultOf(err) != deliver.FaultTemporary || !strings.Contains(err.Error(), "is not run again") {
		t.Error(err)
	}
}
