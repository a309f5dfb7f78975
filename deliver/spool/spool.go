// Package spool keeps messages on the local disk, private to mailhaul, for
// sinks that need a whole message before they can act on it.
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
	ready bool // the folder is there and its name is durable
}

// New returns the spool in the folder path, whose parent must exist when the
// first file is created. It does not touch the disk.
func New(path string, fsys durable.FS) *Dir {
	return &Dir{fs: fsys, path: path}
}

// Path is the path of a file in the spool.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, name) }

// Create creates an empty file for account, open for reading and writing and
// readable by its owner only. Its Name is a path; the base of it is what the
// other methods take. The file and its name are durable after its Sync and
// that of the Dir.
//
// The name begins with a digest of account, for Sweep. Nothing that a server
// sent is ever part of it.
func (d *Dir) Create(account string) (durable.File, error) {
	f, err := d.create(account)
	if errors.Is(err, fs.ErrNotExist) {
		// Somebody has removed the folder since it was found.
		d.mu.Lock()
		d.ready = false
		d.mu.Unlock()
		f, err = d.create(account)
	}
	return f, err
}

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

// ensureFolder creates the folder if it is missing. Its name is synced even if it is
// there: who created it may have died before that.
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

// Open opens a file for reading and writing. If it is not there, the error is
// fs.ErrNotExist to errors.Is.
func (d *Dir) Open(name string) (durable.File, error) {
	f, err := d.fs.OpenFile(d.Path(name), os.O_RDWR, 0)
	if err != nil {
		return nil, d.Error("open a file", err)
	}
	return f, nil
}

// Rename gives a file another suffix: what follows the first dot of its name.
// It returns the new name.
func (d *Dir) Rename(name, suffix string) (string, error) {
	to := Base(name) + "." + suffix
	if err := d.fs.Rename(d.Path(name), d.Path(to)); err != nil {
		return "", d.Error("rename a file", err)
	}
	return to, nil
}

// Base is the part of a file's name that Rename keeps.
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

// Exists reports whether there is a file of that name, without reading the folder.
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

// Remove removes a file; that it is not there is no error. The removal is not
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

// Sweep removes all files of an account and nothing else. It goes on after a
// file that it cannot remove and returns the first error.
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

// list returns the names that match; a folder that is missing is empty.
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

// prefix is what the names of an account's files begin with.
func prefix(account string) string {
	sum := sha256.Sum256([]byte(account))
	return hex.EncodeToString(sum[:8]) + "-"
}

// Error makes a *deliver.Error of what went wrong with a file that Create or
// Open returned, op being what failed: "write a message". It names the spool,
// whose disk is another than that of the mail's destination as often as not,
// and has a hint. An error that is a *deliver.Error already stays as it is.
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

// MessageError is Error for a message that could not be written to a file of its
// own: if it is too large for a file, that is the message's fault.
func (d *Dir) MessageError(err error) error {
	const op = "write a message"
	if e, ok := deliver.TooLarge(d.path, op, err); ok {
		return e
	}
	return d.Error(op, err)
}
