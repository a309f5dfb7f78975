package durable_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// A lock keeps out other descriptors of the same process, and is not lost when
// one of those is closed.
func TestTryLock(t *testing.T) {
	name := filepath.Join(t.TempDir(), "mbox")
	open := func() durable.File {
		f, err := durable.OS.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	first := open()
	if err := first.TryLock(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		second := open()
		if err := second.TryLock(); err != durable.ErrLocked {
			t.Errorf("second lock: %v", err)
		}
		second.Close()
	}
	first.Close()
	third := open()
	defer third.Close()
	if err := third.TryLock(); err != nil {
		t.Errorf("lock after the first was released: %v", err)
	}
}
