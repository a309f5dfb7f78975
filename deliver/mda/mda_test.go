package mda_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/delivertest"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/mda"
	"github.com/mailhaul/mailhaul/deliver/program"
	"github.com/mailhaul/mailhaul/deliver/program/playtest"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

// open returns a sink with a spool of its own.
func open(t *testing.T, o mda.Options) *mda.Sink {
	t.Helper()
	o.Spool = spool.New(filepath.Join(t.TempDir(), "spool"), durable.OS)
	sink, err := mda.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

// deliverAll delivers messages in one batch and returns the receipts' errors.
func deliverAll(t *testing.T, sink deliver.Sink, wire ...string) (receipts []error, err error) {
	t.Helper()
	b, _ := delivertest.Prepare(t, sink, deliver.Mail{Account: "work"}, wire...)
	defer b.Abort()
	err = b.Commit(t.Context(), func(r deliver.Receipt) error {
		receipts = append(receipts, r.Err)
		return nil
	})
	return receipts, err
}

// exitAsTold is a command that ends with the exit code in the message, or kills itself. It is
// a shell, which starts faster than the test binary: some hundred are started.
var exitAsTold = []string{"sh", "-c", `read -r verb code; [ "$verb" = exit ] || kill -KILL $$; echo "so be $code"; exit "$code"`}

// All exit codes in one batch. None of these stops the messages behind it.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	wire := []string{"die"}
	last := 255
	if testing.Short() {
		last = 80
	}
	codes := []int{-1}
	for code := range last + 1 {
		if code == 126 || code == 127 { // end the batch, see TestCannotRun
			continue
		}
		wire = append(wire, fmt.Sprintf("exit %d\r\n", code))
		codes = append(codes, code)
	}
	receipts, err := deliverAll(t, open(t, mda.Options{Argv: exitAsTold}), wire...)
	if err != nil || len(receipts) != len(wire) {
		t.Fatalf("%d receipts, %v", len(receipts), err)
	}
	for i, err := range receipts {
		code := codes[i]
		if code == 0 {
			if err != nil {
				t.Errorf("exit code 0: %v", err)
			}
			continue
		}
		want, say := deliver.FaultMessage, fmt.Sprintf(`exit status %d: "so be %d"`, code, code)
		switch code {
		case -1:
			want, say = deliver.FaultTemporary, "signal: killed"
		case 75:
			want = deliver.FaultTemporary
		}
		if delivertest.FaultOf(err) != want || !strings.Contains(err.Error(), say) {
			t.Errorf("exit code %d: fault %v, %v", code, delivertest.FaultOf(err), err)
		}
	}
}

// Exit codes 126 and 127 mean that a program could not be run. They end the batch.
func TestCannotRun(t *testing.T) {
	t.Parallel()
	for _, code := range []int{126, 127} {
		bad := fmt.Sprintf("exit %d\r\n", code)
		receipts, err := deliverAll(t, open(t, mda.Options{Argv: exitAsTold}), "exit 0\r\n", bad, "exit 0\r\n")
		e, ok := errors.AsType[*deliver.Error](err)
		if len(receipts) != 1 || receipts[0] != nil || !ok || e.Fault != deliver.FaultOperator || e.Hint == "" {
			t.Errorf("exit code %d: %v, %v", code, receipts, err)
		}
	}
}

// A program that exits with 0 has accepted the message, even if it has read none of it.
func TestStdinUnread(t *testing.T) {
	large := strings.Repeat("x", 1<<20)
	for _, role := range []string{"do not read", "close"} {
		receipts, err := deliverAll(t, open(t, mda.Options{Argv: playtest.Argv(role)}), large, "")
		if err != nil || len(receipts) != 2 || receipts[0] != nil || receipts[1] != nil {
			t.Errorf("%s: %v, %v", role, receipts, err)
		}
	}
}

func TestValues(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	sink := open(t, mda.Options{
		Argv:      playtest.Argv("tell", out, "{user}", "{account}", "{sender}", "{recipient}", "{size}", "{uid}", "<{sender}>"),
		Recipient: "me",
	})
	for _, test := range []struct {
		mail deliver.Mail
		want string
	}{
		{
			deliver.Mail{User: "a b", Account: "$HOME", Sender: "x;id@example.org", UID: "{user}"},
			"a b\n$HOME\nx;id@example.org\nme\n3\n{user}\n<x;id@example.org>\n" +
				"MAILHAUL_USER=a b\nMAILHAUL_ACCOUNT=$HOME\nMAILHAUL_SENDER=x;id@example.org\n" +
				"MAILHAUL_RECIPIENT=me\nMAILHAUL_SIZE=3\nMAILHAUL_UID={user}\n",
		},
		{
			deliver.Mail{},
			"\n\n\nme\n3\n\n<>\n" +
				"MAILHAUL_USER=\nMAILHAUL_ACCOUNT=\nMAILHAUL_SENDER=\nMAILHAUL_RECIPIENT=me\nMAILHAUL_SIZE=3\nMAILHAUL_UID=\n",
		},
	} {
		b, _ := delivertest.Prepare(t, sink, test.mail, "a\r\nb")
		if err := b.Commit(t.Context(), func(r deliver.Receipt) error { return r.Err }); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(out)
		if diff := cmp.Diff(test.want, string(got)); diff != "" || err != nil {
			t.Errorf("%+v: %v\n%s", test.mail, err, diff)
		}
	}
}

// What must not be an argument refuses one message, and the batch goes on.
func TestValuesRefused(t *testing.T) {
	b, err := open(t, mda.Options{Argv: playtest.Argv("do not read", "{sender}")}).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	for _, mail := range []deliver.Mail{{Sender: "-f"}, {Sender: "a\nb"}, {UID: "a\x00b"}, {User: "a\r"}} {
		if _, err := b.Stage(t.Context(), mail, strings.NewReader("x")); delivertest.FaultOf(err) != deliver.FaultMessage {
			t.Errorf("%+v: %v", mail, err)
		}
	}
	if ticket, err := b.Stage(t.Context(), deliver.Mail{UID: "-1"}, strings.NewReader("x")); ticket != 0 || err != nil {
		t.Errorf("the next message: %d, %v", ticket, err)
	}
}

// Without a recipient in the options, that of the message counts.
func TestRecipientOfTheMessage(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	b, err := open(t, mda.Options{Argv: playtest.Argv("tell", out, "{recipient}")}).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	if _, err := b.Stage(t.Context(), deliver.Mail{}, strings.NewReader("x")); delivertest.FaultOf(err) != deliver.FaultMessage {
		t.Errorf("no recipient: %v", err)
	}
	if _, err := b.Stage(t.Context(), deliver.Mail{Recipients: []string{"me@example.org", "you@example.org"}}, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(t.Context(), func(r deliver.Receipt) error { return r.Err }); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil || !strings.HasPrefix(string(got), "me@example.org\n") || !strings.Contains(string(got), "MAILHAUL_RECIPIENT=me@example.org\n") {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, o := range map[string]mda.Options{
		"no command line":         {},
		"an unknown placeholder":  {Argv: []string{"x", "{from}"}},
		"a recipient with LF":     {Argv: []string{"x"}, Recipient: "a\nb"},
		"a recipient like -x":     {Argv: []string{"x", "{recipient}"}, Recipient: "-x"},
		"mail in a shell's words": {Argv: []string{"sh", "-c", "x {sender}"}},
	} {
		_, err := mda.New(o)
		if delivertest.FaultOf(err) != deliver.FaultOperator {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBeginLooks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]mda.Options{
		"missing":            {Argv: []string{file + "-x"}},
		"not executable":     {Argv: []string{file}},
		"no working folder":  {Argv: playtest.Argv("keep"), Dir: file + "-x"},
		"a file for the dir": {Argv: playtest.Argv("keep"), Dir: file},
	} {
		_, err := open(t, o).Begin(t.Context())
		if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultOperator || e.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The program goes away, or turns out to be none, after Begin.
func TestProgramCannotRun(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("no program\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	receipts, err := deliverAll(t, open(t, mda.Options{Argv: []string{script}}), "one", "two")
	if delivertest.FaultOf(err) != deliver.FaultOperator || len(receipts) != 0 {
		t.Errorf("%v, %v", receipts, err)
	}
}

// One message that hangs does not hold up the others.
func TestTimeout(t *testing.T) {
	t.Parallel()
	var receipts []error
	var err error
	for timeout := 100 * time.Millisecond; timeout < 5*time.Minute; timeout *= 4 {
		sink := open(t, mda.Options{Argv: playtest.Argv("hang if asked to"), Timeout: timeout})
		receipts, err = deliverAll(t, sink, "hang", "x", "hang", "x")
		late := func(err error) bool { _, ok := errors.AsType[*program.TimeoutError](err); return ok }
		if len(receipts) < 2 || !late(receipts[1]) && !late(receipts[len(receipts)-1]) {
			break
		}
		// The machine is too busy for those that do not hang.
	}
	if err != nil || len(receipts) != 4 {
		t.Fatalf("%v, %v", receipts, err)
	}
	for i, err := range receipts {
		if hangs := i%2 == 0; hangs != (err != nil) || hangs && delivertest.FaultOf(err) != deliver.FaultTemporary {
			t.Errorf("message %d: %v", i, err)
		}
	}
}

// A value that is too long for a command line refuses one message, and the batch goes on.
func TestValueTooLong(t *testing.T) {
	b, err := open(t, mda.Options{Argv: playtest.Argv("do not read")}).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	for _, uid := range []string{strings.Repeat("x", 1<<20), "y"} {
		if _, err := b.Stage(t.Context(), deliver.Mail{UID: uid}, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	var receipts []error
	err = b.Commit(t.Context(), func(r deliver.Receipt) error {
		receipts = append(receipts, r.Err)
		return nil
	})
	if err != nil || len(receipts) != 2 || delivertest.FaultOf(receipts[0]) != deliver.FaultMessage || receipts[1] != nil {
		t.Errorf("%v, %v", receipts, err)
	}
}

// A program that hangs over two messages in a row is not tried with a third.
func TestProgramHangs(t *testing.T) {
	sink := open(t, mda.Options{Argv: playtest.Argv("hang if asked to"), Timeout: 10 * time.Millisecond})
	receipts, err := deliverAll(t, sink, "hang", "hang", "hang")
	if delivertest.FaultOf(err) != deliver.FaultTemporary || len(receipts) != 2 {
		t.Fatalf("%v, %v", receipts, err)
	}
	if receipts, err := deliverAll(t, sink, "hang", "hang"); err != nil || len(receipts) != 2 {
		t.Errorf("with no third: %v, %v", receipts, err)
	}
}

// A batch that is given up while a program runs kills it, and nobody knows
// what it did.
func TestCancelledRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	socket, ready := listen(t)
	sink := open(t, mda.Options{Argv: playtest.Argv("announce and hang", socket)})
	b, err := sink.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Stage(ctx, deliver.Mail{Account: "work"}, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	promises, err := b.Prepare(ctx)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-ready
		cancel()
	}()
	err = b.Commit(ctx, func(r deliver.Receipt) error {
		t.Errorf("reported: %+v", r)
		return nil
	})
	if !errors.Is(err, context.Canceled) || delivertest.FaultOf(err) != deliver.FaultTemporary {
		t.Error(err)
	}
	if v, err := sink.Settle(t.Context(), promises[0].Token); v != deliver.Unknown || err != nil {
		t.Errorf("Settle = %v, %v", v, err)
	}
}
