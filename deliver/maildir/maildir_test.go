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

// start is the time on the clock of the sinks.
var start = time.Unix(1700000000, 123456789)

// open returns a sink whose clock stands at start, unless the options have another.
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

// prepare stages and prepares messages of account "work". It returns the batch and the
// tokens of the promises.
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

// wantFault checks the fault of an error, a part of its text, and a part of its hint. There
// must be a hint.
func wantFault(t *testing.T, err error, fault deliver.Fault, text, hint string) {
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

// The name of a file has the sizes in octets: S as stored with LF, W with CRLF line ends.
func TestFileName(t *testing.T) {
	for _, test := range []struct{ host, wire, want string }{
		{host: "mx.example.org", wire: "a: b\r\n\r\nc\r\n", want: `mx\.example\.org,S=8,W=11`},
		{host: "mx", wire: "", want: `mx,S=0,W=0`},
		{host: "mx", wire: "\r\n", want: `mx,S=1,W=2`},
		{host: "mx", wire: "a\nb\r\n", want: `mx,S=4,W=6`}, // the bare LF counts as a line end
		{host: "mx", wire: "a\r\r\nb", want: `mx,S=4,W=4`}, // stored as CRLF: nothing to add
		{host: "mx", wire: "a\rb\r", want: `mx,S=4,W=4`},   // a bare CR ends no line
		{host: "mx", wire: "no end", want: `mx,S=6,W=6`},   //
		{host: "a/b:c,d e", wire: "x", want: `a\\057b\\072c\\054d_e,S=1,W=1`},
		{host: "mx", wire: strings.Repeat("x\r\n", 40_000), want: `mx,S=80000,W=120000`},
		{host: "mx", wire: strings.Repeat("\r\r\n", 40_000), want: `mx,S=80000,W=80000`},
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
		{path: "", o: maildir.Options{}, text: "no path"},
		{path: "/m", o: maildir.Options{Subfolder: "Lists"}, text: "Lists"},
		{path: "/m", o: maildir.Options{Subfolder: ".."}, text: ".."},
		{path: "/m", o: maildir.Options{Subfolder: ".a/../../b"}, text: ".a/../../b"},
		{path: "/m", o: maildir.Options{Subfolder: ".a..b"}, text: ".a..b"},
		{path: "/m", o: maildir.Options{Subfolder: ".a."}, text: ".a."},
		{path: "/m", o: maildir.Options{FileMode: 0o1600}, text: "mode"},
		{path: "/m", o: maildir.Options{FileMode: 0o200}, text: "mode"},
	} {
		_, err := maildir.New(test.path, test.o)
		wantFault(t, err, deliver.FaultOperator, test.text, "")
	}
}

func TestBegin(t *testing.T) {
	createFile := func(t *testing.T, fsys *durabletest.FS, name string) {
		f, err := fsys.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	for _, test := range []struct {
		name       string
		path       string
		dirs       string // that exist, separated by spaces
		files      string // likewise
		text, hint string // of the error; if text is empty, Begin succeeds
	}{
		{name: "new", path: "/m"},
		{name: "empty", path: "/m", dirs: "/m"},
		{name: "whole", path: "/m", dirs: "/m /m/cur /m/new /m/tmp", files: "/m/dovecot.index"},
		{name: "partly there", path: "/m", dirs: "/m /m/new", files: "/m/dovecot.index"},
		{name: "no parent", path: "/none/m", text: "no such file", hint: "create /none first"},
		{name: "a file", path: "/m", files: "/m", text: "not a folder", hint: "mbox"},
		{name: "a folder of something else", path: "/m", dirs: "/m /m/src", files: "/m/go.mod", text: "not a Maildir", hint: "empty folder"},
		{name: "new is a file", path: "/m", dirs: "/m /m/cur /m/tmp", files: "/m/new", text: "new is a file", hint: "another path"},
		{name: "below a file", path: "/f/m", files: "/f", text: "not a directory", hint: "path is right"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fsys := durabletest.New()
			for _, dir := range strings.Fields(test.dirs) {
				if err := fsys.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range strings.Fields(test.files) {
				createFile(t, fsys, name)
			}
			before := fsys.Tree()
			s := open(t, test.path, maildir.Options{FS: fsys})
			if before != fsys.Tree() {
				t.Error("New changed the file system")
			}
			_, err := s.Begin(t.Context())
			if test.text != "" {
				wantFault(t, err, deliver.FaultOperator, test.text, test.hint)
				if diff := cmp.Diff(before, fsys.Tree()); diff != "" {
					t.Errorf("Begin changed the file system:\n%s", diff)
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

// Folders of the Maildir that were removed while the sink is open are created again.
func TestBeginCreatesMissingFolders(t *testing.T) {
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

// After an error of Stage, Begin checks whether the Maildir is writable, so that no message
// is downloaded in vain.
func TestBeginAfterStageError(t *testing.T) {
	fsys := durabletest.New()
	var createErr error
	fsys.OnOp(func(op durabletest.Op) error {
		if op.Verb == durabletest.Create {
			return createErr
		}
		return nil
	})
	s := open(t, "/m", maildir.Options{FS: fsys})
	put(t, s, "x")
	b, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	createErr = syscall.EACCES
	_, err = b.Stage(t.Context(), deliver.Mail{}, strings.NewReader("y"))
	wantFault(t, err, deliver.FaultOperator, "create a file in tmp/", "writable")
	_, err = s.Begin(t.Context())
	wantFault(t, err, deliver.FaultOperator, "create a file", "writable")
	createErr = nil
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

// markerDenied is a file system on which "maildirfolder", the marker file of a subfolder,
// cannot be opened.
type markerDenied struct{ durable.FS }

func (m markerDenied) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if filepath.Base(name) == "maildirfolder" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EACCES}
	}
	return m.FS.OpenFile(name, flag, perm)
}

// The marker file of an existing subfolder may belong to another user. In a new subfolder
// it must be created.
func TestSubfolderOfAnotherUser(t *testing.T) {
	fsys := durabletest.New()
	put(t, open(t, "/m", maildir.Options{FS: fsys, Subfolder: ".Lists"}), "a")
	put(t, open(t, "/m", maildir.Options{FS: markerDenied{fsys}, Subfolder: ".Lists"}), "b")

	s := open(t, "/m", maildir.Options{FS: markerDenied{fsys}, Subfolder: ".New"})
	_, err := s.Begin(t.Context())
	wantFault(t, err, deliver.FaultOperator, "create a file", "writable")
}

// Each failure of the file system has the right fault, and a hint.
func TestFileSystemErrors(t *testing.T) {
	for _, test := range []struct {
		verb  durabletest.Verb
		path  string // a part of the path
		errno syscall.Errno
		fault deliver.Fault
		op    string
		hint  string
	}{
		{verb: durabletest.Mkdir, path: "/m", errno: syscall.EACCES, fault: deliver.FaultOperator, op: "create the Maildir", hint: "writable"},
		{verb: durabletest.Create, path: "A000000000000", errno: syscall.EACCES, fault: deliver.FaultOperator, op: "create a file", hint: "writable"},
		{verb: durabletest.Create, path: "A000000000000", errno: syscall.EROFS, fault: deliver.FaultMachine, op: "create a file", hint: "disk"},
		{verb: durabletest.SyncDir, path: "/m", errno: syscall.EIO, fault: deliver.FaultMachine, op: "sync", hint: "disk"},
		{verb: durabletest.Create, path: "/tmp/", errno: syscall.EMFILE, fault: deliver.FaultMachine, op: "create a file", hint: "disk"},
		{verb: durabletest.Write, path: "/tmp/", errno: syscall.ENOSPC, fault: deliver.FaultMachine, op: "write a message to tmp/", hint: "space"},
		{verb: durabletest.Write, path: "/tmp/", errno: syscall.EDQUOT, fault: deliver.FaultMachine, op: "write a message to tmp/", hint: "quota"},
		{verb: durabletest.Sync, path: "/tmp/", errno: syscall.EIO, fault: deliver.FaultMachine, op: "sync a message in tmp/", hint: "disk"},
		{verb: durabletest.SyncDir, path: "/tmp", errno: syscall.EIO, fault: deliver.FaultMachine, op: "sync tmp/", hint: "disk"},
		{verb: durabletest.Rename, path: "/tmp/", errno: syscall.EXDEV, fault: deliver.FaultOperator, op: "move a message", hint: "one file system"},
		{verb: durabletest.Rename, path: "/tmp/", errno: syscall.EACCES, fault: deliver.FaultOperator, op: "move a message", hint: "writable"},
		{verb: durabletest.SyncDir, path: "/new", errno: syscall.EIO, fault: deliver.FaultMachine, op: "sync new/", hint: "disk"},
	} {
		t.Run(string(test.verb)+" "+test.errno.Error(), func(t *testing.T) {
			fsys := durabletest.New()
			failed := false // fails once; the batch must remember the error
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
			wantFault(t, err, test.fault, test.op, test.hint)
			if open := fsys.OpenFiles(); len(open) > 0 {
				t.Errorf("still open: %q", open)
			}
		})
	}
}

// A large batch keeps few files open. If a file cannot be synced, later messages are staged
// all the same, and Prepare returns the error.
func TestLargeBatch(t *testing.T) {
	fsys := durabletest.New()
	s := open(t, "/m", maildir.Options{FS: fsys})
	stage := func(maxOpen int) deliver.Batch {
		b, err := s.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if _, err := b.Stage(t.Context(), deliver.Mail{}, strings.NewReader("x\r\n")); err != nil {
				t.Fatal(err)
			}
			if open := fsys.OpenFiles(); len(open) > maxOpen {
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

// syncRecorder is a file system that records the files whose sync was begun.
type syncRecorder struct {
	*durabletest.FS
	begun *[]string
}

func (r syncRecorder) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := r.FS.OpenFile(name, flag, perm)
	return syncRecorderFile{f, r.begun}, err
}

type syncRecorderFile struct {
	durable.File
	begun *[]string
}

func (f syncRecorderFile) BeginSync() { *f.begun = append(*f.begun, f.Name()) }

// The syncs of eight messages each begin while further messages are staged, and those of
// the rest in Prepare.
func TestSyncsBeginWhileStaging(t *testing.T) {
	var begun []string
	s := open(t, "/m", maildir.Options{FS: syncRecorder{durabletest.New(), &begun}})
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

// A message whose file was removed from tmp/ before Commit has not landed; the other one
// has. Its receipt comes even if Commit fails because of the other one: Settle would take
// the missing file for a message that was moved away after delivery.
func TestFileRemovedBeforeCommit(t *testing.T) {
	for _, failing := range []durabletest.Verb{"", durabletest.Rename, durabletest.SyncDir} {
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
			if op.Verb == failing && op.Path != gone {
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
				wantFault(t, r.Err, deliver.FaultTemporary, "move a message", "cleans tmp/")
			}
			return nil
		})
		if fine := failing == ""; fine != (err == nil) || fine != landed[1] || landed[0] || !failed[0] || failed[1] {
			t.Errorf("%q fails: Commit = %v, landed %v, failed %v", failing, err, landed, failed)
		}
	}
}

// closeFails is a file system on which Close fails, as on a network file system that
// reports there that it could not write.
type closeFails struct{ durable.FS }

func (c closeFails) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := c.FS.OpenFile(name, flag, perm)
	return closeFailsFile{f, name}, err
}

type closeFailsFile struct {
	durable.File
	name string
}

func (f closeFailsFile) Close() error {
	if err := f.File.Close(); err != nil || strings.Contains(f.name, "A000000000000") { // the probe of Begin
		return err
	}
	return &fs.PathError{Op: "close", Path: f.name, Err: syscall.EIO}
}

// An error of Close is an error of Prepare.
func TestCloseFails(t *testing.T) {
	b, err := open(t, "/m", maildir.Options{FS: closeFails{durabletest.New()}}).Begin(t.Context())
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
