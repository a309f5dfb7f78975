package state_test

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mailhaul/mailhaul/fetch/state"
)

func TestOpenCreatesPrivateFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b", "c?d#e%20", "state")
	s, err := state.Open(t.Context(), dir)
	ok(t, err)
	defer s.Close()
	apply(t, s, doPromise(promise("u", "home")))
	l, err := s.Lease(t.Context(), "work")
	ok(t, err)
	defer l.Release()
	ok(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	}))
	if got := list(t, dir); !strings.Contains(got, "mailhaul.db-wal") || strings.Contains(got, "new-") {
		t.Errorf("the folder holds %s", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		spoil      func(t *testing.T, dir string)
		says, hint string
	}{
		"a folder that others may enter": {
			func(t *testing.T, dir string) { ok(t, os.Chmod(dir, 0o750)) },
			"mode 0750", "chmod 700",
		},
		"a file in the folder's place": {
			func(t *testing.T, dir string) {
				ok(t, os.RemoveAll(dir))
				ok(t, os.WriteFile(dir, nil, 0o600))
			},
			"not a directory", "",
		},
		"a newer schema": {
			func(t *testing.T, dir string) { execRaw(t, dir, "PRAGMA user_version = 99") },
			"schema 99", "upgrade mailhaul",
		},
		"another program's database": {
			func(t *testing.T, dir string) { execRaw(t, dir, "PRAGMA application_id = 1") },
			"mailhaul.db", "restore",
		},
		"an empty file": {
			func(t *testing.T, dir string) { ok(t, os.Truncate(filepath.Join(dir, "mailhaul.db"), 0)) },
			"mailhaul.db", "restore",
		},
		"a file that is no database": {
			func(t *testing.T, dir string) {
				ok(t, os.WriteFile(filepath.Join(dir, "mailhaul.db"), []byte(strings.Repeat("mail ", 9999)), 0o600))
			},
			"mailhaul.db", "restore",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			s, err := state.Open(t.Context(), dir)
			ok(t, err)
			ok(t, s.Close())
			test.spoil(t, dir)

			for range 2 { // not on the second try either
				_, err := state.Open(t.Context(), dir)
				var e *state.Error
				if !errors.As(err, &e) {
					t.Fatalf("Open: %v, want *Error", err)
				}
				if !strings.Contains(err.Error(), test.says) || !strings.Contains(e.Hint, test.hint) {
					t.Errorf("%q, hint %q; want %q, hint %q", err, e.Hint, test.says, test.hint)
				}
				if state.IsMachineError(err) {
					t.Errorf("%v is an error of the machine", err)
				}
			}
		})
	}
}

// TestDamage overwrites pages within the database.
func TestDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, err := state.Open(t.Context(), dir)
	ok(t, err)
	remember(t, s, "work", 1000)
	ok(t, s.Close())
	path := filepath.Join(dir, "mailhaul.db")
	data, err := os.ReadFile(path)
	ok(t, err)
	for i := 4096; i < len(data); i++ {
		data[i] = 0xa5
	}
	ok(t, os.WriteFile(path, data, 0o600))

	s, err = state.Open(t.Context(), dir)
	ok(t, err)
	defer s.Close()
	_, rerr := s.Rows(t.Context(), "work")
	werr := doPromise(promise("u", "home"))(t, s)
	for _, err := range []error{rerr, werr} {
		var e *state.Error
		if !errors.As(err, &e) || e.Path != path || !strings.Contains(e.Hint, "restore") {
			t.Errorf("%v, want an *Error that names %s", err, path)
		} else if !strings.Contains(e.Hint, "errors of the disk") {
			t.Errorf("hint %q, which does not mention that the disk may fail", e.Hint)
		} else if !strings.Contains(e.Hint, path+"-wal") || !strings.Contains(e.Hint, path+"-shm") {
			t.Errorf("hint %q, which does not mention the files that would damage the backup", e.Hint)
		}
	}
}

// Open reports a lack of file descriptors, although SQLite only says that it cannot open
// the file.
func TestOpenWithoutDescriptors(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, err := state.Open(t.Context(), dir)
	ok(t, err)
	ok(t, s.Close())

	var limit syscall.Rlimit
	ok(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	few := limit
	few.Cur = 3 // standard input, output and error are open
	ok(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few))
	_, err = state.Open(t.Context(), dir)
	_, rerr := state.OpenReadOnly(t.Context(), dir)
	ok(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	for _, err := range []error{err, rerr} {
		if !state.IsMachineError(err) || !errors.Is(err, syscall.EMFILE) {
			t.Errorf("%v, want that there are too many open files", err)
		}
	}
}

// The same goes for a file system that is read-only.
func TestOpenOnReadOnlyFileSystem(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, err := state.Open(t.Context(), dir)
	ok(t, err)
	ok(t, s.Close())

	const readOnly = `mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"`
	inside := func(args ...string) *exec.Cmd {
		return exec.Command("unshare", append([]string{"--map-root-user", "--mount", "sh", "-c", readOnly, dir}, args...)...)
	}
	if out, err := inside("true").CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: nothing can be mounted here: %v: %s", err, out)
	}
	child := inside(os.Args[0])
	child.Env = append(os.Environ(), "STATE_TEST_ROLE=none", "STATE_TEST_DIR="+dir)
	if out, _ := child.CombinedOutput(); !strings.Contains(string(out), "open: "+syscall.EROFS.Error()) {
		t.Errorf("%s, want that the file system is read-only", out)
	}
}

func TestOpenReadOnlyWithoutDatabase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if _, err := state.OpenReadOnly(t.Context(), dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenReadOnly: %v, want fs.ErrNotExist", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it created the folder: %v", err)
	}
}

func TestOpenConcurrently(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	errs := make(chan error)
	for range 8 {
		go func() {
			s, err := state.Open(context.Background(), dir)
			if err == nil {
				err = errors.Join(s.SavePoll(context.Background(), "work", state.Poll{}), s.Close())
			}
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	s, err := state.OpenReadOnly(t.Context(), dir)
	ok(t, err)
	defer s.Close()
	polls, err := s.Polls(t.Context(), "work", 99)
	ok(t, err)
	if len(polls) != 8 {
		t.Errorf("%d polls of 8 were kept", len(polls))
	}
}

// TestOpenBesideReader keeps a read transaction open, so that Open cannot move the -wal
// into the database, and must sync it by a commit instead.
func TestOpenBesideReader(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	apply(t, s, doPromise(promise("u", "home")))
	path := filepath.Join(dir, "state", "mailhaul.db")

	db := openRaw(t, path)
	reader, err := db.Begin()
	ok(t, err)
	defer reader.Rollback()
	var n int
	ok(t, reader.QueryRow("SELECT count(*) FROM messages").Scan(&n))
	apply(t, s, doPromise(promise("v", "home")))

	before, err := os.Stat(path + "-wal")
	ok(t, err)
	again := open(t, dir)
	after, err := os.Stat(path + "-wal")
	ok(t, err)
	if after.Size() <= before.Size() {
		t.Errorf("the -wal went from %d to %d bytes: no commit synced it", before.Size(), after.Size())
	}
	if n := len(rows(t, again, "work")); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}

// openRaw opens a database without this package.
func openRaw(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=rw")
	ok(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

// execRaw runs a statement in the database of the state folder dir, without this package.
func execRaw(t *testing.T, dir, query string) {
	t.Helper()
	db := openRaw(t, filepath.Join(dir, "mailhaul.db"))
	_, err := db.Exec(query)
	ok(t, errors.Join(err, db.Close()))
}
