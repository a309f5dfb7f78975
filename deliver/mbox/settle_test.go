package mbox_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/delivertest"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
	"github.com/mailhaul/mailhaul/deliver/mbox"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

func promised(t *testing.T, fsys durable.FS, wire ...string) (deliver.Batch, []string) {
	t.Helper()
	return delivertest.Prepare(t, openSink(t, fsys, "/mail"), deliver.Mail{Account: "work"}, wire...)
}

func nothing(deliver.Receipt) error { return nil }

// atWrite has the nth write to the mbox fail.
func atWrite(fsys *durabletest.FS, n int, err error) {
	fsys.OnOp(func(op durabletest.Op) error {
		if op.Verb == durabletest.Write && op.Path == "/mail/inbox" {
			if n--; n == 0 {
				return err
			}
		}
		return nil
	})
}

func wantVerdicts(t *testing.T, fsys durable.FS, tokens []string, want ...deliver.Verdict) {
	t.Helper()
	for range 2 { // asked again, the answer is the same
		for i, token := range tokens {
			v, err := openSink(t, fsys, "/mail").Settle(t.Context(), token)
			if err != nil || v != want[i] {
				t.Errorf("Settle %d = %v, %v, want %v", i, v, err, want[i])
			}
		}
	}
}

func wantMail(t *testing.T, fsys durable.FS, want ...string) {
	t.Helper()
	got, err := readUnlocked(fsys, "/mail")
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("the mbox holds %.200q, %v, want %.200q", got, err, want)
	}
}

// A process dies in the middle of an append. Before its account is polled
// again, another account delivers, and then the owner takes all mail.
func TestAnotherAccountMendsTheEnd(t *testing.T) {
	fsys := memory(t)
	long := strings.Repeat("x", 200_000) + "\n"
	b, tokens := promised(t, fsys, "first\r\n", long, "third\r\n")
	atWrite(fsys, 2, durabletest.ErrCrashed)
	if err := b.Commit(t.Context(), nothing); !errors.Is(err, durabletest.ErrCrashed) {
		t.Fatalf("Commit = %v, want a crash", err)
	}
	fsys = fsys.Kill()
	if _, err := readUnlocked(fsys, "/mail"); !errors.Is(err, errLocked) {
		t.Errorf("a reader is not kept away from the torn end: %v", err)
	}

	put(t, openSink(t, fsys, "/mail"), deliver.Mail{Account: "other"}, "other\r\n")
	wantMail(t, fsys, "first\n", long, "other\n")
	write(t, fsys, "/mail/inbox", "") // by the owner, who has taken all mail
	wantVerdicts(t, fsys, tokens, deliver.Landed, deliver.Landed, deliver.Unknown)
	wantMail(t, fsys)

	if err := openSink(t, fsys, "/mail").Sweep(t.Context(), "work"); err != nil {
		t.Fatal(err)
	}
	if entries, err := fsys.ReadDir("/mail/spool"); err != nil || len(entries) > 0 {
		t.Errorf("Sweep left %v, %v", entries, err)
	}
}

func TestFullDisk(t *testing.T) {
	fsys := memory(t)
	put(t, openSink(t, fsys, "/mail"), deliver.Mail{Account: "work"}, "before\r\n")
	long := strings.Repeat("x", 200_000) + "\n"
	b, tokens := promised(t, fsys, "first\r\n", long)
	atWrite(fsys, 2, syscall.ENOSPC)
	err := b.Commit(t.Context(), func(deliver.Receipt) error {
		t.Error("a message is said to have landed")
		return nil
	})
	var e *deliver.Error
	if !errors.As(err, &e) || e.Fault != deliver.FaultMachine || e.Hint == "" {
		t.Errorf("Commit = %#v, want FaultMachine with a hint", err)
	}
	wantMail(t, fsys, "before\n")
	wantVerdicts(t, fsys, tokens, deliver.Landed, deliver.Landed)
	wantMail(t, fsys, "before\n", "first\n", long)
}

// If what was begun can neither be finished nor be taken back, readers are
// kept out until it can.
func TestTornEndStaysLocked(t *testing.T) {
	fsys := memory(t)
	b, tokens := promised(t, fsys, "first\r\n"+strings.Repeat("x", 200_000))
	broken := true
	fsys.OnOp(func(op durabletest.Op) error {
		if broken && op.Path == "/mail/inbox" && (op.Verb == durabletest.Write || op.Verb == durabletest.Truncate) {
			return syscall.EIO
		}
		return nil
	})
	if err := b.Commit(t.Context(), nothing); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Commit = %v, want EIO", err)
	}
	if _, err := openSink(t, fsys, "/mail").Settle(t.Context(), tokens[0]); !errors.Is(err, syscall.EIO) {
		t.Errorf("Settle = %v, want EIO", err)
	}
	if _, err := readUnlocked(fsys, "/mail"); !errors.Is(err, errLocked) {
		t.Errorf("a reader is not kept away from the torn end: %v", err)
	}
	broken = false
	wantVerdicts(t, fsys, tokens, deliver.Landed)
	wantMail(t, fsys, "first\n"+strings.Repeat("x", 200_000)+"\n")
}

func TestMboxChangedByOthers(t *testing.T) {
	const theirs = "From a@x Mon Jan  2 12:04:05 2006\ntheirs\n\n"
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, fsys *durabletest.FS, mbox string)
		want   deliver.Verdict
	}{
		{"message moved within", func(t *testing.T, fsys *durabletest.FS, mbox string) {
			write(t, fsys, "/mail/inbox", theirs+mbox)
		}, deliver.Landed},
		{"written anew", func(t *testing.T, fsys *durabletest.FS, mbox string) {
			write(t, fsys, "/mail/new", mbox)
			if err := fsys.Rename("/mail/new", "/mail/inbox"); err != nil {
				t.Fatal(err)
			}
		}, deliver.Landed},
		{"message gone", func(t *testing.T, fsys *durabletest.FS, mbox string) {
			write(t, fsys, "/mail/inbox", theirs)
		}, deliver.Unknown},
		{"mbox gone", func(t *testing.T, fsys *durabletest.FS, mbox string) {
			if err := fsys.Remove("/mail/inbox"); err != nil {
				t.Fatal(err)
			}
		}, deliver.Unknown},
		{"spool gone", func(t *testing.T, fsys *durabletest.FS, mbox string) {
			if err := openSink(t, fsys, "/mail").Sweep(t.Context(), "work"); err != nil {
				t.Fatal(err)
			}
		}, deliver.Landed},
		{"spool gone, and written anew", func(t *testing.T, fsys *durabletest.FS, mbox string) {
			if err := openSink(t, fsys, "/mail").Sweep(t.Context(), "work"); err != nil {
				t.Fatal(err)
			}
			write(t, fsys, "/mail/new", mbox)
			if err := fsys.Rename("/mail/new", "/mail/inbox"); err != nil {
				t.Fatal(err)
			}
			if err := fsys.SyncDir("/mail"); err != nil {
				t.Fatal(err)
			}
		}, deliver.Landed},
		{"spool gone, and other mail in its place", func(t *testing.T, fsys *durabletest.FS, mbox string) {
			write(t, fsys, "/mail/inbox", strings.Repeat(theirs, len(mbox)/len(theirs)+1))
			if err := openSink(t, fsys, "/mail").Sweep(t.Context(), "work"); err != nil {
				t.Fatal(err)
			}
		}, deliver.Unknown},
		{"spool and message gone", func(t *testing.T, fsys *durabletest.FS, mbox string) {
			write(t, fsys, "/mail/inbox", theirs)
			if err := openSink(t, fsys, "/mail").Sweep(t.Context(), "work"); err != nil {
				t.Fatal(err)
			}
		}, deliver.Unknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fsys := memory(t)
			if err := fsys.SyncDir("/"); err != nil {
				t.Fatal(err)
			}
			fsys, tokens, mbox := killedAtLanding(t, fsys)
			tc.change(t, fsys, mbox) // by a program that ignores our locks
			wantVerdicts(t, fsys, tokens, tc.want)
			if tc.want != deliver.Landed {
				return
			}
			for cut := range fsys.Fork().PowerCuts() {
				if got, err := readFile(cut, "/mail/inbox"); !strings.Contains(got, mbox) {
					t.Fatalf("what has landed may not outlast a power cut: %.100q, %v", got, err)
				}
			}
		})
	}
}

// killedAtLanding has a process killed when it is about to note that a message has
// landed. It returns what the next one finds, and what the mbox holds.
func killedAtLanding(t *testing.T, fsys *durabletest.FS) (after *durabletest.FS, tokens []string, mbox string) {
	t.Helper()
	b, tokens := promised(t, fsys, strings.Repeat("ours\r\n", 20_000))
	if err := b.Commit(t.Context(), func(deliver.Receipt) error {
		fsys = fsys.Kill()
		return nil
	}); err != nil && !errors.Is(err, durabletest.ErrCrashed) {
		t.Fatal(err)
	}
	mbox, err := readFile(fsys, "/mail/inbox")
	if err != nil {
		t.Fatal(err)
	}
	return fsys, tokens, mbox
}

// A message is found wherever it is, and once it was, its owner may take it.
func TestFoundAnywhere(t *testing.T) {
	for _, before := range []int{64<<10 - 1, 64<<10 - 1023, 64<<10 - 1024} {
		fsys := memory(t)
		fsys, tokens, mbox := killedAtLanding(t, fsys)
		const from, end = "From a@x Mon Jan  2 12:04:05 2006\n", "\n\n"
		write(t, fsys, "/mail/inbox", from+strings.Repeat("x", before-len(from+end))+end+mbox)
		wantVerdicts(t, fsys, tokens, deliver.Landed)
		write(t, fsys, "/mail/inbox", "")
		wantVerdicts(t, fsys, tokens, deliver.Landed)
		wantMail(t, fsys)
	}
}

// If the directory is not there, nobody knows what is in the mbox: it may be on a
// disk that is not mounted.
func TestSettleWithoutDirectory(t *testing.T) {
	fsys := memory(t)
	b, tokens := promised(t, fsys, "ours\r\n")
	if err := b.Commit(t.Context(), nothing); err != nil {
		t.Fatal(err)
	}
	if err := fsys.Rename("/mail", "/unmounted"); err != nil {
		t.Fatal(err)
	}
	sink, err := mbox.New("/mail/inbox", mbox.Options{FS: fsys, Spool: spool.New("/unmounted/spool", fsys), Host: "here"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = sink.Settle(t.Context(), tokens[0])
	wantFault(t, "Settle", err, deliver.FaultOperator, "")
}

func TestAppendedWhileLocked(t *testing.T) {
	fsys := memory(t)
	b, _ := promised(t, fsys, "ours\r\n")
	const theirs = "From a@x Mon Jan  2 12:04:05 2006\ntheirs\n\n"
	write(t, fsys, "/mail/inbox", theirs)
	err := b.Commit(t.Context(), nothing)
	var e *deliver.Error
	if !errors.As(err, &e) || e.Fault != deliver.FaultTemporary || e.Hint == "" {
		t.Errorf("Commit = %#v, want FaultTemporary with a hint", err)
	}
	if got, err := readFile(fsys, "/mail/inbox"); got != theirs || err != nil {
		t.Errorf("the mbox is now %q, %v", got, err)
	}
}

// Nothing is written behind the end of what another program has cut off.
func TestCutOffWhileLocked(t *testing.T) {
	fsys := memory(t)
	write(t, fsys, "/mail/inbox", "From a@x Mon Jan  2 12:04:05 2006\ntheirs\n\n")
	b, _ := promised(t, fsys, "ours\r\n")
	write(t, fsys, "/mail/inbox", "")
	wantFault(t, "Commit", b.Commit(t.Context(), nothing), deliver.FaultTemporary, "lock file")
	if got, err := readFile(fsys, "/mail/inbox"); got != "" || err != nil {
		t.Errorf("the mbox is now %q, %v", got, err)
	}
}

// What another program appended behind a batch that could not be synced is its own:
// nothing is taken back.
func TestAppendedBehind(t *testing.T) {
	fsys := memory(t)
	b, _ := promised(t, fsys, "ours\r\n")
	const theirs = "From a@x Mon Jan  2 12:04:05 2006\ntheirs\n\n"
	begun := false
	fsys.OnOp(func(op durabletest.Op) error {
		if begun || op.Verb != durabletest.Sync || op.Path != "/mail/inbox" {
			return nil
		}
		begun = true
		ours, err := readFile(fsys, "/mail/inbox")
		if err != nil {
			t.Error(err)
		}
		write(t, fsys, "/mail/inbox", ours+theirs)
		return syscall.EIO
	})
	wantFault(t, "Commit", b.Commit(t.Context(), nothing), deliver.FaultMachine, "")
	if got, err := readFile(fsys, "/mail/inbox"); !strings.HasSuffix(got, theirs) || err != nil {
		t.Errorf("the mbox is now %q, %v", got, err)
	}
}

func TestBeginRefuses(t *testing.T) {
	for name, create := range map[string]func(path string) error{
		"a directory":         func(path string) error { return os.Mkdir(path, 0o700) },
		"a pipe":              func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"no mbox":             func(path string) error { return os.WriteFile(path, []byte("Dear diary"), 0o600) },
		"a missing directory": func(path string) error { return os.Remove(filepath.Dir(path)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "mail")
			if err := errors.Join(os.Mkdir(dir, 0o700), create(filepath.Join(dir, "inbox"))); err != nil {
				t.Fatal(err)
			}
			_, err := openSink(t, durable.OS, dir).Begin(t.Context())
			var e *deliver.Error
			if !errors.As(err, &e) || e.Fault != deliver.FaultOperator || e.Hint == "" {
				t.Errorf("Begin = %#v, want FaultOperator with a hint", err)
			}
		})
	}
}

func TestSymbolicLink(t *testing.T) {
	dir := t.TempDir()
	real := filepath.Join(dir, "real")
	if err := errors.Join(os.WriteFile(real, nil, 0o600), os.Symlink("real", filepath.Join(dir, "inbox"))); err != nil {
		t.Fatal(err)
	}
	sink := openSink(t, durable.OS, dir)
	put(t, sink, deliver.Mail{}, "x\r\n")
	if b, err := os.ReadFile(real); err != nil || !strings.HasSuffix(string(b), "\nx\n\n") {
		t.Errorf("the linked file holds %q, %v", b, err)
	}
	if err := os.WriteFile(real+".lock", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantBusy(t, durable.OS, dir, real+".lock")
}

// In a folder where everybody may leave files, mail goes neither into a file of
// another user's nor by a link of his into one of ours.
func TestAnotherUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: only root can be another user")
	}
	const mine, his = 4711, 4712
	for name, tc := range map[string]struct {
		create  func(inbox, own string) error
		user    int
		mode    os.FileMode
		refused bool
	}{
		"his mbox":            {func(inbox, _ string) error { return os.WriteFile(inbox, nil, 0o666) }, mine, 0o777 | os.ModeSticky, true},
		"his link":            {func(inbox, own string) error { return os.Symlink(own, inbox) }, mine, 0o777 | os.ModeSticky, true},
		"his link to nowhere": {func(inbox, own string) error { return os.Symlink(own+"-new", inbox) }, mine, 0o777 | os.ModeSticky, true},
		"his link, of a team": {func(inbox, own string) error { return os.Symlink(own, inbox) }, mine, 0o775 | os.ModeSticky, true},
		"his link, and root":  {func(inbox, own string) error { return os.Symlink(own, inbox) }, 0, 0o777 | os.ModeSticky, true},
		"his mbox, and root":  {func(inbox, _ string) error { return os.WriteFile(inbox, nil, 0o600) }, 0, 0o777 | os.ModeSticky, false},
		"my link":             {func(inbox, own string) error { return os.Symlink(own, inbox) }, his, 0o777 | os.ModeSticky, false},
		"in a private folder": {func(inbox, own string) error { return os.Symlink(own, inbox) }, mine, 0o755 | os.ModeSticky, false},
		"removable by all":    {func(inbox, own string) error { return os.Symlink(own, inbox) }, mine, 0o777, false},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			if err := errors.Join(os.Chmod(filepath.Dir(base), 0o755), os.Chmod(base, 0o755)); err != nil {
				t.Fatal(err)
			}
			dir, own := filepath.Join(base, "spool"), filepath.Join(base, "own")
			inbox := filepath.Join(dir, "inbox")
			err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(own, nil, 0o600), tc.create(inbox, own))
			err = errors.Join(err, os.Chown(own, tc.user, tc.user), os.Lchown(inbox, his, his), os.Chmod(dir, tc.mode))
			if err != nil {
				t.Fatal(err)
			}
			said, err := begin(dir, tc.user)
			if err != nil || tc.refused != strings.Contains(said, "of another user, number 4712") || !tc.refused && said != "Begin: <nil>\n" {
				t.Errorf("it said %q, %v", said, err)
			}
		})
	}
}

// A full disk is the spool's or the mbox's, and the error names the right one.
func TestErrorNamesTheDisk(t *testing.T) {
	for place, want := range map[string]string{"/mail/spool": "/mail/spool", "/mail/inbox": "/mail/inbox"} {
		failed := 0
		for n := 1; ; n++ {
			fsys, left := memory(t), n
			fsys.OnOp(func(op durabletest.Op) error {
				if strings.HasPrefix(op.Path, place) && op.Verb == durabletest.Write {
					if left--; left == 0 {
						return syscall.ENOSPC
					}
				}
				return nil
			})
			err := deliverAll(t.Context(), openSink(t, fsys, "/mail"), deliver.Mail{Account: "work"}, "one\r\n", "two\r\n")
			if left > 0 {
				break
			}
			failed++
			e, ok := errors.AsType[*deliver.Error](err)
			if !ok || e.Fault != deliver.FaultMachine || e.Target != want || !strings.Contains(e.Hint, want) {
				t.Errorf("write %d to %s: %#v", n, place, err)
			}
		}
		if failed == 0 {
			t.Errorf("nothing was written to %s", place)
		}
	}
}

// Recovery can take long on a slow disk; it ends with its context, and the
// next one finishes it.
func TestRecoveryObeysItsContext(t *testing.T) {
	for _, step := range []string{"Settle", "Sweep", "Prepare"} {
		fsys := memory(t)
		long := strings.Repeat("x", 200_000) + "\n"
		b, tokens := promised(t, fsys, long)
		atWrite(fsys, 2, durabletest.ErrCrashed)
		if err := b.Commit(t.Context(), nothing); !errors.Is(err, durabletest.ErrCrashed) {
			t.Fatalf("Commit = %v, want a crash", err)
		}
		fsys = fsys.Kill()
		ctx, cancel := context.WithCancel(t.Context())
		fsys.OnOp(func(op durabletest.Op) error {
			if op.Verb == durabletest.Write && op.Path == "/mail/inbox" {
				cancel()
			}
			return nil
		})
		sink := openSink(t, fsys, "/mail")
		var err error
		switch step {
		case "Settle":
			_, err = sink.Settle(ctx, tokens[0])
		case "Sweep":
			err = sink.Sweep(ctx, "another")
		case "Prepare":
			err = deliverAll(ctx, sink, deliver.Mail{Account: "another"}, "x\r\n")
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s = %v, want the context's error", step, err)
		}
		wantVerdicts(t, fsys, tokens, deliver.Landed)
		wantMail(t, fsys, long)
	}
}

// A message that landed right before the process died stays, even if it cannot
// be written once more: the caller may know that it landed.
func TestRecoveryKeepsWhatLanded(t *testing.T) {
	fsys := memory(t)
	b, tokens := promised(t, fsys, "x\r\n")
	fsys.OnOp(durabletest.Skip(durabletest.Remove, "/mail/spool/*"))
	if err := b.Commit(t.Context(), nothing); err != nil {
		t.Fatal(err)
	}
	fsys = fsys.Kill()
	atWrite(fsys, 1, syscall.EIO)
	_, err := openSink(t, fsys, "/mail").Settle(t.Context(), tokens[0])
	wantFault(t, "Settle", err, deliver.FaultMachine, "")
	if got, err := read(fsys, "/mail"); err != nil || !slices.Equal(got, []string{"x\n"}) { // if locked
		t.Errorf("the mbox holds %q, %v", got, err)
	}
	wantVerdicts(t, fsys, tokens, deliver.Landed)
	wantMail(t, fsys, "x\n")
}

// What could not be journalled landed all the same, and its owner may take it once
// the mbox is unlocked. A caller that journals all at once has then journalled none.
func TestOwnerTakesWhatIsNotJournalled(t *testing.T) {
	fsys := memory(t)
	b, tokens := promised(t, fsys, "first\r\n", "second\r\n")
	full := errors.New("the journal is full")
	err := b.Commit(t.Context(), func(r deliver.Receipt) error {
		if r.Ticket == 1 {
			return full
		}
		return nil
	})
	if !errors.Is(err, full) {
		t.Errorf("Commit = %v, want %v", err, full)
	}
	write(t, fsys, "/mail/inbox", "")
	wantVerdicts(t, fsys, tokens, deliver.Landed, deliver.Landed)
	wantMail(t, fsys)
}

func TestNewWithoutPath(t *testing.T) {
	s, err := mbox.New("", mbox.Options{Spool: spool.New("/spool", durabletest.New())})
	if e, ok := errors.AsType[*deliver.Error](err); s != nil || !ok || e.Fault != deliver.FaultOperator || e.Hint == "" {
		t.Errorf("%v, %v", s, err)
	}
}
