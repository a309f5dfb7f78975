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

// prepare stages and prepares messages of account "work" and returns their tokens.
func prepare(t *testing.T, fsys durable.FS, wire ...string) (deliver.Batch, []string) {
	t.Helper()
	return delivertest.Prepare(t, openSink(t, fsys, "/mail"), deliver.Mail{Account: "work"}, wire...)
}

// ignoreReceipt is a callback for Commit.
func ignoreReceipt(deliver.Receipt) error { return nil }

// failWrite makes the nth write to the mbox fail.
func failWrite(fsys *durabletest.FS, n int, err error) {
	fsys.OnOp(func(op durabletest.Op) error {
		if op.Verb == durabletest.Write && op.Path == "/mail/inbox" {
			if n--; n == 0 {
				return err
			}
		}
		return nil
	})
}

// wantVerdicts checks the answers of Settle, which must be the same when asked twice.
func wantVerdicts(t *testing.T, fsys durable.FS, tokens []string, want ...deliver.Verdict) {
	t.Helper()
	for range 2 {
		for i, token := range tokens {
			v, err := openSink(t, fsys, "/mail").Settle(t.Context(), token)
			if err != nil || v != want[i] {
				t.Errorf("Settle %d = %v, %v, want %v", i, v, err, want[i])
			}
		}
	}
}

// wantMail checks that the mbox is not locked and holds these messages, as stored.
func wantMail(t *testing.T, fsys durable.FS, want ...string) {
	t.Helper()
	got, err := readUnlocked(fsys, "/mail")
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("the mbox holds %.200q, %v, want %.200q", got, err, want)
	}
}

// A process dies in the middle of an append. Another account, which delivers next, repairs
// the end of the mbox. Then the owner removes all mail. Settle still knows which messages
// had landed.
func TestAnotherAccountRepairsMbox(t *testing.T) {
	fsys := memory(t)
	long := strings.Repeat("x", 200_000) + "\n"
	b, tokens := prepare(t, fsys, "first\r\n", long, "third\r\n")
	failWrite(fsys, 2, durabletest.ErrCrashed)
	if err := b.Commit(t.Context(), ignoreReceipt); !errors.Is(err, durabletest.ErrCrashed) {
		t.Fatalf("Commit = %v, want a crash", err)
	}
	fsys = fsys.Kill()
	if _, err := readUnlocked(fsys, "/mail"); !errors.Is(err, errLocked) {
		t.Errorf("a reader is not kept away from the torn end: %v", err)
	}

	put(t, openSink(t, fsys, "/mail"), deliver.Mail{Account: "other"}, "other\r\n")
	wantMail(t, fsys, "first\n", long, "other\n")
	write(t, fsys, "/mail/inbox", "") // by the owner, who removes all mail
	wantVerdicts(t, fsys, tokens, deliver.Landed, deliver.Landed, deliver.Unknown)
	wantMail(t, fsys)

	if err := openSink(t, fsys, "/mail").Sweep(t.Context(), "work"); err != nil {
		t.Fatal(err)
	}
	if entries, err := fsys.ReadDir("/mail/spool"); err != nil || len(entries) > 0 {
		t.Errorf("Sweep left %v, %v", entries, err)
	}
}

// A disk that becomes full in Commit leaves the mbox as it was. Settle delivers later.
func TestFullDisk(t *testing.T) {
	fsys := memory(t)
	put(t, openSink(t, fsys, "/mail"), deliver.Mail{Account: "work"}, "before\r\n")
	long := strings.Repeat("x", 200_000) + "\n"
	b, tokens := prepare(t, fsys, "first\r\n", long)
	failWrite(fsys, 2, syscall.ENOSPC)
	err := b.Commit(t.Context(), func(deliver.Receipt) error {
		t.Error("a message is reported")
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

// If an incomplete append can be neither finished nor undone, the lock file stays until it
// can be, so that no reader sees part of a message.
func TestIncompleteAppendStaysLocked(t *testing.T) {
	fsys := memory(t)
	b, tokens := prepare(t, fsys, "first\r\n"+strings.Repeat("x", 200_000))
	broken := true
	fsys.OnOp(func(op durabletest.Op) error {
		if broken && op.Path == "/mail/inbox" && (op.Verb == durabletest.Write || op.Verb == durabletest.Truncate) {
			return syscall.EIO
		}
		return nil
	})
	if err := b.Commit(t.Context(), ignoreReceipt); !errors.Is(err, syscall.EIO) {
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

// Between a crash and Settle, other programs may change the mbox.
func TestMboxChangedByOthers(t *testing.T) {
	const theirs = "From a@x Mon Jan  2 12:04:05 2006\ntheirs\n\n"
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, fsys *durabletest.FS, mbox string)
		want   deliver.Verdict
	}{
		{name: "message moved within", change: func(t *testing.T, fsys *durabletest.FS, mbox string) {
			write(t, fsys, "/mail/inbox", theirs+mbox)
		}, want: deliver.Landed},
		{name: "written anew", change: func(t *testing.T, fsys *durabletest.FS, mbox string) {
			write(t, fsys, "/mail/new", mbox)
			if err := fsys.Rename("/mail/new", "/mail/inbox"); err != nil {
				t.Fatal(err)
			}
		}, want: deliver.Landed},
		{name: "message gone", change: func(t *testing.T, fsys *durabletest.FS, mbox string) {
			write(t, fsys, "/mail/inbox", theirs)
		}, want: deliver.Unknown},
		{name: "mbox gone", change: func(t *testing.T, fsys *durabletest.FS, mbox string) {
			if err := fsys.Remove("/mail/inbox"); err != nil {
				t.Fatal(err)
			}
		}, want: deliver.Unknown},
		{name: "spool gone", change: func(t *testing.T, fsys *durabletest.FS, mbox string) {
			if err := openSink(t, fsys, "/mail").Sweep(t.Context(), "work"); err != nil {
				t.Fatal(err)
			}
		}, want: deliver.Landed},
		{name: "spool gone, and written anew", change: func(t *testing.T, fsys *durabletest.FS, mbox string) {
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
		}, want: deliver.Landed},
		{name: "spool gone, and other mail in its place", change: func(t *testing.T, fsys *durabletest.FS, mbox string) {
			write(t, fsys, "/mail/inbox", strings.Repeat(theirs, len(mbox)/len(theirs)+1))
			if err := openSink(t, fsys, "/mail").Sweep(t.Context(), "work"); err != nil {
				t.Fatal(err)
			}
		}, want: deliver.Unknown},
		{name: "spool and message gone", change: func(t *testing.T, fsys *durabletest.FS, mbox string) {
			write(t, fsys, "/mail/inbox", theirs)
			if err := openSink(t, fsys, "/mail").Sweep(t.Context(), "work"); err != nil {
				t.Fatal(err)
			}
		}, want: deliver.Unknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fsys := memory(t)
			if err := fsys.SyncDir("/"); err != nil {
				t.Fatal(err)
			}
			fsys, tokens, mbox := killAtReceipt(t, fsys)
			tc.change(t, fsys, mbox)
			wantVerdicts(t, fsys, tokens, tc.want)
			if tc.want != deliver.Landed {
				return
			}
			for cut := range fsys.Fork().PowerCuts() {
				if got, err := readFile(cut, "/mail/inbox"); !strings.Contains(got, mbox) {
					t.Fatalf("after a power cut the mbox holds %.100q, %v", got, err)
				}
			}
		})
	}
}

// killAtReceipt delivers a message and kills the process when it gets the receipt. It returns
// the file system after that, the token, and the content of the mbox.
func killAtReceipt(t *testing.T, fsys *durabletest.FS) (after *durabletest.FS, tokens []string, mbox string) {
	t.Helper()
	b, tokens := prepare(t, fsys, strings.Repeat("ours\r\n", 20_000))
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

// Settle finds a message at any offset, also across the borders of its buffer. Once found,
// its owner may remove it.
func TestSettleFindsMessageAnywhere(t *testing.T) {
	for _, before := range []int{64<<10 - 1, 64<<10 - 1023, 64<<10 - 1024} {
		fsys := memory(t)
		fsys, tokens, mbox := killAtReceipt(t, fsys)
		const from, end = "From a@x Mon Jan  2 12:04:05 2006\n", "\n\n"
		write(t, fsys, "/mail/inbox", from+strings.Repeat("x", before-len(from+end))+end+mbox)
		wantVerdicts(t, fsys, tokens, deliver.Landed)
		write(t, fsys, "/mail/inbox", "")
		wantVerdicts(t, fsys, tokens, deliver.Landed)
		wantMail(t, fsys)
	}
}

// If the directory of the mbox is missing, its disk may not be mounted, and Settle fails.
func TestSettleWithoutDirectory(t *testing.T) {
	fsys := memory(t)
	b, tokens := prepare(t, fsys, "ours\r\n")
	if err := b.Commit(t.Context(), ignoreReceipt); err != nil {
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

// If another program ignores the locks and appends between Prepare and Commit, Commit fails
// and changes nothing.
func TestAppendedWhileLocked(t *testing.T) {
	fsys := memory(t)
	b, _ := prepare(t, fsys, "ours\r\n")
	const theirs = "From a@x Mon Jan  2 12:04:05 2006\ntheirs\n\n"
	write(t, fsys, "/mail/inbox", theirs)
	err := b.Commit(t.Context(), ignoreReceipt)
	var e *deliver.Error
	if !errors.As(err, &e) || e.Fault != deliver.FaultTemporary || e.Hint == "" {
		t.Errorf("Commit = %#v, want FaultTemporary with a hint", err)
	}
	if got, err := readFile(fsys, "/mail/inbox"); got != theirs || err != nil {
		t.Errorf("the mbox is now %q, %v", got, err)
	}
}

// If another program truncates the mbox between Prepare and Commit, Commit fails and writes
// nothing.
func TestTruncatedWhileLocked(t *testing.T) {
	fsys := memory(t)
	write(t, fsys, "/mail/inbox", "From a@x Mon Jan  2 12:04:05 2006\ntheirs\n\n")
	b, _ := prepare(t, fsys, "ours\r\n")
	write(t, fsys, "/mail/inbox", "")
	wantFault(t, "Commit", b.Commit(t.Context(), ignoreReceipt), deliver.FaultTemporary, "lock file")
	if got, err := readFile(fsys, "/mail/inbox"); got != "" || err != nil {
		t.Errorf("the mbox is now %q, %v", got, err)
	}
}

// If another program has appended to the mbox behind a batch that could not be synced, the
// mbox is not truncated.
func TestAppendedBehindFailedBatch(t *testing.T) {
	fsys := memory(t)
	b, _ := prepare(t, fsys, "ours\r\n")
	const theirs = "From a@x Mon Jan  2 12:04:05 2006\ntheirs\n\n"
	failed := false
	fsys.OnOp(func(op durabletest.Op) error {
		if failed || op.Verb != durabletest.Sync || op.Path != "/mail/inbox" {
			return nil
		}
		failed = true
		ours, err := readFile(fsys, "/mail/inbox")
		if err != nil {
			t.Error(err)
		}
		write(t, fsys, "/mail/inbox", ours+theirs)
		return syscall.EIO
	})
	wantFault(t, "Commit", b.Commit(t.Context(), ignoreReceipt), deliver.FaultMachine, "")
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

// In a folder where everybody may create files, no mail is delivered to a file of another
// user, nor through a link of another user.
func TestMboxOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: only root can be another user")
	}
	const ownUID, otherUID = 4711, 4712
	for name, tc := range map[string]struct {
		create  func(inbox, own string) error
		user    int         // who delivers
		mode    os.FileMode // of the folder
		refused bool
	}{
		"mbox of another user":                    {func(inbox, _ string) error { return os.WriteFile(inbox, nil, 0o666) }, ownUID, 0o777 | os.ModeSticky, true},
		"link of another user":                    {func(inbox, own string) error { return os.Symlink(own, inbox) }, ownUID, 0o777 | os.ModeSticky, true},
		"dangling link of another user":           {func(inbox, own string) error { return os.Symlink(own+"-new", inbox) }, ownUID, 0o777 | os.ModeSticky, true},
		"link of another user, folder of a group": {func(inbox, own string) error { return os.Symlink(own, inbox) }, ownUID, 0o775 | os.ModeSticky, true},
		"link of another user, delivered by root": {func(inbox, own string) error { return os.Symlink(own, inbox) }, 0, 0o777 | os.ModeSticky, true},
		"mbox of another user, delivered by root": {func(inbox, _ string) error { return os.WriteFile(inbox, nil, 0o600) }, 0, 0o777 | os.ModeSticky, false},
		"own link":                           {func(inbox, own string) error { return os.Symlink(own, inbox) }, otherUID, 0o777 | os.ModeSticky, false},
		"folder that others cannot write to": {func(inbox, own string) error { return os.Symlink(own, inbox) }, ownUID, 0o755 | os.ModeSticky, false},
		"folder without the sticky bit":      {func(inbox, own string) error { return os.Symlink(own, inbox) }, ownUID, 0o777, false},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			if err := errors.Join(os.Chmod(filepath.Dir(base), 0o755), os.Chmod(base, 0o755)); err != nil {
				t.Fatal(err)
			}
			dir, own := filepath.Join(base, "spool"), filepath.Join(base, "own")
			inbox := filepath.Join(dir, "inbox")
			err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(own, nil, 0o600), tc.create(inbox, own))
			err = errors.Join(err, os.Chown(own, tc.user, tc.user), os.Lchown(inbox, otherUID, otherUID), os.Chmod(dir, tc.mode))
			if err != nil {
				t.Fatal(err)
			}
			output, err := beginInChild(dir, tc.user)
			if err != nil || tc.refused != strings.Contains(output, "of another user, number 4712") || !tc.refused && output != "Begin: <nil>\n" {
				t.Errorf("output %q, %v", output, err)
			}
		})
	}
}

// If a disk is full, the error and its hint name the spool or the mbox, whichever is on it.
func TestFullDiskIsNamed(t *testing.T) {
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

// Recovery ends when its context is cancelled. A later one completes it.
func TestRecoveryObeysContext(t *testing.T) {
	for _, step := range []string{"Settle", "Sweep", "Prepare"} {
		fsys := memory(t)
		long := strings.Repeat("x", 200_000) + "\n"
		b, tokens := prepare(t, fsys, long)
		failWrite(fsys, 2, durabletest.ErrCrashed)
		if err := b.Commit(t.Context(), ignoreReceipt); !errors.Is(err, durabletest.ErrCrashed) {
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

// A message that landed right before the process died stays in the mbox, even if Settle cannot
// write: the caller may have recorded that it landed.
func TestRecoveryKeepsLandedMessage(t *testing.T) {
	fsys := memory(t)
	b, tokens := prepare(t, fsys, "x\r\n")
	fsys.OnOp(durabletest.Skip(durabletest.Remove, "/mail/spool/*"))
	if err := b.Commit(t.Context(), ignoreReceipt); err != nil {
		t.Fatal(err)
	}
	fsys = fsys.Kill()
	failWrite(fsys, 1, syscall.EIO)
	_, err := openSink(t, fsys, "/mail").Settle(t.Context(), tokens[0])
	wantFault(t, "Settle", err, deliver.FaultMachine, "")
	if got, err := read(fsys, "/mail"); err != nil || !slices.Equal(got, []string{"x\n"}) { // locked or not
		t.Errorf("the mbox holds %q, %v", got, err)
	}
	wantVerdicts(t, fsys, tokens, deliver.Landed)
	wantMail(t, fsys, "x\n")
}

// Messages whose receipts the caller could not record have landed all the same. Settle knows
// them even after the owner has removed them from the mbox.
func TestReceiptsNotRecorded(t *testing.T) {
	fsys := memory(t)
	b, tokens := prepare(t, fsys, "first\r\n", "second\r\n")
	errJournal := errors.New("the journal is full")
	err := b.Commit(t.Context(), func(r deliver.Receipt) error {
		if r.Ticket == 1 {
			return errJournal
		}
		return nil
	})
	if !errors.Is(err, errJournal) {
		t.Errorf("Commit = %v, want %v", err, errJournal)
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
