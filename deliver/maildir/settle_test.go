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

// What the mailbox's owner does between a crash and Settle.
func TestSettle(t *testing.T) {
	type world struct {
		fsys  *durabletest.FS
		where string // the message, after Commit
	}
	rename := func(t *testing.T, w world, to string) {
		t.Helper()
		if err := w.fsys.Rename(w.where, to); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name  string
		after time.Duration
		do    func(*testing.T, world)
		want  deliver.Verdict
	}{
		{"nothing", 0, func(*testing.T, world) {}, deliver.Landed},
		{"nothing, a year ago", 365 * 24 * time.Hour, func(*testing.T, world) {}, deliver.Landed},
		{"read", 365 * 24 * time.Hour, func(t *testing.T, w world) {
			rename(t, w, "/m/cur/"+path.Base(w.where)+":2,FS")
		}, deliver.Landed},
		{"seen", 365 * 24 * time.Hour, func(t *testing.T, w world) {
			rename(t, w, "/m/cur/"+path.Base(w.where))
		}, deliver.Landed},
		{"moved elsewhere", 35 * time.Hour, func(t *testing.T, w world) { rename(t, w, "/elsewhere") }, deliver.Landed},
		{"moved elsewhere long ago", 36 * time.Hour, func(t *testing.T, w world) { rename(t, w, "/elsewhere") }, deliver.NotLanded},
		{"the whole Maildir is gone", time.Hour, func(t *testing.T, w world) {
			if err := w.fsys.Rename("/m", "/n"); err != nil {
				t.Fatal(err)
			}
		}, deliver.Unknown},
		{"another Maildir is in its place", time.Hour, func(t *testing.T, w world) {
			if err := w.fsys.Rename("/m", "/n"); err != nil {
				t.Fatal(err)
			}
			put(t, open(t, "/m", maildir.Options{FS: w.fsys}), "other")
		}, deliver.Unknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := world{fsys: durabletest.New()}
			where, tokens := put(t, open(t, "/m", maildir.Options{FS: w.fsys}), "x")
			w.where = where[0]
			w.fsys = w.fsys.Kill()
			test.do(t, w)
			// The sink's own path is another by now: the token knows better.
			s := open(t, "/other", maildir.Options{FS: w.fsys, Now: func() time.Time { return start.Add(test.after) }})
			before := w.fsys.Tree()
			if v, err := s.Settle(t.Context(), tokens[0]); v != test.want || err != nil {
				t.Errorf("Settle = %v, %v, want %v", v, err, test.want)
			}
			if w.fsys.Tree() != before {
				t.Errorf("Settle changed something:\n%s\nto\n%s", before, w.fsys.Tree())
			}
		})
	}
}

// A Maildir that its owner has moved meanwhile, and the sink with it, has what it was
// promised.
func TestSettleMoved(t *testing.T) {
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
		// Nor is it taken for one that was read and moved, if it is not there.
		if err := fsys.Remove("/n/new/" + entries[0].Name()); err != nil {
			t.Fatal(err)
		}
		if v, err := s.Settle(t.Context(), tokens[0]); v != deliver.Unknown || err != nil {
			t.Errorf("removed: Settle = %v, %v", v, err)
		}
	}
}

// Where a message cannot be looked for, nobody says that it landed, or that it did not.
func TestSettleBlind(t *testing.T) {
	for _, blind := range []string{"/m/tmp/", "/m/new/", "/m/cur"} {
		for _, after := range []time.Duration{0, 365 * 24 * time.Hour} {
			fsys := durabletest.New()
			_, tokens := prepare(t, open(t, "/m", maildir.Options{FS: fsys}), "x")
			fsys = fsys.Kill()
			s := open(t, "/m", maildir.Options{
				FS: blinded{fsys, blind}, Now: func() time.Time { return start.Add(after) },
			})
			if v, err := s.Settle(t.Context(), tokens[0]); v != deliver.Unknown || !errors.Is(err, syscall.EIO) {
				t.Errorf("Settle without %s = %v, %v, want an error", blind, v, err)
			}
		}
	}
}

// blinded is a file system in which what begins with a path cannot be looked at.
type blinded struct {
	durable.FS
	path string
}

func (b blinded) Stat(name string) (fs.FileInfo, error) {
	if strings.HasPrefix(name, b.path) && len(name) > len("/m/tmp") {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: syscall.EIO}
	}
	return b.FS.Stat(name)
}

func (b blinded) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == b.path {
		return nil, &fs.PathError{Op: "read", Path: name, Err: syscall.EIO}
	}
	return b.FS.ReadDir(name)
}

// A promised message that is still in tmp/ is delivered, however old, and
// under the name that was promised.
func TestSettleFinishes(t *testing.T) {
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

// What could not be put right has not landed, nor is it given up: Settle can be asked
// again. A power cut may have kept both names of a rename.
func TestSettleTrouble(t *testing.T) {
	for _, test := range []struct {
		verb  durabletest.Verb
		twice bool // the message is in new/, too
	}{{durabletest.Rename, false}, {durabletest.Remove, true}} {
		fsys := durabletest.New()
		s := open(t, "/m", maildir.Options{FS: fsys})
		var tokens []string
		if test.twice {
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

// Where a folder has vanished but tmp/, a promised message in there is not held
// for one that somebody has removed: Settle makes the folder and delivers. Of one
// that is not there it cannot tell.
func TestFolderVanishes(t *testing.T) {
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
			isFault(t, err, deliver.FaultTemporary, "new/ is gone", "made again")
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

// A message that is there has landed, whatever folder is missing beside it: those
// that are empty may have been left out when the Maildir was moved.
func TestEmptyFolderVanishes(t *testing.T) {
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

// Sweep keeps what is not the account's.
func TestSweepKeeps(t *testing.T) {
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
	stranger := open(t, "/m", maildir.Options{FS: fsys, Owner: "somebody else"})
	for _, test := range []struct {
		by      *maildir.Sink
		account string
		left    int
	}{{stranger, "work", 5}, {s, "play", 5}, {s, "work", 4}, {s, "work", 4}} {
		if err := test.by.Sweep(t.Context(), test.account); err != nil {
			t.Fatal(err)
		}
		if entries, _ := fsys.ReadDir("/m/tmp"); len(entries) != test.left {
			t.Errorf("after Sweep %q tmp/ has %v, want %d files", test.account, entries, test.left)
		}
	}
}

// A path may hold any byte, a promise may not, and not more than 4 KiB.
func TestOddPaths(t *testing.T) {
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
