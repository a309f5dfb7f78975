package spool_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

func TestBatch(t *testing.T) {
	disk := durabletest.New()
	d := spool.New("/spool", disk)
	b := d.Batch("sink")
	if err := b.Check(t.Context(), "stage"); err != nil || b.File != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.Open("work"); err != nil {
			t.Fatal(err)
		}
	}
	if left := names(t, disk, "/spool"); len(left) != 1 || left[0] != b.Name {
		t.Errorf("files %q, want %q", left, b.Name)
	}
	if _, err := io.WriteString(b.File, "one two"); err != nil {
		t.Fatal(err)
	}
	why := errors.New("cut short")
	if err := b.TruncateTo(3, why); err != why {
		t.Error(err)
	}
	if info, err := b.File.Stat(); err != nil || info.Size() != 3 {
		t.Errorf("%v: not cut", err)
	}

	dead, cancel := context.WithCancel(t.Context())
	cancel()
	e, ok := errors.AsType[*deliver.Error](b.Check(dead, "prepare"))
	if !ok || e.Fault != deliver.FaultTemporary || e.Target != "sink" || e.Op != "prepare" || !errors.Is(e, context.Canceled) {
		t.Errorf("with a dead context: %v", e)
	}

	err := b.FailFile("write a batch", syscall.ENOSPC)
	if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultMachine || !strings.Contains(e.Hint, "/spool") {
		t.Errorf("full disk: %v", err)
	}
	for step, got := range map[string]error{"Ready": b.Check(t.Context(), "stage"), "Commits": b.BeginCommit()} {
		if got != err {
			t.Errorf("%s of a broken batch: %v", step, got)
		}
	}
	for range 2 { // it was not committed
		if err := b.Abort(); err != nil || len(names(t, disk, "/spool")) > 0 {
			t.Errorf("Abort: %v, files %q", err, names(t, disk, "/spool"))
		}
	}

	b = d.Batch("sink")
	if err := errors.Join(b.Open("work"), b.BeginCommit(), b.Abort()); err != nil || len(names(t, disk, "/spool")) != 1 {
		t.Errorf("Abort after Commits: %v, files %q", err, names(t, disk, "/spool"))
	}
	b = d.Batch("sink")
	if err := b.Abort(); err != nil || b.Check(t.Context(), "stage") == nil || b.BeginCommit() == nil {
		t.Errorf("%v: an aborted batch goes on", err)
	}
}
