package maildir_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/delivertest"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
	"github.com/mailhaul/mailhaul/deliver/maildir"
)

// readFile reads a whole file.
func readFile(fsys durable.FS, name string) (string, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	return string(content), err
}

// list returns the paths of the messages that a mail reader finds. A Maildir
// that does not exist has none.
func list(fsys durable.FS, dir string) ([]string, error) {
	var names []string
	for _, sub := range []string{"new", "cur"} {
		entries, err := fsys.ReadDir(filepath.Join(dir, sub))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			names = append(names, filepath.Join(dir, sub, e.Name()))
		}
	}
	return names, nil
}

// read returns the messages of the Maildir.
func read(fsys durable.FS, dir string) ([]string, error) {
	names, err := list(fsys, filepath.Join(dir, "Maildir"))
	if err != nil {
		return nil, err
	}
	var messages []string
	for _, name := range names {
		m, err := readFile(fsys, name)
		if err != nil {
			return nil, err
		}
		messages = append(messages, m)
	}
	return messages, nil
}

// take removes all messages, durably, and returns them.
func take(fsys durable.FS, dir string) ([]string, error) {
	messages, err := read(fsys, dir)
	if err != nil {
		return nil, err
	}
	names, err := list(fsys, filepath.Join(dir, "Maildir"))
	for _, name := range names {
		err = errors.Join(err, fsys.Remove(name))
	}
	if len(names) > 0 {
		for _, sub := range []string{"new", "tmp", "cur"} {
			err = errors.Join(err, fsys.SyncDir(filepath.Join(dir, "Maildir", sub)))
		}
	}
	return messages, err
}

var suite = delivertest.Suite{
	Open: func(fsys durable.FS, dir string) (deliver.Sink, error) {
		return maildir.New(filepath.Join(dir, "Maildir"), maildir.Options{FS: fsys})
	},
	Read: read,
	Take: take,
	Broken: []delivertest.Broken{
		{Name: "messages are not synced", Op: durabletest.Skip(durabletest.Sync, "/mail/Maildir/tmp/*")},
		{Name: "tmp is not synced", Op: durabletest.Skip(durabletest.SyncDir, "/mail/Maildir/tmp")},
		{Name: "new is not synced", Op: durabletest.Skip(durabletest.SyncDir, "/mail/Maildir/new")},
		{Name: "the Maildir is not synced", Op: durabletest.Skip(durabletest.SyncDir, "/mail/Maildir")},
		{Name: "the folder of the Maildir is not synced", Op: durabletest.Skip(durabletest.SyncDir, "/mail")},
		{Name: "messages are not renamed", Op: durabletest.Skip(durabletest.Rename, "/mail/Maildir/tmp/*")},
		{Name: "leftovers stay", Op: durabletest.Skip(durabletest.Remove, "/mail/Maildir/tmp/*")},
	},
}

func TestSuite(t *testing.T) { delivertest.Run(t, suite) }
func TestCrash(t *testing.T) { delivertest.RunCrash(t, suite, 2) }
