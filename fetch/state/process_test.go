package state_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailhaul/mailhaul/fetch/state"
)

func TestLease(t *testing.T) {
	s := open(t, t.TempDir())
	l, err := s.Lease(t.Context(), "work")
	ok(t, err)
	var held *state.HeldError
	if _, err := s.Lease(t.Context(), "work"); !errors.As(err, &held) {
		t.Fatalf("second lease: %v, want *HeldError", err)
	}
	if held.Account != "work" || held.PID != os.Getpid() || time.Since(held.Since).Abs() > time.Hour {
		t.Errorf("held by %+v, want this process, now", held)
	}
	other, err := s.Lease(t.Context(), "other")
	ok(t, err)
	ok(t, other.Release())
	ok(t, l.Release())
	ok(t, l.Release()) // does nothing

	again, err := s.Lease(t.Context(), "work")
	ok(t, err)
	ok(t, l.Release()) // still nothing: not the new holder's
	if _, err := s.Lease(t.Context(), "work"); !errors.As(err, &held) {
		t.Errorf("an old lease's second Release freed the new one: %v", err)
	}
	ok(t, again.Release())
}

// CheckLease returns the error that Lease would, and creates nothing.
func TestCheckLease(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "state")
	ok(t, state.CheckLease(dir, "work")) // Open would create all
	s := open(t, parent)
	ok(t, state.CheckLease(dir, "work"))
	l, err := s.Lease(t.Context(), "work")
	ok(t, err)
	ok(t, state.CheckLease(dir, "work"))
	path := l.File().Name()
	ok(t, l.Release())
	ok(t, os.Remove(path))
	ok(t, os.Mkdir(path, 0o700))
	_, err = s.Lease(t.Context(), "work")
	if got := state.CheckLease(dir, "work"); err == nil || fmt.Sprint(got) != err.Error() {
		t.Errorf("CheckLease: %v, Lease: %v", got, err)
	}
	ok(t, state.CheckLease(dir, "other"))
}

// Release frees the lease even while a child process has a copy of its descriptor.
func TestReleaseWithCopiedDescriptor(t *testing.T) {
	s := open(t, t.TempDir())
	l, err := s.Lease(t.Context(), "work")
	ok(t, err)
	fd, err := unix.Dup(int(l.File().Fd())) // as fork(2) does
	ok(t, err)
	defer unix.Close(fd)
	ok(t, l.Release())
	again, err := s.Lease(t.Context(), "work")
	ok(t, err)
	ok(t, again.Release())
}

// Lease fails if the database was removed or replaced: what a poll would write to it
// would be lost.
func TestLeaseWithoutDatabase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, err := state.Open(t.Context(), dir)
	ok(t, err)
	defer s.Close()
	for _, change := range []func() error{
		func() error { return os.RemoveAll(dir) },
		func() error { // and another process creates a new one
			other, err := state.Open(t.Context(), dir)
			return errors.Join(err, other.Close())
		},
	} {
		ok(t, change())
		_, err := s.Lease(t.Context(), "work")
		var e *state.Error
		if !errors.As(err, &e) || e.Path != filepath.Join(dir, "mailhaul.db") || !strings.Contains(e.Hint, "start it again") || state.IsMachineError(err) {
			t.Errorf("Lease: %v, want an *Error that names the database", err)
		} else if !strings.Contains(e.Hint, "-wal") {
			t.Errorf("hint %q, which does not mention the -wal that must not stay", e.Hint)
		}
	}
}

// Lease fails if the folder of leases was removed: another process may hold a lease by a
// file in it.
func TestLeaseWithoutFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, err := state.Open(t.Context(), dir)
	ok(t, err)
	defer s.Close()
	leases := filepath.Join(dir, "leases")
	ok(t, os.RemoveAll(leases))
	_, err = s.Lease(t.Context(), "work")
	var e *state.Error
	if !errors.As(err, &e) || e.Path != leases || !strings.Contains(e.Hint, "start it again") || state.IsMachineError(err) {
		t.Errorf("Lease: %v, want an *Error that names the folder", err)
	}
	if _, err := os.Stat(leases); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder: %v", err)
	}
	again, err := state.Open(t.Context(), dir)
	ok(t, err)
	defer again.Close()
	l, err := again.Lease(t.Context(), "work")
	ok(t, err)
	ok(t, l.Release())
}

// A HeldError names the process only if it is known.
func TestHeldError(t *testing.T) {
	for want, err := range map[string]*state.HeldError{
		`account "work" is being polled already`:                                                    {Account: "work"},
		`account "work" is being polled already, by process 1 since 1970-01-01 00:00:00`:            {Account: "work", PID: 1, Since: time.Unix(0, 0).UTC()},
		"a daemon is running on this state folder already, by process 12 since 1970-01-01 00:00:00": {PID: 12, Since: time.Unix(0, 0).UTC()},
	} {
		if got := err.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestLeaseEndsWithItsProcess(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	p := start(t, "lease", filepath.Join(dir, "state"))
	if got := p.readLine(t); got != "held" {
		t.Fatal(got)
	}
	var held *state.HeldError
	if _, err := s.Lease(t.Context(), "work"); !errors.As(err, &held) || held.PID != p.Process.Pid {
		t.Fatalf("lease: %v, want one held by process %d", err, p.Process.Pid)
	}
	p.kill()
	l, err := s.Lease(t.Context(), "work")
	ok(t, err)
	ok(t, l.Release())
}

// TestKill kills a process that writes, each time after more writes, and checks that every
// write that it reported is there.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	for round := range 8 {
		p := start(t, "promise", dir)
		var reported []string
		for range 1 + 7*round {
			reported = append(reported, p.readLine(t))
		}
		reported = append(reported, p.kill()...)

		s, err := state.Open(t.Context(), dir)
		ok(t, err)
		phases := make(map[string]state.Phase)
		for _, r := range rows(t, s, "work") {
			phases[r.UID] = r.Phase
		}
		for _, line := range reported {
			word, uid, _ := strings.Cut(line, " ")
			switch got := phases[uid]; word {
			case "promised":
				if got != state.Promised && got != state.Landed {
					t.Errorf("round %d: reported %q, found %v", round, line, got)
				}
			case "landed":
				if got != state.Landed {
					t.Errorf("round %d: reported %q, found %v", round, line, got)
				}
			default:
				t.Fatal(line)
			}
		}
		ok(t, s.Forget(t.Context(), "work"))
		ok(t, s.Close())
	}
}

// The -wal that a killed process left is not applied to a new database, after the old
// one was removed.
func TestCreateBesideOldWAL(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	p := start(t, "promise", dir)
	p.readLine(t)
	p.kill()
	path := filepath.Join(dir, "mailhaul.db")
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() == 0 {
		t.Fatal("no -wal was left", err)
	}
	ok(t, os.Remove(path))

	s, err := state.Open(t.Context(), dir)
	ok(t, err)
	defer s.Close()
	if got := rows(t, s, "work"); len(got) != 0 {
		t.Errorf("the new database has the rows %v", got)
	}
	apply(t, s, doPromise(promise("u", "home")))
}

func TestTwoProcessesWrite(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	p := start(t, "write", filepath.Join(dir, "state"))
	if got := p.readLine(t); got != "writing" {
		t.Fatal(got)
	}
	for i := range 200 {
		ok(t, s.Refuse(t.Context(), "parent", []state.Refusal{{UID: fmt.Sprint(i)}}))
		rows(t, s, "child")
	}
	for p.out.Scan() {
		t.Error(p.out.Text())
	}
	ok(t, p.Wait())
	for _, account := range []string{"parent", "child"} {
		if n := len(rows(t, s, account)); n != 200 {
			t.Errorf("%d rows of %s, want 200", n, account)
		}
	}
}

func TestReadOnlyBesideWriter(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	p := start(t, "promise", dir)
	p.readLine(t)
	check := func(when string) {
		t.Helper()
		s, err := state.OpenReadOnly(t.Context(), dir)
		ok(t, err)
		defer s.Close()
		if len(rows(t, s, "work")) == 0 {
			t.Error(when, "nothing was read")
		}
		if err := s.Forget(t.Context(), "work"); !errors.Is(err, state.ErrReadOnly) {
			t.Errorf("%s a write gave %v", when, err)
		}
		if _, err := s.Lease(t.Context(), "work"); !errors.Is(err, state.ErrReadOnly) {
			t.Errorf("%s a lease gave %v", when, err)
		}
	}
	check("beside a writer")
	p.kill()
	check("after a kill")
	s, err := state.Open(t.Context(), dir)
	ok(t, err)
	ok(t, s.Close())
	before := list(t, dir)
	check("after a clean end")
	if after := list(t, dir); after != before {
		t.Errorf("reading left %s, before there was %s", after, before)
	}
}

// list returns the names in a folder.
func list(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	ok(t, err)
	return fmt.Sprint(entries)
}
