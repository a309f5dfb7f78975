package mbox_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/delivertest"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
	"github.com/mailhaul/mailhaul/deliver/mbox"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

func open(fsys durable.FS, dir string) (deliver.Sink, error) {
	return mbox.New(filepath.Join(dir, "inbox"), mbox.Options{
		FS: fsys, Spool: spool.New(filepath.Join(dir, "spool"), fsys), Host: "here",
	})
}

func read(fsys durable.FS, dir string) ([]string, error) {
	s, err := readFile(fsys, filepath.Join(dir, "inbox"))
	if err != nil {
		return nil, err
	}
	return split(s)
}

var errLocked = errors.New("the mbox is locked")

// readUnlocked reads as a mail reader does that honours the lock file.
func readUnlocked(fsys durable.FS, dir string) ([]string, error) {
	if _, err := fsys.Stat(filepath.Join(dir, "inbox.lock")); err == nil {
		return nil, errLocked
	}
	return read(fsys, dir)
}

func TestSuite(t *testing.T) {
	delivertest.Run(t, delivertest.Suite{Open: open, Read: read, Canon: canon})
}

// TestCrash has the process killed, the power cut and each operation fail. A
// reader that honours the lock file must never see a message in part, and in
// the end no lock file may be left.
func TestCrash(t *testing.T) {
	s := delivertest.Suite{Open: open, Read: readUnlocked, Canon: canon}
	for messages := 1; messages <= 3; messages++ {
		if testing.Short() && messages > 1 {
			break
		}
		states, err := delivertest.Crash(s, messages, 1, nil)
		if err != nil {
			t.Error(err)
		}
		t.Logf("%d messages: %d restarts", messages, states)
	}
}

// TestBrokenOrder leaves out one step of the order on disk after the other.
// Each must matter.
func TestBrokenOrder(t *testing.T) {
	for _, step := range []struct {
		name  string
		verb  durabletest.Verb
		match string
	}{
		{"sync the mbox", durabletest.Sync, "/mail/inbox"},
		{"sync its directory", durabletest.SyncDir, "/mail"},
		{"sync the spool file", durabletest.Sync, "/mail/spool/*"},
		{"sync the spool", durabletest.SyncDir, "/mail/spool"},
		{"remove the lock file", durabletest.Remove, "/mail/inbox.lock"},
	} {
		t.Run(step.name, func(t *testing.T) {
			s := delivertest.Suite{Open: open, Read: readUnlocked, Canon: canon}
			_, err := delivertest.Crash(s, 2, 1, func(op durabletest.Op) error {
				if ok, _ := filepath.Match(step.match, op.Path); ok && op.Verb == step.verb {
					return durabletest.ErrSkip
				}
				return nil
			})
			if err == nil {
				t.Error("nothing went wrong without it")
			}
			t.Log(err)
		})
	}
}
