package maildir_test

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
	"github.com/mailhaul/mailhaul/deliver/maildir"
)

// Between a crash and Settle, the owner of the mailbox may read, move or remove messages.
func TestSettle(t *testing.T) {
	type mailbox struct {
		fsys *durabletest.FS
		path string // of the message, after Commit
	}
	rename := func(t *testing.T, box mailbox, to string) {
		t.Helper()
		if err := box.fsys.Rename(box.path, to); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name  string
		after time.Duration
		do    func(*testing.T, mailbox)
		want  deliver.Verdict
	}{
		{name: "nothing", do: func(*testing.T, mailbox) {}, want: deliver.Landed},
		{name: "nothing, a year ago", after: 365 * 24 * time.Hour, do: func(*testing.T, mailbox) {}, want: deliver.Landed},
		{name: "read", after: 365 * 24 * time.Hour, do: func(t *testing.T, box mailbox) {
			rename(t, box, "/m/cur/"+path.Base(box.path)+":2,FS")
		}, want: deliver.Landed},
		{name: "seen", after: 365 * 24 * time.Hour, do: func(t *testing.T, box mailbox) {
			rename(t, box, "/m/cur/"+path.Base(box.path))
		}, want: deliver.Landed},
		{name: "moved elsewhere", after: 35 * time.Hour, do: func(t *testing.T, box mailbox) { rename(t, box, "/elsewhere") }, want: deliver.Landed},
		{name: "moved elsewhere long ago", after: 36 * time.Hour, do: func(t *testing.T, box mailbox) { rename(t, box, "/elsewhere") }, want: deliver.NotLanded},
		{name: "the whole Maildir is gone", after: time.Hour, do: func(t *testing.T, box mailbox) {
			if err := box.fsys.Rename("/m", "/n"); err != nil {
				t.Fatal(err)
			}
		}, want: deliver.Unknown},
		{name: "another Maildir is in its place", after: time.Hour, do: func(t *testing.T, box mailbox) {
			if err := box.fsys.Rename("/m", "/n"); err != nil {
				t.Fatal(err)
			}
			put(t, open(t, "/m", maildir.Options{FS: box.fsys}), "other")
		}, want: deliver.Unknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			box := mailbox{fsys: durabletest.New()}
			where, tokens := put(t, open(t, "/m", maildir.Options{FS: box.fsys}), "x")
			box.path = where[0]
			box.fsys = box.fsys.Kill()
			test.do(t, box)
			// The path in the token counts, not that of the sink.
			s := open(t, "/other", maildir.Options{FS: box.fsys, Now: func() time.Time { return start.Add(test.after) }})
			before := box.fsys.Tree()
			if v, err := s.Settle(t.Context(), tokens[0]); v != test.want || err != nil {
				t.Errorf("Settle = %v, %v, want %v", v, err, test.want)
			}
			if box.fsys.Tree() != before {
				t.Errorf("Settle changed something:\n%s\nto\n%s", before, box.fsys.Tree())
			}
		})
	}
}

// Settle finds the message after the Maildir was moved and the path of the sink changed.
func TestSettleAfterMaildirMoved(t *testing.T) {
	for _, commit := range []bool{true, false} {
		fsys := durabletest.New()
		s := open(t, "/m", maildir.Options{FS: fsys})
		var tokens []string
		if commit {
			_, tokens = put(t, s, "x")
		} else {
			_, tokens = prepare(t, s, "x")
		}
		fsys = fsys.Kill()
		if err := fsys.Rename("/m", "/n"); err != nil {
			t.Fatal(err)
		}
		s = open(t, "/n", maildir.Options{FS: fsys, Now: func() time.Time { return start.Add(time.Hour) }})
		if v, err := s.Settle(t.Context(), tokens[0]); v != deliver.Landed || err != nil {
			t.Errorf("committed %v: Settle = %v, %v", commit, v, err)
		}
		entries, err := fsys.ReadDir("/n/new")
		if err != nil || len(entries) != 1 {
			t.Fatalf("committed %v: new/ has %v, %v", commit, entries, err)
		}
		// A message that is missing there may not have been delivered.
		if err := fsys.Remove("/n/new/" + entries[0].Name()); err != nil {
			t.Fatal(err)
		}
		if v, err := s.Settle(t.Context(), tokens[0]); v != deliver.Unknown || err != nil {
			t.Errorf("removed: Settle = %v, %v", v, err)
		}
	}
}

// If a folder cannot be searched for the message, Settle returns an error.
func TestSettleCannotSearch(t *testing.T) {
	for _, unreadable := range []string{"/m/tmp/", "/m/new/", "/m/cur"} {
		for _, after := range []time.Duration{0, 365 * 24 * time.Hour} {
			fsys := durabletest.New()
			_, tokens := prepare(t, open(t, "/m", maildir.Options{FS: fsys}), "x")
			fsys = fsys.Kill()
			s := open(t, "/m", maildir.Options{
				FS: unreadableFS{fsys, unreadable}, Now: func() time.Time { return start.Add(after) },
			})
			if v, err := s.Settle(t.Context(), tokens[0]); v != deliver.Unknown || !errors.Is(err, syscall.EIO) {
				t.Errorf("Settle without %s = %v, %v, want an error", unreadable, v, err)
			}
		}
	}
}

// unreadableFS is a file system on which Stat fails for the files below a path, and ReadDir
// for the path itself.
type unreadableFS struct {
	durable.FS
	path string
}

func (u unreadableFS) Stat(name string) (fs.FileInfo, error) {
	if strings.HasPrefix(name, u.path) && len(name) > len("/m/tmp") {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: syscall.EIO}
	}
	return u.FS.Stat(name)
}

func (u unreadableFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == u.path {
		return nil, &fs.PathError{Op: "read", Path: name, Err: syscall.EIO}
	}
	return u.FS.ReadDir(name)
}

// Settle delivers a promised message that is still in tmp/, however old it is, under the
// promised name.
func TestSettleDeliversFromTmp(t *testing.T) {
	fsys := durabletest.New()
	_, tokens := prepare(t, open(t, "/m", maildir.Options{FS: fsys, Host: "mx"}), "x\r\n")
	fsys = fsys.Kill()
	s := open(t, "/m", maildir.Options{FS: fsys, Now: func() time.Time { return start.Add(1000 * time.Hour) }})
	if v, err := s.Settle(t.Context(), tokens[0]); v != deliver.Landed || err != nil {
		t.Fatalf("Settle = %v, %v", v, err)
	}
	if left := fsys.Unsynced(); len(left) > 0 {
		t.Errorf("not durable: %q", left)
	}
	entries, err := fsys.ReadDir("/m/new")
	if err != nil || len(entries) != 1 || !strings.HasSuffix(entries[0].Name(), ".mx,S=2,W=3") {
		t.Errorf("new/ has %v, %v", entries, err)
	}
}

// If Settle cannot complete a delivery, it returns Unknown with an error, and a later Settle
// completes it. A power cut in a rename may leave the message under both names.
func TestSettleAgainAfterError(t *testing.T) {
	for _, test := range []struct {
		verb  durabletest.Verb
		inNew bool // the message is in new/, too
	}{{verb: durabletest.Rename}, {verb: durabletest.Remove, inNew: true}} {
		fsys := durabletest.New()
		s := open(t, "/m", maildir.Options{FS: fsys})
		var tokens []string
		if test.inNew {
			var where []string
			where, tokens = put(t, s, "x")
			name, _, _ := strings.Cut(path.Base(where[0]), ",")
			f, err := fsys.OpenFile("/m/tmp/"+name, os.O_CREATE|os.O_WRONLY, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
		} else {
			_, tokens = prepare(t, s, "x")
		}
		fsys.OnOp(durabletest.FailNth(test.verb, 1, syscall.EIO))
		if v, err := s.Settle(t.Context(), tokens[0]); v != deliver.Unknown || !errors.Is(err, syscall.EIO) {
			t.Errorf("%s fails: Settle = %v, %v", test.verb, v, err)
		}
		if v, err := s.Settle(t.Context(), tokens[0]); v != deliver.Landed || err != nil {
			t.Errorf("%s failed: Settle = %v, %v", test.verb, v, err)
		}
		staged, err := fsys.ReadDir("/m/tmp")
		there, err2 := fsys.ReadDir("/m/new")
		if err := errors.Join(err, err2); err != nil || len(staged) > 0 || len(there) != 1 || len(fsys.Unsynced()) > 0 {
			t.Errorf("%s failed: tmp/ has %v, new/ has %v, %v; not durable: %q", test.verb, staged, there, err, fsys.Unsynced())
		}
	}
}

// If new/ or cur/ is missing, Settle creates it and delivers a promised message from tmp/.
// For a message that is not in tmp/ either, it answers Unknown.
func TestSettleWithoutFolder(t *testing.T) {
	for _, gone := range []string{"/m/new", "/m/cur"} {
		fsys := durabletest.New()
		s := open(t, "/m", maildir.Options{FS: fsys})
		b, tokens := prepare(t, s, "x", "y")
		if err := fsys.Remove(gone); err != nil {
			t.Fatal(err)
		}
		if gone == "/m/new" {
			err := b.Commit(t.Context(), func(r deliver.Receipt) error {
				t.Errorf("receipt %v", r)
				return nil
			})
			wantFault(t, err, deliver.FaultTemporary, "new/ is gone", "made again")
		}
		entries, err := fsys.ReadDir("/m/tmp")
		if err != nil || len(entries) != 2 {
			t.Fatal(entries, err)
		}
		if err := fsys.Rename("/m/tmp/"+entries[0].Name(), "/elsewhere"); err != nil {
			t.Fatal(err)
		}
		if v, err := s.Settle(t.Context(), tokens[0]); v != deliver.Unknown || err == nil {
			t.Errorf("without %s, and moved elsewhere: %v, %v", gone, v, err)
		}
		if v, err := s.Settle(t.Context(), tokens[1]); v != deliver.Landed || err != nil {
			t.Errorf("without %s: %v, %v", gone, v, err)
		}
		if entries, _ := fsys.ReadDir("/m/new"); len(entries) != 1 || len(fsys.Unsynced()) > 0 {
			t.Errorf("without %s: new/ has %v; not durable: %q", gone, entries, fsys.Unsynced())
		}
	}
}

// A message that is found has landed, even if an empty folder of the Maildir is missing, as
// after a copy that omits empty folders.
func TestSettleWithoutEmptyFolder(t *testing.T) {
	for _, gone := range []string{"/m/tmp", "/m/cur", "/m/new"} {
		fsys := durabletest.New()
		s := open(t, "/m", maildir.Options{FS: fsys})
		where, tokens := put(t, s, "x", "y")
		sub := "/m/new/"
		if gone == "/m/new" {
			sub = "/m/cur/"
		}
		for i, to := range []string{sub + path.Base(where[0]), "/elsewhere"} {
			if err := fsys.Rename(where[i], to); err != nil {
				t.Fatal(err)
			}
		}
		for _, dir := range []string{"/", "/m/cur", "/m/new"} {
			if err := fsys.SyncDir(dir); err != nil {
				t.Fatal(err)
			}
		}
		if err := fsys.Remove(gone); err != nil {
			t.Fatal(err)
		}
		if v, _ := s.Settle(t.Context(), tokens[1]); v != deliver.Unknown {
			t.Errorf("without %s, and moved elsewhere: %v", gone, v)
		}
		if v, err := s.Settle(t.Context(), tokens[0]); v != deliver.Landed || err != nil {
			t.Errorf("without %s: %v, %v", gone, v, err)
		}
		if entries, _ := fsys.ReadDir(sub); len(entries) != 1 || len(fsys.Unsynced()) > 0 {
			t.Errorf("without %s: %s has %v; not durable: %q", gone, sub, entries, fsys.Unsynced())
		}
	}
}

// Sweep removes only the files of its owner and account from tmp/.
func TestSweepOneAccount(t *testing.T) {
	fsys := durabletest.New()
	s := open(t, "/m", maildir.Options{FS: fsys})
	if err := s.Sweep(t.Context(), "work"); err != nil {
		t.Errorf("Sweep of a Maildir that does not exist: %v", err)
	}
	prepare(t, s, "x")
	for _, name := range []string{"1700000000.M1P2Q3.other", "draft", "1.M1P1Q1R00000000Axyz.mx", ".hidden"} {
		f, err := fsys.OpenFile("/m/tmp/"+name, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	otherOwner := open(t, "/m", maildir.Options{FS: fsys, Owner: "somebody else"})
	for _, test := range []struct {
		by      *maildir.Sink
		account string
		left    int
	}{
		{by: otherOwner, account: "work", left: 5},
		{by: s, account: "play", left: 5},
		{by: s, account: "work", left: 4},
		{by: s, account: "work", left: 4},
	} {
		if err := test.by.Sweep(t.Context(), test.account); err != nil {
			t.Fatal(err)
		}
		if entries, _ := fsys.ReadDir("/m/tmp"); len(entries) != test.left {
			t.Errorf("after Sweep %q tmp/ has %v, want %d files", test.account, entries, test.left)
		}
	}
}

// A path may contain any byte. A token has only printable ASCII characters, and a path that
// would make it longer than 4 KiB is refused.
func TestTokenOfAnyPath(t *testing.T) {
	for _, dir := range []string{"/a b", "/\xff\xfe", "/100%41", "/\n&<>\"\\", "/é\x00"} {
		fsys := durabletest.New()
		_, tokens := prepare(t, open(t, dir, maildir.Options{FS: fsys}), "x")
		for _, r := range tokens[0] {
			if r < ' ' || r > '~' {
				t.Errorf("%q: the token is %q", dir, tokens[0])
				break
			}
		}
		v, err := open(t, "/other", maildir.Options{FS: fsys}).Settle(t.Context(), tokens[0])
		if entries, _ := fsys.ReadDir(dir + "/new"); v != deliver.Landed || err != nil || len(entries) != 1 {
			t.Errorf("%q: %v, %v, new/ has %v", dir, v, err, entries)
		}
	}
	_, err := open(t, "/"+strings.Repeat("&", 1000), maildir.Options{FS: durabletest.New()}).Begin(t.Context())
	if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultOperator || e.Hint == "" {
		t.Errorf("a path that is too long: %v", err)
	}
}
