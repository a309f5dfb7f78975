package state_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch/state"
)

func TestPragmas(t *testing.T) {
	s := open(t, t.TempDir())
	for name, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1",
		"fullfsync": "1", "checkpoint_fullfsync": "1", "busy_timeout": "30000",
	} {
		got, err := s.Pragma(name)
		ok(t, err)
		if got != want {
			t.Errorf("PRAGMA %s is %s, want %s", name, got, want)
		}
	}
}

// lockDatabase locks the database in dir for writing, as another process may, until
// release is called.
func lockDatabase(t *testing.T, dir string) (release func()) {
	t.Helper()
	db := openRaw(t, filepath.Join(dir, "state", "mailhaul.db"))
	conn, err := db.Conn(t.Context())
	ok(t, err)
	must := func(query string) {
		t.Helper()
		_, err := conn.ExecContext(t.Context(), query)
		ok(t, err)
	}
	must("BEGIN IMMEDIATE")
	return func() {
		t.Helper()
		must("ROLLBACK")
		ok(t, conn.Close())
	}
}

// waitForQueued waits until n writes are queued.
func waitForQueued(s *state.Store, n int) {
	for s.Queued() < n {
		runtime.Gosched()
	}
}

func TestWritesShareACommit(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	commits := s.CountCommits()
	release := lockDatabase(t, dir)
	const n = 50
	errs := make(chan error)
	for i := range n {
		go func() {
			errs <- s.Promise(t.Context(), fmt.Sprint(i), []state.Promise{promise("u", "home")})
		}()
	}
	failed := make(chan error)
	go func() { failed <- doLand(1, "u", "home")(t, s) }() // fails: it was never promised
	waitForQueued(s, n+1)
	release()

	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if err := <-failed; err == nil {
		t.Error("a landing that was never promised was noted")
	}
	if got := commits.Load(); got != 1 {
		t.Errorf("%d commits, want 1", got)
	}
	if names := names(t, s); len(names) != n { // and not "work", whose change was undone
		t.Errorf("accounts %q, want %d", names, n)
	}
}

func TestNothingToWrite(t *testing.T) {
	s := open(t, t.TempDir())
	commits := s.CountCommits()
	apply(t, s,
		doPromise(), doDeleteUnconfirmed(1), doKeep(1, state.Housekeeping{}),
		func(t *testing.T, s *state.Store) error { return s.Land(t.Context(), "work", 1, nil) },
		func(t *testing.T, s *state.Store) error { return s.Retract(t.Context(), "work", nil) },
		func(t *testing.T, s *state.Store) error { return s.Refuse(t.Context(), "work", nil) },
	)
	if got := commits.Load(); got != 0 {
		t.Errorf("%d commits, want none", got)
	}
	apply(t, s, doPromise(promise("u", "home")))
	if got := commits.Load(); got != 1 {
		t.Errorf("%d commits after a promise, want 1", got)
	}
}

func TestContextDropsQueuedWrite(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	release := lockDatabase(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Promise(ctx, "work", []state.Promise{promise("dropped", "home")}) }()
	waitForQueued(s, 1)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("Promise: %v, want %v", err, context.Canceled)
	}
	release()
	apply(t, s, doPromise(promise("u", "home")))
	if all := rows(t, s, "work"); len(all) != 1 || all[0].UID != "u" {
		t.Errorf("rows %v, want u alone", all)
	}
}

// If the context ends while a change is being written, the caller still learns that it
// was written.
func TestContextEndsDuringWrite(t *testing.T) {
	s := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	s.OnCommit(cancel)
	ok(t, s.Promise(ctx, "work", []state.Promise{promise("u", "home")}))
}

func TestCanceledContext(t *testing.T) {
	s := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, rows := s.Rows(ctx, "work")
	_, promises := s.Promises(ctx, "work")
	_, deliveries := s.Deliveries(ctx, "work", "u")
	_, polls := s.Polls(ctx, "work", 1)
	_, status := s.Status(ctx, "work", 1)
	_, accounts := s.Accounts(ctx)
	_, lease := s.Lease(ctx, "work")
	_, opened := state.Open(ctx, filepath.Join(t.TempDir(), "state"))
	for i, err := range []error{rows, promises, deliveries, polls, status, accounts, lease, opened, s.Forget(ctx, "work")} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("call %d: %v, want %v", i, err, context.Canceled)
		}
	}
}

func TestCloseWritesQueue(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	release := lockDatabase(t, dir)
	done, closed := make(chan error), make(chan error)
	go func() { done <- doPromise(promise("u", "home"))(t, s) }()
	waitForQueued(s, 1)
	go func() { closed <- s.Close() }()
	release()
	ok(t, <-done)
	ok(t, <-closed)
	if err := doPromise(promise("v", "home"))(t, s); !errors.Is(err, state.ErrClosed) {
		t.Errorf("a write after Close: %v, want %v", err, state.ErrClosed)
	}
	if all := rows(t, open(t, dir), "work"); len(all) != 1 {
		t.Errorf("rows %v, want u", all)
	}
}

// Goroutines that write while the Store is closed get ErrClosed, and what they wrote
// before is there.
func TestCloseDuringWrites(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	const n = 20
	begun, written := make(chan struct{}, n), make(chan int)
	for i := range n {
		go func() {
			for did := 0; ; did++ {
				if err := s.Promise(t.Context(), "work", []state.Promise{promise(fmt.Sprint(i, ".", did), "home")}); err != nil {
					if !errors.Is(err, state.ErrClosed) {
						t.Error(err)
					}
					written <- did
					return
				}
				if did == 0 {
					begun <- struct{}{}
				}
			}
		}()
	}
	for range n {
		<-begun
	}
	ok(t, s.Close())
	total := 0
	for range n {
		total += <-written
	}
	if all := rows(t, open(t, dir), "work"); len(all) != total {
		t.Errorf("%d rows, and %d writes succeeded", len(all), total)
	}
}

func TestIsMachineError(t *testing.T) {
	for _, err := range []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS, syscall.EDQUOT, syscall.EMFILE} {
		if !state.IsMachineError(fmt.Errorf("write: %w", err)) {
			t.Errorf("%v is an error of the machine", err)
		}
	}
	for _, err := range []error{nil, syscall.EACCES, context.Canceled, state.ErrClosed, &state.HeldError{Since: time.Unix(0, 0)}} {
		if state.IsMachineError(err) {
			t.Errorf("%v is no error of the machine", err)
		}
	}
}

// TestFullDisk has a child reach a size limit of files, and write again once the limit is
// raised.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "full", filepath.Join(dir, "state"))
	if got, want := p.readLine(t), "machine: true"; got != want {
		t.Fatalf("the child printed %q, want %q", got, want)
	}
	reported := p.readLine(t)
	for p.out.Scan() {
		t.Error(p.out.Text())
	}
	ok(t, p.Wait())
	if got := fmt.Sprint(len(rows(t, open(t, dir), "work")), " written"); got != reported {
		t.Errorf("found %s, the child printed %s", got, reported)
	}
}
