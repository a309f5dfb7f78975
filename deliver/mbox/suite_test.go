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

// open returns a sink for the mbox "inbox" in a directory.
func open(fsys durable.FS, dir string) (deliver.Sink, error) {
	return mbox.New(filepath.Join(dir, "inbox"), mbox.Options{
		FS: fsys, Spool: spool.New(filepath.Join(dir, "spool"), fsys), Host: "here",
	})
}

// read returns the messages of the mbox, locked or not.
func read(fsys durable.FS, dir string) ([]string, error) {
	s, err := readFile(fsys, filepath.Join(dir, "inbox"))
	if err != nil {
		return nil, err
	}
	return split(s)
}

var errLocked = errors.New("the mbox is locked")

// readUnlocked is read for a mail reader that respects the lock file.
func readUnlocked(fsys durable.FS, dir string) ([]string, error) {
	if _, err := fsys.Stat(filepath.Join(dir, "inbox.lock")); err == nil {
		return nil, errLocked
	}
	return read(fsys, dir)
}

func TestSuite(t *testing.T) {
	delivertest.Run(t, delivertest.Suite{Open: open, Read: read, Canon: canon})
}

// TestCrash has a reader that respects the lock file. It must never see part of a message,
// and no lock file may be left in the end.
func TestCrash(t *testing.T) {
	delivertest.RunCrash(t, delivertest.Suite{
		Open: open, Read: readUnlocked, Canon: canon,
		Broken: []delivertest.Broken{
			{Name: "the mbox is not synced", Op: durabletest.Skip(durabletest.Sync, "/mail/inbox")},
			{Name: "its directory is not synced", Op: durabletest.Skip(durabletest.SyncDir, "/mail")},
			{Name: "the spool file is not synced", Op: durabletest.Skip(durabletest.Sync, "/mail/spool/*")},
			{Name: "the spool is not synced", Op: durabletest.Skip(durabletest.SyncDir, "/mail/spool")},
			{Name: "the lock file stays", Op: durabletest.Skip(durabletest.Remove, "/mail/inbox.lock")},
		},
	}, 1)
}
