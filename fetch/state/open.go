package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// databaseName is the database's file in the state folder.
const databaseName = "mailhaul.db"

// busyTimeout bounds the wait for another process that writes, in
// milliseconds. Transactions are short: only a process that was stopped, or a
// disk that hangs, holds the database longer.
const busyTimeout = 30_000

// Store is an open state folder. Its methods may be called from several
// goroutines, and several processes may have the same folder open. What a
// method has written, every later read sees.
type Store struct {
	dir, path string
	opened    fs.FileInfo // of the database
	read      *reader
	write     *writer // nil if opened by OpenReadOnly
}

// Open opens the state folder dir, and creates it if it is missing. Before
// it reads anything it makes durable what an earlier process, killed perhaps,
// left in the page cache: else a power cut could still undo what a poll has
// already acted upon.
//
// The folder is private: one that others may enter is refused, with the chmod
// to run as hint, rather than changed, since it may be a folder that mailhaul
// was pointed at by mistake. A damaged database is an error and is never
// replaced. The folder is for one machine: the processes that use it share
// memory, which they cannot over a network. Errors are *Error.
func Open(ctx context.Context, dir string) (*Store, error) {
	path := filepath.Join(dir, databaseName)
	if err := makeStateFolder(dir); err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = createDatabase(ctx, dir, path)
	} else if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return nil, wrap(path, "open", err)
	}

	db, conn, err := openWriter(ctx, path)
	if err != nil {
		return nil, wrap(path, "open", err)
	}
	settled, err := checkpoint(ctx, conn)
	version := 0
	if err = wrap(path, "open", err); err == nil {
		version, err = checkSchema(ctx, path, conn)
	}
	switch {
	case err != nil:
	case version < len(migrations):
		err = wrap(path, "migrate", migrate(ctx, conn))
	case !settled:
		err = wrap(path, "open", migrate(ctx, conn))
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close(), db.Close())
	}
	if info, err = os.Stat(path); err != nil {
		return nil, errors.Join(wrap(path, "open", err), conn.Close(), db.Close())
	}
	s := &Store{dir: dir, path: path, opened: info, read: openReader(path), write: newWriter(path, db, conn)}
	go s.write.run()
	return s, nil
}

// OpenReadOnly opens the state folder dir for reading, while others may be
// writing. It creates nothing and changes nothing that is remembered. If there
// is no database the error wraps fs.ErrNotExist; all errors are *Error. What it
// reads is what was committed last, durable or not: it is for showing, not for
// acting upon.
func OpenReadOnly(ctx context.Context, dir string) (*Store, error) {
	path := filepath.Join(dir, databaseName)
	if _, err := os.Stat(path); err != nil {
		return nil, wrap(path, "open", err)
	}
	db := openReader(path)
	version, err := checkSchema(ctx, path, db)
	if err == nil && version < len(migrations) {
		err = &Error{Path: path, Op: "open",
			Err:  fmt.Errorf("written by an older mailhaul (schema %d, this one reads %d)", version, len(migrations)),
			Hint: "run mailhaul fetch once: it brings the database up to date"}
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return &Store{dir: dir, path: path, read: db}, nil
}

// checkInPlace returns an error if the database that is open is no longer the one at its
// path, as when a backup was put back: what it is told is forgotten once it is
// closed, and other processes remember by another.
func (s *Store) checkInPlace() error {
	now, err := os.Stat(s.path)
	if err == nil && os.SameFile(s.opened, now) {
		return nil
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return &Error{Path: s.path, Op: "look for the database", Err: errors.New("it was removed or replaced after mailhaul had opened it"),
			Hint: "end mailhaul, see that the right state folder is in its place, with no -wal or -shm of another database, " +
				"and start it again: without it, mail still on the servers is fetched anew"}
	}
	return wrap(s.path, "look for the database", err)
}

// Failed returns a channel that gets an *Error once the disk has failed to keep
// what was written to it. From then on every write fails, since only who opens
// the folder anew knows what it holds. The Store is one that Open returned.
func (s *Store) Failed() <-chan error { return s.write.syncFailed }

// Close ends what was being written, and closes the database. Leases are
// released on their own.
func (s *Store) Close() error {
	err := s.read.Close()
	if s.write != nil {
		err = errors.Join(err, s.write.close())
	}
	return wrap(s.path, "close", err)
}

// makeStateFolder sees to it that dir and its folder of leases are there and
// private.
func makeStateFolder(dir string) error {
	if err := mkdirDurably(dir); err != nil {
		return wrap(dir, "create the state folder", err)
	}
	if err := CheckFolder(dir); err != nil {
		return err
	}
	leases := filepath.Join(dir, leaseFolder)
	return wrap(leases, "create the folder of leases", mkdirDurably(leases))
}

// CheckFolder returns the *Error with which Open would refuse the folder dir, which
// is there, for what it is: none, or one that others may enter.
func CheckFolder(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return wrap(dir, "open the state folder", err)
	}
	if !info.IsDir() {
		return &Error{Path: dir, Op: "open the state folder", Err: unix.ENOTDIR, Hint: "state names a folder"}
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return &Error{Path: dir, Op: "open the state folder",
			Err:  fmt.Errorf("others may enter it (mode %04o)", perm),
			Hint: fmt.Sprintf("chmod 700 %q, if it is meant for mailhaul alone", dir)}
	}
	return nil
}

// mkdirDurably makes a folder, durably, and those above it that are missing.
func mkdirDurably(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := mkdirDurably(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return durable.OS.SyncDir(filepath.Dir(dir))
}

// createDatabase makes an empty database at path, unless another process is faster. It
// is built under another name and moved in place when it is whole and durable,
// so that a file at path is always a database: one that is empty or cut short
// was damaged later.
func createDatabase(ctx context.Context, dir, path string) error {
	// A rename would replace what another process has made in the meantime; a
	// link would not, but there are file systems without links.
	alone, err := os.OpenFile(filepath.Join(dir, leaseFolder, createLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer alone.Close()
	if err := unix.Flock(int(alone.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Who made the folder may have died before that was durable. A parent that is
	// not ours to read was not made by us.
	if err := durable.OS.SyncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}

	f, err := os.CreateTemp(dir, "new-*.db") // mode 0600, which SQLite gives to its -wal and -shm too
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()

	// Nobody has this database yet: it is synced once, as a whole, and what
	// becomes of it otherwise is of no interest.
	db, err := sql.Open("sqlite", databaseURI(f.Name(), "journal_mode(OFF)", "synchronous(OFF)"))
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, fmt.Sprintf(
		"BEGIN; %s PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT; PRAGMA journal_mode = WAL",
		schema, appID, len(migrations)))
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	// What is left of one that was moved away would be played into this one.
	for _, rest := range []string{path + "-wal", path + "-shm"} {
		if err := os.Remove(rest); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return durable.OS.SyncDir(dir)
}

// openWriter opens the database at path, which exists, for writing.
func openWriter(ctx context.Context, path string) (*sql.DB, *sql.Conn, error) {
	// FULL syncs the -wal at each commit. fullfsync matters on Darwin only,
	// where a plain fsync leaves the data in the drive's cache. What would undo
	// a part of a transaction needs no file.
	db, err := sql.Open("sqlite", databaseURI(path, fmt.Sprintf("busy_timeout(%d)", busyTimeout),
		"journal_mode(WAL)", "synchronous(FULL)", "fullfsync(1)", "checkpoint_fullfsync(1)", "foreign_keys(1)",
		"temp_store(MEMORY)"))
	if err != nil {
		return nil, nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		db.Close()
		return nil, nil, err
	}
	return db, conn, nil
}

// checkpoint makes durable all that the database holds. A checkpoint syncs the
// -wal, then the database. It does not wait for a process that is in the
// middle of a read or a write, and returns false then: a commit of our own is
// to sync the -wal as a whole, and what is no longer in the -wal was synced by
// whoever moved it.
func checkpoint(ctx context.Context, conn *sql.Conn) (durable bool, err error) {
	if _, err := conn.ExecContext(ctx, "PRAGMA busy_timeout = 0"); err != nil {
		return false, err
	}
	var busy, frames, moved int
	err = conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved)
	if err != nil && primaryCode(err) != sqlite3.SQLITE_BUSY {
		return false, err
	}
	durable = err == nil && busy == 0
	_, err = conn.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout = %d", busyTimeout))
	return durable, err
}

// openReader returns a reader. It may write the file all the same: else the last
// connection to close could not tidy away the -wal.
func openReader(path string) *reader {
	db, err := sql.Open("sqlite", databaseURI(path, fmt.Sprintf("busy_timeout(%d)", busyTimeout), "query_only(1)", "cache_size(-512)"))
	if err != nil {
		panic(err) // the driver is linked in; nothing else can fail yet
	}
	db.SetMaxOpenConns(4)
	return &reader{DB: db, stmts: map[string]*sql.Stmt{}}
}

// databaseURI names the database at path to SQLite (https://www.sqlite.org/databaseURI.html),
// which is not to create it.
func databaseURI(path string, pragmas ...string) string {
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(),
		RawQuery: url.Values{"mode": {"rw"}, "_pragma": pragmas}.Encode()}
	return u.String()
}
