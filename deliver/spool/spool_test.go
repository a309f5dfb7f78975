package spool_test

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

// names returns the names of the files in a directory.
func names(t *testing.T, fsys durable.FS, dir string) []string {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// create creates an empty file of an account and returns its name.
func create(t *testing.T, d *spool.Dir, account string) string {
	t.Helper()
	f, err := d.Create(account)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return filepath.Base(f.Name())
}

func TestFilesArePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	d := spool.New(dir, durable.OS)
	name := create(t, d, "work")
	for path, want := range map[string]fs.FileMode{dir: 0o700, d.Path(name): 0o600} {
		fi, err := durable.OS.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := fi.Mode().Perm(); got != want {
			t.Errorf("mode of %s is %v, want %v", path, got, want)
		}
	}
}

func TestSweepTakesOneAccountOnly(t *testing.T) {
	fsys := durabletest.New()
	d := spool.New("spool", fsys)
	if err := d.Sweep("work"); err != nil {
		t.Errorf("Sweep of a folder that is missing: %v", err)
	}
	create(t, d, "work")
	first := create(t, d, "work")
	renamed, err := d.Rename(first, "x")
	if err != nil {
		t.Fatal(err)
	}
	for base, want := range map[string]bool{first: true, renamed: false, "": false, "x": false} {
		if d.HasBase(base) != want {
			t.Errorf("Has(%q) is not %v", base, want)
		}
	}
	if list, err := d.List("x"); err != nil || len(list) != 1 || list[0] != renamed {
		t.Errorf(`List("x") = %q, %v, want %q`, list, err, renamed)
	}
	other := create(t, d, "work2")
	if err := d.Sweep("work"); err != nil {
		t.Fatal(err)
	}
	if got := names(t, fsys, "spool"); len(got) != 1 || got[0] != other {
		t.Errorf("after Sweep: %q, want %q", got, other)
	}
}

func TestNamesTellNothing(t *testing.T) {
	fsys := durabletest.New()
	d := spool.New("spool", fsys)
	name := create(t, d, "../me@example.com")
	if strings.ContainsAny(name, "/@.") || strings.Contains(name, "example") {
		t.Errorf("the name %q holds the account's", name)
	}
}

func TestFolderAndFilesSurviveAPowerCut(t *testing.T) {
	fsys := durabletest.New()
	fsys.CrashAt(2) // created, but not synced
	if _, err := spool.New("spool", fsys).Create("work"); !errors.Is(err, durabletest.ErrCrashed) {
		t.Fatalf("Create = %v, want a crash", err)
	}
	fsys = fsys.Kill()
	d := spool.New("spool", fsys)
	f, err := d.Create("work")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("mail")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close(), d.Sync()); err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(f.Name())
	for cut := range fsys.PowerCuts() {
		f, err := spool.New("spool", cut).Open(name)
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 4)
		if _, err := f.ReadAt(p, 0); err != nil || string(p) != "mail" {
			t.Errorf("ReadAt = %q, %v", p, err)
		}
	}
}

// A folder that somebody removes is made again.
func TestFolderVanishes(t *testing.T) {
	fsys := durabletest.New()
	d := spool.New("spool", fsys)
	for range 3 {
		if err := d.Remove(create(t, d, "work")); err != nil {
			t.Fatal(err)
		}
		if err := fsys.Remove("spool"); err != nil {
			t.Fatal(err)
		}
	}
	fsys = durabletest.New()
	_, err := spool.New("state/spool", fsys).Create("work")
	if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultOperator || e.Op != "create the folder" {
		t.Errorf("without a folder for it: %v", err)
	}
}

func TestErrorsSayWhoseTurnItIs(t *testing.T) {
	for _, tc := range []struct {
		errno syscall.Errno
		want  deliver.Fault
	}{
		{syscall.ENOSPC, deliver.FaultMachine},
		{syscall.EACCES, deliver.FaultOperator},
	} {
		for op := 1; op <= 3; op++ { // mkdir, sync of the parent, create
			fsys := durabletest.New()
			fsys.FailAt(op, tc.errno)
			_, err := spool.New("spool", fsys).Create("work")
			var e *deliver.Error
			if !errors.As(err, &e) || e.Fault != tc.want || !errors.Is(err, tc.errno) || e.Hint == "" {
				t.Errorf("operation %d fails with %v: error %#v, want fault %v and a hint", op, tc.errno, err, tc.want)
			}
		}
	}
}

func TestWhatIsMissing(t *testing.T) {
	d := spool.New("spool", durabletest.New())
	if _, err := d.Open("x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open = %v, want fs.ErrNotExist", err)
	}
	if err := d.Remove("x"); err != nil {
		t.Errorf("Remove = %v, want nil", err)
	}
}

// What a sink could not do with a file of the spool is the spool's error, once.
func TestError(t *testing.T) {
	d := spool.New("spool", durabletest.New())
	err := d.Error("write a message", syscall.ENOSPC)
	e, ok := errors.AsType[*deliver.Error](err)
	if !ok || e.Fault != deliver.FaultMachine || e.Target != "spool" || !strings.Contains(e.Hint, "spool") || e.Err != syscall.ENOSPC {
		t.Errorf("%#v", err)
	}
	if again := d.Error("write it again", err); again != err {
		t.Errorf("%v became %v", err, again)
	}
}

// A program reads the file itself, not a copy of it, and cannot write to it; of
// a file system that it does not see, it gets a copy.
func TestStdin(t *testing.T) {
	for _, tc := range []struct {
		fs   durable.FS
		dir  string
		copy bool
	}{
		{durable.OS, filepath.Join(t.TempDir(), "spool"), false},
		{durabletest.New(), "spool", true},
	} {
		d := spool.New(tc.dir, tc.fs)
		f, err := d.Create("work")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := io.WriteString(f, "mail"); err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(f.Name())
		stdin, err := d.OpenStdin(name)
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		if isCopy := stdin.Name() != d.Path(name); isCopy != tc.copy {
			t.Errorf("a copy: %v; it is %s", isCopy, stdin.Name())
		}
		if text, err := io.ReadAll(stdin); string(text) != "mail" || err != nil {
			t.Errorf("it reads %q, %v", text, err)
		}
		if _, err := stdin.Write([]byte("x")); !tc.copy && err == nil {
			t.Error("it can be written to")
		}
	}
	if _, err := spool.New(t.TempDir(), durable.OS).OpenStdin("x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
