package mda_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/delivertest"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
	"github.com/mailhaul/mailhaul/deliver/mda"
	"github.com/mailhaul/mailhaul/deliver/program/playtest"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

// listen returns the path of a socket, and a channel that is closed when a program has
// connected to it.
func listen(t *testing.T) (socket string, ready <-chan struct{}) {
	t.Helper()
	l := playtest.Listen(t)
	here := make(chan struct{})
	go func() {
		if _, err := l.Accept(); err == nil {
			close(here)
		}
	}()
	return l.Addr().String(), here
}

// crashAt delivers three messages and is killed before operation n of the file system. It
// returns an error if Settle then contradicts what happened. done is whether all messages
// were delivered before operation n.
func crashAt(t *testing.T, n int, sabotage func(durabletest.Op) error) (done bool, err error) {
	t.Helper()
	dir := t.TempDir()
	fsys := durabletest.New()
	fsys.OnOp(sabotage)
	fsys.CrashAt(n)
	open := func(fsys *durabletest.FS) *mda.Sink {
		sink, err := mda.New(mda.Options{Argv: playtest.Argv("keep", dir), Spool: spool.New("/spool", fsys)})
		if err != nil {
			t.Fatal(err)
		}
		return sink
	}

	b, err := open(fsys).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var staged int
	for ; staged < 3 && err == nil; staged++ {
		_, err = b.Stage(t.Context(), deliver.Mail{Account: "work"}, strings.NewReader(fmt.Sprint(staged)))
	}
	var promises []deliver.Promise
	if err == nil {
		promises, err = b.Prepare(t.Context())
	}
	reported := map[deliver.Ticket]bool{}
	stop := errors.New("the caller dies before it has journalled anything")
	if err == nil {
		err = b.Commit(t.Context(), func(r deliver.Receipt) error {
			if r.Err != nil {
				t.Error(r.Err)
			}
			if err := fsys.Mark("receipt"); err != nil {
				return err
			}
			reported[r.Ticket] = true
			if len(reported) == 3 {
				return stop
			}
			return nil
		})
	}
	done = errors.Is(err, stop)
	if !done && !errors.Is(err, durabletest.ErrCrashed) {
		t.Fatalf("operation %d: %v", n, err)
	}

	got, err := kept(dir)
	if err != nil {
		t.Fatal(err)
	}
	after := slices.Collect(fsys.PowerCuts())
	for _, fsys := range append(after, fsys.Kill()) {
		sink := open(fsys.Kill())
		for range 2 { // the second answer must be the same
			for _, p := range promises {
				switch v, err := sink.Settle(t.Context(), p.Token); {
				case err != nil:
					return done, err
				case v == deliver.NotLanded, v == deliver.Landed && !slices.Contains(got, fmt.Sprint(p.Ticket)):
					return done, fmt.Errorf("message %d: %v, and the program got %q", p.Ticket, v, got)
				case v != deliver.Landed && reported[p.Ticket]:
					return done, fmt.Errorf("message %d was reported and is now %v", p.Ticket, v)
				}
			}
		}
		if err := sink.Sweep(t.Context(), "work"); err != nil {
			return done, err
		}
	}
	return done, nil
}

// After a kill or a power cut at any operation, Landed is what was reported,
// and nothing that the program did not take.
func TestSettleAfterCrash(t *testing.T) {
	for n := 1; ; n++ {
		done, err := crashAt(t, n, func(durabletest.Op) error { return nil })
		if err != nil {
			t.Errorf("killed before operation %d: %v", n, err)
		}
		if done {
			break
		}
	}
}

// Leaving out a step of the order on disk must be noticed.
func TestBrokenOrder(t *testing.T) {
	for _, step := range []struct {
		verb  durabletest.Verb
		match string
	}{
		{durabletest.Rename, "/spool/*"},
		{durabletest.SyncDir, "/spool"},
	} {
		noticed := false
		for n := 1; !noticed; n++ {
			done, err := crashAt(t, n, durabletest.Skip(step.verb, step.match))
			noticed = err != nil
			if done {
				break
			}
		}
		if !noticed {
			t.Errorf("nothing went wrong without %s %s", step.verb, step.match)
		}
	}
}

// What cannot be looked at now is asked about again.
func TestSettleLater(t *testing.T) {
	fsys := durabletest.New()
	sink, err := mda.New(mda.Options{Argv: playtest.Argv("close"), Spool: spool.New("/spool", fsys)})
	if err != nil {
		t.Fatal(err)
	}
	b, tokens := delivertest.Prepare(t, sink, deliver.Mail{Account: "work"}, "x")
	stop := errors.New("the caller cannot journal it")
	if err := b.Commit(t.Context(), func(deliver.Receipt) error { return stop }); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	fsys.OnOp(durabletest.FailNth(durabletest.Open, 1, syscall.EMFILE))
	if v, err := sink.Settle(t.Context(), tokens[0]); v != deliver.Unknown || !errors.Is(err, syscall.EMFILE) {
		t.Errorf("Settle = %v, %v", v, err)
	}
	if v, err := sink.Settle(t.Context(), tokens[0]); v != deliver.Landed || err != nil {
		t.Errorf("Settle = %v, %v", v, err)
	}
}

// A full disk of the spool is not the program's fault.
func TestErrorNamesTheSpool(t *testing.T) {
	for _, verb := range []durabletest.Verb{durabletest.Write, durabletest.Sync} {
		fsys := durabletest.New()
		fsys.OnOp(func(op durabletest.Op) error {
			if op.Verb == verb {
				return syscall.ENOSPC
			}
			return nil
		})
		sink, err := mda.New(mda.Options{Argv: playtest.Argv("close"), Spool: spool.New("/spool", fsys)})
		if err != nil {
			t.Fatal(err)
		}
		b, err := sink.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer b.Abort()
		if _, err = b.Stage(t.Context(), deliver.Mail{Account: "work"}, strings.NewReader("x\r\n")); err == nil {
			_, err = b.Prepare(t.Context())
		}
		e, ok := errors.AsType[*deliver.Error](err)
		if !ok || e.Fault != deliver.FaultMachine || e.Target != "/spool" || e.Hint == "" {
			t.Errorf("%s fails: %#v", verb, err)
		}
	}
}
