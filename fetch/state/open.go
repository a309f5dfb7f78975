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
// disk that hangs, takes longer.
const busyTimeout = 30_000

// Store is an open state folder. Its methods may be called from several
// goroutines, and several processes may have the same folder open. What a
// method has written, every later read sees.
type Store struct {
	dir    string
	path   string      // of the database
	opened fs.FileInfo // the database's when Open opened it
	read   *reader
	write  *writer // nil if OpenReadOnly opened the Store
}

// Open opens the state folder dir, and creates it if it is missing. Before it
// reads anything, it makes durable what an earlier process may have left in the
// page cache. Otherwise a power cut could undo what a poll has acted upon.
//
// Open refuses a folder that others may enter, with the chmod to run as hint. It
// does not change the mode, since the configuration may name the wrong folder. A
// damaged database is an error and is never replaced. The folder must be on a local
// disk, since the processes that use it share memory. Errors are *Error.
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
	if err := makeCurrent(ctx, path, conn); err != nil {
		return nil, errors.Join(err, conn.Close(), db.Close())
	}
	if info, err = os.Stat(path); err != nil {
		return nil, errors.Join(wrap(path, "open", err), conn.Close(), db.Close())
	}
	s := &Store{dir: dir, path: path, opened: info, read: openReader(path), write: newWriter(path, db, conn)}
	go s.write.run()
	return s, nil
}

// makeCurrent makes durable what the database holds, and brings it to the newest
// schema.
func makeCurrent(ctx context.Context, path string, conn *sql.Conn) error {
	durable, err := checkpoint(ctx, conn)
	if err != nil {
		return wrap(path, "open", err)
	}
	version, err := checkSchema(ctx, path, conn)
	if err != nil {
		return err
	}
	if version < len(migrations) {
		return wrap(path, "migrate", migrate(ctx, conn))
	}
	if !durable {
		return wrap(path, "open", migrate(ctx, conn)) // whose commit syncs the whole -wal
	}
	return nil
}

// OpenReadOnly opens the state folder dir for reading, while others may be
// writing. It neither creates the database nor changes what it holds. If there is
// no database the error wraps fs.ErrNotExist; all errors are *Error. Reads return
// the last commit, which may not be durable yet: show it, but do not act upon it.
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

// checkInPlace returns an error if the open database is no longer the file at its
// path, as when a backup was restored. What is written to it would be lost, and
// other processes would use another database.
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

// Failed returns a channel that receives an *Error once an fsync of the database
// has failed. From then on every write fails: only a new Open can find out what
// the disk holds. The Store must be one that Open returned.
func (s *Store) Failed() <-chan error { return s.write.syncFailed }

// Close waits for writes that are under way and closes the database. It does not
// release leases.
func (s *Store) Close() error {
	err := s.read.Close()
	if s.write != nil {
		err = errors.Join(err, s.write.close())
	}
	return wrap(s.path, "close", err)
}

// makeStateFolder creates dir and its folder of leases if they are missing, and
// checks that others may not enter dir.
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

// CheckFolder returns the *Error with which Open would refuse dir, which exists: it
// is no folder, or others may enter it.
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

// mkdirDurably creates a folder and its missing parents, and syncs what it creates.
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

// createDatabase creates an empty database at path, unless another process has done
// so by now. It builds the file under another name and renames it once it is
// durable. So a file at path that is empty or cut short was damaged later.
func createDatabase(ctx context.Context, dir, path string) error {
	// Without the lock, the rename could replace what another process has just
	// created. A link could not, but some file systems have no links.
	lock, err := os.OpenFile(filepath.Join(dir, leaseFolder, createLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The process that created the folder may have died before it synced the
	// parent. A parent that we may not read was not created by mailhaul.
	if err := durable.OS.SyncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}

	f, err := os.CreateTemp(dir, "new-*.db") // mode 0600, which SQLite gives to its -wal and -shm too
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := writeSchema(ctx, f.Name()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	// SQLite would apply what a database that was moved away has left behind.
	for _, leftover := range []string{path + "-wal", path + "-shm"} {
		if err := os.Remove(leftover); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return durable.OS.SyncDir(dir)
}

// writeSchema fills the empty file at path with an empty database, without syncing
// it.
func writeSchema(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", databaseURI(path, "journal_mode(OFF)", "synchronous(OFF)"))
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, fmt.Sprintf(
		"BEGIN; %s PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT; PRAGMA journal_mode = WAL",
		schema, appID, len(migrations)))
	return errors.Join(err, db.Close())
}

// openWriter opens the database at path, which exists, for writing.
func openWriter(ctx context.Context, path string) (*sql.DB, *sql.Conn, error) {
	// FULL syncs the -wal at each commit. fullfsync matters on Darwin only,
	// where a plain fsync leaves the data in the drive's cache. temp_store keeps
	// the journals of savepoints in memory.
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

// checkpoint makes durable all that the database holds: it syncs the -wal, then the
// database. It does not wait for a process that is reading or writing, and returns
// false then. A commit must follow that syncs the whole -wal; what has left the
// -wal was synced by the process that moved it.
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

// openReader returns a reader of the database at path. It opens the file for
// writing, since the last connection to close removes the -wal.
func openReader(path string) *reader {
	db, err := sql.Open("sqlite", databaseURI(path, fmt.Sprintf("busy_timeout(%d)", busyTimeout), "query_only(1)", "cache_size(-512)"))
	if err != nil {
		panic(err) // the driver is linked in; nothing else can fail yet
	}
	db.SetMaxOpenConns(4)
	return &reader{DB: db, stmts: map[string]*sql.Stmt{}}
}

// databaseURI returns the URI of the database at path
// (https://www.sqlite.org/uri.html). With mode=rw, SQLite does not create it.
func databaseURI(path string, pragmas ...string) string {
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(),
		RawQuery: url.Values{"mode": {"rw"}, "_pragma": pragmas}.Encode()}
	return u.String()
}
