// Package spool keeps messages in private files on the local disk, for sinks and filters
// that need a whole message before they can act on it. spool.go has the folder and its
// files, batch.go what is common to the batches of these sinks, and stdin.go opens a
// file for a program to read.
package spool

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
)

// Dir is a spool folder. Several sinks and accounts may share one. All
// methods may be called from several goroutines at once; their errors are
// *deliver.Error.
type Dir struct {
	fs   durable.FS
	path string

	mu    sync.Mutex
	ready bool // the folder exists and its name is durable
}

// New returns the spool in the folder path, whose parent must exist when the
// first file is created. It does not touch the disk.
func New(path string, fsys durable.FS) *Dir {
	return &Dir{fs: fsys, path: path}
}

// Path returns the path of a file in the spool.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, name) }

// Create creates an empty file for account and opens it for reading and writing. Only its
// owner can read it. The Name of the file is a path; the other methods take the base of
// it. The file is durable after its Sync, and its name after that of the Dir.
//
// The name begins with a digest of account, for Sweep. Nothing that a server sent is part
// of it.
func (d *Dir) Create(account string) (durable.File, error) {
	f, err := d.create(account)
	if errors.Is(err, fs.ErrNotExist) {
		// The folder was removed since ensureFolder.
		d.mu.Lock()
		d.ready = false
		d.mu.Unlock()
		f, err = d.create(account)
	}
	return f, err
}

// create is one attempt of Create.
func (d *Dir) create(account string) (durable.File, error) {
	if err := d.ensureFolder(); err != nil {
		return nil, err
	}
	name := d.Path(prefix(account) + rand.Text())
	f, err := d.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, d.Error("create a file", err)
	}
	return f, nil
}

// ensureFolder creates the folder if it is missing, and syncs its name. It does so even
// if the folder exists: the process that created it may have died before it did.
func (d *Dir) ensureFolder() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ready {
		return nil
	}
	if err := d.fs.Mkdir(d.path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return d.Error("create the folder", err)
	}
	if err := d.fs.SyncDir(filepath.Dir(d.path)); err != nil {
		return d.Error("sync the parent folder", err)
	}
	d.ready = true
	return nil
}

// Open opens a file for reading and writing. If it does not exist, the error is
// fs.ErrNotExist to errors.Is.
func (d *Dir) Open(name string) (durable.File, error) {
	f, err := d.fs.OpenFile(d.Path(name), os.O_RDWR, 0)
	if err != nil {
		return nil, d.Error("open a file", err)
	}
	return f, nil
}

// Rename gives a file another suffix, which is what follows the first dot in its name. It
// returns the new name.
func (d *Dir) Rename(name, suffix string) (string, error) {
	to := Base(name) + "." + suffix
	if err := d.fs.Rename(d.Path(name), d.Path(to)); err != nil {
		return "", d.Error("rename a file", err)
	}
	return to, nil
}

// Base returns the part of a file's name that Rename keeps.
func Base(name string) string {
	base, _, _ := strings.Cut(name, ".")
	return base
}

// HasBase reports whether there is a file whose name has that Base.
func (d *Dir) HasBase(base string) bool {
	if base == "" {
		return false
	}
	names, err := d.list(func(name string) bool { return Base(name) == base })
	return err == nil && len(names) > 0
}

// Exists reports whether there is a file of that name. It does not list the folder.
func (d *Dir) Exists(name string) bool {
	_, err := d.fs.Stat(d.Path(name))
	return err == nil
}

// List returns the names of the files with a suffix, of all accounts.
func (d *Dir) List(suffix string) ([]string, error) {
	return d.list(func(name string) bool {
		_, s, _ := strings.Cut(name, ".")
		return s == suffix
	})
}

// Remove removes a file. It is no error if the file does not exist. The removal is not
// synced: if a power cut undoes it, Sweep removes the file again.
func (d *Dir) Remove(name string) error {
	err := d.fs.Remove(d.Path(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d.Error("remove a file", err)
	}
	return nil
}

// Sync makes the names in the spool durable.
func (d *Dir) Sync() error {
	if err := d.fs.SyncDir(d.path); err != nil {
		return d.Error("sync the folder", err)
	}
	return nil
}

// Sweep removes all files of an account. If it cannot remove one, it continues with the
// next and returns the first error.
func (d *Dir) Sweep(account string) error {
	own := prefix(account)
	names, err := d.list(func(name string) bool { return strings.HasPrefix(name, own) })
	for _, name := range names {
		if rerr := d.Remove(name); err == nil {
			err = rerr
		}
	}
	return err
}

// list returns the names for which match returns true. A missing folder has none.
func (d *Dir) list(match func(string) bool) ([]string, error) {
	entries, err := d.fs.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, d.Error("list the folder", err)
	}
	var names []string
	for _, e := range entries {
		if match(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// prefix returns the beginning of the names of an account's files.
func prefix(account string) string {
	sum := sha256.Sum256([]byte(account))
	return hex.EncodeToString(sum[:8]) + "-"
}

// Error returns a *deliver.Error for an error of a file that Create or Open returned. op
// says what failed: "write a message". The error names the spool, which is often on
// another disk than the destination of the mail, and has a hint. A *deliver.Error is
// returned unchanged.
func (d *Dir) Error(op string, err error) error {
	if _, ok := errors.AsType[*deliver.Error](err); ok {
		return err
	}
	e := &deliver.Error{Fault: deliver.FaultOf(err), Target: d.path, Op: op, Err: err}
	switch e.Fault {
	case deliver.FaultMachine:
		e.Hint = "make sure that the disk of " + d.path + " is in order and has room"
	case deliver.FaultOperator:
		e.Hint = "mailhaul keeps mail in " + d.path + " before it is delivered: let it write there"
	}
	return e
}

// MessageError is Error for a file that holds a single message. If it is too large for
// the file system, the error is a FaultMessage.
func (d *Dir) MessageError(err error) error {
	const op = "write a message"
	if e, ok := deliver.TooLarge(d.path, op, err); ok {
		return e
	}
	return d.Error(op, err)
}
