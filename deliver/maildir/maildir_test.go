package maildir_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/delivertest"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
	"github.com/mailhaul/mailhaul/deliver/maildir"
)

// start is when the tests happen.
var start = time.Unix(1700000000, 123456789)

func open(t *testing.T, path string, o maildir.Options) *maildir.Sink {
	t.Helper()
	if o.Now == nil {
		o.Now = func() time.Time { return start }
	}
	s, err := maildir.New(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func prepare(t *testing.T, s *maildir.Sink, wire ...string) (deliver.Batch, []string) {
	t.Helper()
	return delivertest.Prepare(t, s, deliver.Mail{Account: "work"}, wire...)
}

// put delivers messages and returns where they landed, and their tokens.
func put(t *testing.T, s *maildir.Sink, wire ...string) (where, tokens []string) {
	t.Helper()
	b, tokens := prepare(t, s, wire...)
	err := b.Commit(t.Context(), func(r deliver.Receipt) error {
		where = append(where, r.Where)
		return r.Err
	})
	if err != nil {
		t.Fatal(err)
	}
	return where, tokens
}

// isFault checks an error: whose turn it is, and that its text and hint say
// what is the matter.
func isFault(t *testing.T, err error, fault deliver.Fault, text, hint string) {
	t.Helper()
	var e *deliver.Error
	if !errors.As(err, &e) {
		t.Errorf("error %v is no *deliver.Error", err)
		return
	}
	if e.Fault != fault || !strings.Contains(e.Error(), text) || !strings.Contains(e.Hint, hint) || e.Hint == "" {
		t.Errorf("fault %d, %q, hint %q; want %d, %q, %q", e.Fault, e, e.Hint, fault, text, hint)
	}
}

func TestName(t *testing.T) {
	for _, test := range []struct{ host, wire, want string }{
		{"mx.example.org", "a: b\r\n\r\nc\r\n", `mx\.example\.org,S=8,W=11`},
		{"mx", "", `mx,S=0,W=0`},
		{"mx", "\r\n", `mx,S=1,W=2`},
		{"mx", "a\nb\r\n", `mx,S=4,W=6`}, // the bare LF counts as a line end
		{"mx", "a\r\r\nb", `mx,S=4,W=4`}, // stored as CRLF: nothing to add
		{"mx", "a\rb\r", `mx,S=4,W=4`},   // a bare CR ends no line
		{"mx", "no end", `mx,S=6,W=6`},   //
		{"a/b:c,d e", "x", `a\\057b\\072c\\054d_e,S=1,W=1`},
		{"mx", strings.Repeat("x\r\n", 40_000), `mx,S=80000,W=120000`},
		{"mx", strings.Repeat("\r\r\n", 40_000), `mx,S=80000,W=80000`},
	} {
		fsys := durabletest.New()
		s := open(t, "/Maildir", maildir.Options{FS: fsys, Host: test.host})
		where, _ := put(t, s, test.wire, test.wire)
		name := regexp.MustCompile(`^/Maildir/new/1700000000\.M123456P[0-9]+Q[0-9]+R[0-9a-f]{8}A[0-9a-f]{12}\.` + test.want + `$`)
		for _, w := range where {
			if !name.MatchString(w) {
				t.Errorf("%.10q landed in %s", test.wire, w)
			}
		}
		if where[0] == where[1] {
			t.Errorf("two messages landed in %s", where[0])
		}
		if info, err := fsys.Stat(where[0]); err != nil || !strings.Contains(where[0], fmt.Sprintf(",S=%d,", info.Size())) {
			t.Errorf("%s: %v, %v", where[0], info, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, test := range []struct {
		path string
		o    maildir.Options
		text string
	}{
		{"", maildir.Options{}, "no path"},
		{"/m", maildir.Options{Subfolder: "Lists"}, "Lists"},
		{"/m", maildir.Options{Subfolder: ".."}, ".."},
		{"/m", maildir.Options{Subfolder: ".a/../../b"}, ".a/../../b"},
		{"/m", maildir.Options{Subfolder: ".a..b"}, ".a..b"},
		{"/m", maildir.Options{Subfolder: ".a."}, ".a."},
		{"/m", maildir.Options{FileMode: 0o1600}, "mode"},
		{"/m", maildir.Options{FileMode: 0o200}, "mode"},
	} {
		_, err := maildir.New(test.path, test.o)
		isFault(t, err, deliver.FaultOperator, test.text, "")
	}
}

func TestBegin(t *testing.T) {
	file := func(t *testing.T, fsys *durabletest.FS, name string) {
		f, err := fsys.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	for _, test := range []struct {
		name       string
		path       string
		dirs       string // that exist, before /m or its absence is tried
		files      string
		text, hint string // of the error; none if text is empty
	}{
		{"new", "/m", "", "", "", ""},
		{"empty", "/m", "/m", "", "", ""},
		{"whole", "/m", "/m /m/cur /m/new /m/tmp", "/m/dovecot.index", "", ""},
		{"partly there", "/m", "/m /m/new", "/m/dovecot.index", "", ""},
		{"no parent", "/none/m", "", "", "no such file", "create /none first"},
		{"a file", "/m", "", "/m", "not a folder", "mbox"},
		{"a folder of something else", "/m", "/m /m/src", "/m/go.mod", "not a Maildir", "empty folder"},
		{"new is a file", "/m", "/m /m/cur /m/tmp", "/m/new", "new is a file", "another path"},
		{"below a file", "/f/m", "", "/f", "not a directory", "path is right"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fsys := durabletest.New()
			for _, dir := range strings.Fields(test.dirs) {
				if err := fsys.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range strings.Fields(test.files) {
				file(t, fsys, name)
			}
			before := fsys.Tree()
			s := open(t, test.path, maildir.Options{FS: fsys})
			if before != fsys.Tree() {
				t.Error("New touched the disk")
			}
			_, err := s.Begin(t.Context())
			if test.text != "" {
				isFault(t, err, deliver.FaultOperator, test.text, test.hint)
				if diff := cmp.Diff(before, fsys.Tree()); diff != "" {
					t.Errorf("something was changed:\n%s", diff)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, dir := range []string{"/m/cur", "/m/new", "/m/tmp"} {
				if info, err := fsys.Stat(dir); err != nil || info.Mode() != fs.ModeDir|0o700 {
					t.Errorf("%s: %v, %v", dir, info, err)
				}
			}
		})
	}
}

// A Maildir that goes while the sink lives is noticed.
func TestBeginAgain(t *testing.T) {
	fsys := durabletest.New()
	s := open(t, "/m", maildir.Options{FS: fsys})
	put(t, s, "x")
	for _, dir := range []string{"/m/tmp", "/m/cur"} {
		if err := fsys.Remove(dir); err != nil {
			t.Fatal(err)
		}
		put(t, s, "y")
	}
}

// A Maildir that somebody has made unwritable is found so before the next message is
// downloaded.
func TestBeginAfterTrouble(t *testing.T) {
	fsys := durabletest.New()
	var trouble error
	fsys.OnOp(func(op durabletest.Op) error {
		if op.Verb == durabletest.Create {
			return trouble
		}
		return nil
	})
	s := open(t, "/m", maildir.Options{FS: fsys})
	put(t, s, "x")
	b, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	trouble = syscall.EACCES
	_, err = b.Stage(t.Context(), deliver.Mail{}, strings.NewReader("y"))
	isFault(t, err, deliver.FaultOperator, "create a file in tmp/", "writable")
	_, err = s.Begin(t.Context())
	isFault(t, err, deliver.FaultOperator, "create a file", "writable")
	trouble = nil
	put(t, s, "z")
}

func TestSubfolderAndMode(t *testing.T) {
	root := filepath.Join(t.TempDir(), "Maildir")
	s := open(t, root, maildir.Options{Subfolder: ".Lists.Go", FileMode: 0o664, Host: "mx"})
	where, _ := put(t, s, "a\r\nb")
	if dir := filepath.Dir(where[0]); dir != filepath.Join(root, ".Lists.Go", "new") {
		t.Errorf("landed in %s", dir)
	}
	if info, err := os.Stat(where[0]); err != nil || info.Mode() != 0o664 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for _, name := range []string{"cur", "new", "tmp", ".Lists.Go/cur", ".Lists.Go/tmp", ".Lists.Go/maildirfolder"} {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
	if content, err := readFile(durable.OS, where[0]); content != "a\nb" || err != nil {
		t.Errorf("%q, %v", content, err)
	}
}

// marked is a file system on which the mark of a folder may not be written.
type marked struct{ durable.FS }

func (m marked) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if filepath.Base(name) == "maildirfolder" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EACCES}
	}
	return m.FS.OpenFile(name, flag, perm)
}

// The mark of a folder that is there need not be ours.
func TestSubfolderOfAnotherUser(t *testing.T) {
	fsys := durabletest.New()
	put(t, open(t, "/m", maildir.Options{FS: fsys, Subfolder: ".Lists"}), "a")
	put(t, open(t, "/m", maildir.Options{FS: marked{fsys}, Subfolder: ".Lists"}), "b")

	s := open(t, "/m", maildir.Options{FS: marked{fsys}, Subfolder: ".New"})
	_, err := s.Begin(t.Context())
	isFault(t, err, deliver.FaultOperator, "create a file", "writable")
}

// Each way in which a call to the system fails is told with what to do.
func TestTrouble(t *testing.T) {
	for _, test := range []struct {
		verb  durabletest.Verb
		path  string // part of it
		errno syscall.Errno
		fault deliver.Fault
		op    string
		hint  string
	}{
		{durabletest.Mkdir, "/m", syscall.EACCES, deliver.FaultOperator, "create the Maildir", "writable"},
		{durabletest.Create, "A000000000000", syscall.EACCES, deliver.FaultOperator, "create a file", "writable"},
		{durabletest.Create, "A000000000000", syscall.EROFS, deliver.FaultMachine, "create a file", "disk"},
		{durabletest.SyncDir, "/m", syscall.EIO, deliver.FaultMachine, "sync", "disk"},
		{durabletest.Create, "/tmp/", syscall.EMFILE, deliver.FaultMachine, "create a file", "disk"},
		{durabletest.Write, "/tmp/", syscall.ENOSPC, deliver.FaultMachine, "write a message to tmp/", "space"},
		{durabletest.Write, "/tmp/", syscall.EDQUOT, deliver.FaultMachine, "write a message to tmp/", "quota"},
		{durabletest.Sync, "/tmp/", syscall.EIO, deliver.FaultMachine, "sync a message in tmp/", "disk"},
		{durabletest.SyncDir, "/tmp", syscall.EIO, deliver.FaultMachine, "sync tmp/", "disk"},
		{durabletest.Rename, "/tmp/", syscall.EXDEV, deliver.FaultOperator, "move a message", "one file system"},
		{durabletest.Rename, "/tmp/", syscall.EACCES, deliver.FaultOperator, "move a message", "writable"},
		{durabletest.SyncDir, "/new", syscall.EIO, deliver.FaultMachine, "sync new/", "disk"},
	} {
		t.Run(string(test.verb)+" "+test.errno.Error(), func(t *testing.T) {
			fsys := durabletest.New()
			failed := false // once: the batch is to remember it
			fsys.OnOp(func(op durabletest.Op) error {
				if !failed && op.Verb == test.verb && strings.Contains(op.Path, test.path) {
					failed = true
					return test.errno
				}
				return nil
			})
			s := open(t, "/m", maildir.Options{FS: fsys})
			err := func() error {
				b, err := s.Begin(t.Context())
				if err != nil {
					return err
				}
				defer b.Abort()
				if _, err := b.Stage(t.Context(), deliver.Mail{}, strings.NewReader("x\r\n")); err != nil {
					if _, again := b.Stage(t.Context(), deliver.Mail{}, strings.NewReader("y")); !errors.Is(again, test.errno) {
						t.Errorf("a broken batch takes another message: %v", again)
					}
					return err
				}
				if _, err := b.Prepare(t.Context()); err != nil {
					if _, again := b.Prepare(t.Context()); !errors.Is(again, test.errno) {
						t.Errorf("Prepare is tried again: %v", again)
					}
					return err
				}
				return b.Commit(t.Context(), func(deliver.Receipt) error {
					t.Error("landed")
					return nil
				})
			}()
			if !errors.Is(err, test.errno) {
				t.Errorf("%v, want %v", err, test.errno)
			}
			isFault(t, err, test.fault, test.op, test.hint)
			if open := fsys.OpenFiles(); len(open) > 0 {
				t.Errorf("still open: %q", open)
			}
		})
	}
}

// A large batch keeps few files open. If one cannot be synced, those that follow
// are staged all the same, and Prepare tells.
func TestLargeBatch(t *testing.T) {
	fsys := durabletest.New()
	s := open(t, "/m", maildir.Options{FS: fsys})
	stage := func(most int) deliver.Batch {
		b, err := s.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if _, err := b.Stage(t.Context(), deliver.Mail{}, strings.NewReader("x\r\n")); err != nil {
				t.Fatal(err)
			}
			if open := fsys.OpenFiles(); len(open) > most {
				t.Fatalf("%d files are open", len(open))
			}
		}
		return b
	}
	if promises, err := stage(40).Prepare(t.Context()); len(promises) != 100 || err != nil {
		t.Errorf("%d promises, %v", len(promises), err)
	}
	if unsynced := fsys.Unsynced(); len(unsynced) > 0 {
		t.Errorf("not synced: %q", unsynced)
	}

	fsys.OnOp(func(op durabletest.Op) error {
		if op.Verb == durabletest.Sync {
			return syscall.EIO
		}
		return nil
	})
	before, _ := fsys.ReadDir("/m/tmp")
	b := stage(100)
	for range 2 {
		if _, err := b.Prepare(t.Context()); !errors.Is(err, syscall.EIO) {
			t.Error(err)
		}
	}
	if err := b.Abort(); err != nil {
		t.Error(err)
	}
	if after, _ := fsys.ReadDir("/m/tmp"); len(after) != len(before) || len(fsys.OpenFiles()) > 0 {
		t.Errorf("left are %d files, and open %q", len(after)-len(before), fsys.OpenFiles())
	}
}

// early is a file system that says which syncs were begun.
type early struct {
	*durabletest.FS
	begun *[]string
}

func (e early) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := e.FS.OpenFile(name, flag, perm)
	return earlyFile{f, e.begun}, err
}

type earlyFile struct {
	durable.File
	begun *[]string
}

func (f earlyFile) BeginSync() { *f.begun = append(*f.begun, f.Name()) }

// Syncs begin while messages come in, eight at a time, and in Prepare for the rest.
func TestSyncsBegin(t *testing.T) {
	var begun []string
	s := open(t, "/m", maildir.Options{FS: early{durabletest.New(), &begun}})
	b, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 20; n++ {
		if _, err := b.Stage(t.Context(), deliver.Mail{}, strings.NewReader("x\r\n")); err != nil {
			t.Fatal(err)
		}
		if want := n - n%8; len(begun) != want {
			t.Errorf("%d of %d messages are being synced, want %d", len(begun), n, want)
		}
	}
	if _, err := b.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(begun)
	if n := len(slices.Compact(begun)); n != 20 {
		t.Errorf("%d syncs were begun, want 20", n)
	}
}

// A file that somebody removes from tmp/ before its time has not landed, and
// the others have. It is told even if trouble with the others ends Commit, or
// Settle would take it for landed.
func TestCommitWithoutFile(t *testing.T) {
	for _, trouble := range []durabletest.Verb{"", durabletest.Rename, durabletest.SyncDir} {
		fsys := durabletest.New()
		s := open(t, "/m", maildir.Options{FS: fsys})
		b, _ := prepare(t, s, "one", "two")
		entries, err := fsys.ReadDir("/m/tmp")
		if err != nil || len(entries) != 2 {
			t.Fatal(entries, err)
		}
		gone := "/m/tmp/" + entries[0].Name()
		if err := fsys.Remove(gone); err != nil {
			t.Fatal(err)
		}
		fsys.OnOp(func(op durabletest.Op) error {
			if op.Verb == trouble && op.Path != gone {
				return syscall.ENOSPC
			}
			return nil
		})
		landed, failed := map[deliver.Ticket]bool{}, map[deliver.Ticket]bool{}
		err = b.Commit(t.Context(), func(r deliver.Receipt) error {
			if r.Err == nil {
				landed[r.Ticket] = true
			} else {
				failed[r.Ticket] = true
				isFault(t, r.Err, deliver.FaultTemporary, "move a message", "cleans tmp/")
			}
			return nil
		})
		if fine := trouble == ""; fine != (err == nil) || fine != landed[1] || landed[0] || !failed[0] || failed[1] {
			t.Errorf("trouble %q: Commit = %v, landed %v, failed %v", trouble, err, landed, failed)
		}
	}
}

// late is a network file system, which tells only when a file is closed that it could
// not write it.
type late struct{ durable.FS }

func (l late) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := l.FS.OpenFile(name, flag, perm)
	return lateFile{f, name}, err
}

type lateFile struct {
	durable.File
	name string
}

func (f lateFile) Close() error {
	if err := f.File.Close(); err != nil || strings.Contains(f.name, "A000000000000") { // of the probe
		return err
	}
	return &fs.PathError{Op: "close", Path: f.name, Err: syscall.EIO}
}

func TestCloseFails(t *testing.T) {
	b, err := open(t, "/m", maildir.Options{FS: late{durabletest.New()}}).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Stage(t.Context(), deliver.Mail{Account: "work"}, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Prepare(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Errorf("Prepare = %v, want %v", err, syscall.EIO)
	}
}
