package mbox_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
)

// With childEnv set, the test binary is a child process, see runChild. The value is what
// the child does and the directory of the mbox, separated by a colon.
const childEnv = "MBOX_TEST_HOLD"

func TestMain(m *testing.M) {
	if how, dir, ok := strings.Cut(os.Getenv(childEnv), ":"); ok {
		if err := runChild(how, dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// runChild takes a lock of the mbox and holds it until its input ends. For "user N" it
// begins a batch as that user instead.
func runChild(how, dir string) error {
	if user, ok := strings.CutPrefix(how, "user "); ok {
		return beginAs(user, dir)
	}
	switch how {
	case "fcntl":
		f, err := durable.OS.OpenFile(filepath.Join(dir, "inbox"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		if err := f.TryLock(); err != nil {
			return err
		}
		defer f.Close()
	case "prepared":
		if _, err := prepareBatch(context.Background(), durable.OS, dir, "child", "from the child\r\n"); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// beginAs begins a batch as another user and prints the error.
func beginAs(user, dir string) error {
	n, err := strconv.Atoi(user)
	if err != nil {
		return err
	}
	if err := syscall.Setuid(n); err != nil {
		return err
	}
	sink, err := open(durable.OS, dir)
	if err != nil {
		return err
	}
	_, err = sink.Begin(context.Background())
	fmt.Println("Begin:", err)
	return nil
}

// beginInChild begins a batch as another user, in a child process, and returns its output.
func beginInChild(dir string, user int) (string, error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=user %d:%s", childEnv, user, dir))
	output, err := cmd.CombinedOutput()
	return string(output), err
}

// prepareBatch stages and prepares messages of an account. The batch holds the locks of the
// mbox until it is committed or aborted.
func prepareBatch(ctx context.Context, fsys durable.FS, dir, account string, wire ...string) (deliver.Batch, error) {
	sink, err := open(fsys, dir)
	if err != nil {
		return nil, err
	}
	b, err := sink.Begin(ctx)
	if err != nil {
		return nil, err
	}
	for _, w := range wire {
		if _, err := b.Stage(ctx, deliver.Mail{Account: account}, strings.NewReader(w)); err != nil {
			return nil, errors.Join(err, b.Abort())
		}
	}
	if _, err := b.Prepare(ctx); err != nil {
		return nil, errors.Join(err, b.Abort())
	}
	return b, nil
}

// startChild starts a child process that holds a lock until the test ends.
func startChild(t *testing.T, how, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+how+":"+dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the child printed %q, %v", line, err)
	}
	return cmd
}

// wantBusy checks that Prepare waits for the lock of the mbox as long as it may, and then
// fails with an error that contains the words.
func wantBusy(t *testing.T, fsys durable.FS, dir string, words ...string) {
	t.Helper()
	// What waits for its turn in this process does so outside of the bubble.
	if b, err := openSink(t, fsys, dir).Begin(t.Context()); err == nil {
		_ = b.Abort()
	}
	synctest.Test(t, func(t *testing.T) {
		b, err := prepareBatch(t.Context(), fsys, dir, "work", "x")
		if err == nil {
			t.Error("Prepare got the lock")
			_ = b.Abort()
			return
		}
		var e *deliver.Error
		if !errors.As(err, &e) || e.Fault != deliver.FaultTemporary || e.Hint == "" {
			t.Errorf("error %#v, want FaultTemporary with a hint", err)
		}
		// Only a lock file of another program is for the user to remove.
		lock := filepath.Join(dir, "inbox.lock")
		if e != nil && strings.Contains(e.Hint, "remove "+lock) != slices.Contains(words, "inbox.lock") {
			t.Errorf("hint %q", e.Hint)
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("error %q does not say %q", err, w)
			}
		}
	})
}

func TestLockedByFcntl(t *testing.T) {
	dir := t.TempDir()
	startChild(t, "fcntl", dir)
	wantBusy(t, durable.OS, dir, "fcntl")
	if _, err := os.Stat(filepath.Join(dir, "inbox.lock")); err == nil {
		t.Error("the lock file is left behind")
	}
}

// The lock of another process is respected, and taken over once that process is dead.
func TestLockOfAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	cmd := startChild(t, "prepared", dir)
	wantBusy(t, durable.OS, dir, "process "+strconv.Itoa(cmd.Process.Pid))

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if _, err := os.Stat(filepath.Join(dir, "inbox.lock")); err != nil {
		t.Errorf("the killed process left no lock file: %v", err)
	}
	put(t, openSink(t, durable.OS, dir), deliver.Mail{Account: "work"}, "after it\r\n")
	got, err := readUnlocked(durable.OS, dir)
	if err != nil || !slices.Equal(got, []string{"after it\n"}) {
		t.Errorf("read %q, %v", got, err)
	}
}

// Sweep removes the lock file of a dead process, though not of a living one.
func TestSweepRemovesLockOfDeadProcess(t *testing.T) {
	fsys := memory(t)
	if _, err := prepareBatch(t.Context(), fsys, "/mail", "work", "x"); err != nil {
		t.Fatal(err)
	}
	sink := openSink(t, fsys, "/mail")
	if err := sink.Sweep(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	if _, err := fsys.Stat("/mail/inbox.lock"); err != nil {
		t.Errorf("Sweep removed the lock file of a living process: %v", err)
	}
	fsys = fsys.Kill()
	if err := openSink(t, fsys, "/mail").Sweep(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	if _, err := fsys.Stat("/mail/inbox.lock"); err == nil {
		t.Error("Sweep left the lock file of a dead process")
	}
}

// A lock file of another program or machine is never removed.
func TestLockFileOfOthersStays(t *testing.T) {
	for name, tc := range map[string]struct {
		content string
		mode    os.FileMode
		want    string // in the error
	}{
		"with a process":           {"4711\n", 0o644, "process 4711"},
		"empty":                    {"", 0o444, "another program"},
		"executable, not ours":     {"#!/bin/sh\n", 0o700, "another program"},
		"ours, of another machine": {"mailhaul pid 4711 host \"far\" boot \"1\"\n", 0o700, "process 4711 on far"},
		"with no batch":            {"mailhaul pid 4711 host \"far\" boot \"1\"\nbatch \"\"\n", 0o700, "process 4711 on far"},
		"with a batch of its own":  {"mailhaul pid 4711 host \"far\" boot \"1\"\nbatch \"00-X\"\n", 0o700, "process 4711 on far"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			lock := filepath.Join(dir, "inbox.lock")
			if err := os.WriteFile(lock, []byte(tc.content), tc.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(lock, tc.mode); err != nil {
				t.Fatal(err)
			}
			wantBusy(t, durable.OS, dir, "inbox.lock", tc.want)
			if b, err := os.ReadFile(lock); err != nil || string(b) != tc.content {
				t.Errorf("the lock file is now %q, %v", b, err)
			}
		})
	}
}

// In a directory where others may write, the lock file can be a pipe or a link. A pipe does
// not block the sink for longer than a lock does, and a link is not followed.
func TestLockFileIsPipeOrLink(t *testing.T) {
	for name, place := range map[string]func(lock, own string) error{
		"pipe":           func(lock, _ string) error { return syscall.Mkfifo(lock, 0o622) },
		"link to a file": func(lock, own string) error { return os.Symlink(own, lock) },
		"link to a pipe": func(lock, own string) error {
			return errors.Join(syscall.Mkfifo(own+"-pipe", 0o700), os.Symlink(own+"-pipe", lock))
		},
		"link to nowhere": func(lock, own string) error { return os.Symlink(own+"-gone", lock) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, own := t.TempDir(), filepath.Join(t.TempDir(), "script")
			// Empty and executable, as a process leaves its lock file that dies while it
			// creates it.
			if err := errors.Join(os.WriteFile(own, nil, 0o700), place(filepath.Join(dir, "inbox.lock"), own)); err != nil {
				t.Fatal(err)
			}
			wantBusy(t, durable.OS, dir, "inbox.lock", "another program")
			if b, err := os.ReadFile(own); err != nil || len(b) > 0 {
				t.Errorf("the file behind the link is now %q, %v", b, err)
			}
		})
	}
}

// fixedMode is a file system on which all files have the mode 0755, such as FAT.
type fixedMode struct{ durable.FS }

type fixedModeInfo struct{ fs.FileInfo }

func (fixedModeInfo) Mode() fs.FileMode { return 0o755 }

func (f fixedMode) Stat(name string) (fs.FileInfo, error) {
	fi, err := f.FS.Stat(name)
	if err != nil || fi.IsDir() {
		return fi, err
	}
	return fixedModeInfo{fi}, nil
}

// Where file modes do not distinguish lock files, their content does.
func TestLockFileWithoutMode(t *testing.T) {
	fsys := memory(t)
	if _, err := prepareBatch(t.Context(), fsys, "/mail", "work", "x"); err != nil {
		t.Fatal(err)
	}
	wantBusy(t, fixedMode{fsys}, "/mail", "another mailhaul")
	fsys = fsys.Kill()
	put(t, openSink(t, fixedMode{fsys}, "/mail"), deliver.Mail{Account: "work"}, "after it\r\n")
	if got, err := read(fsys, "/mail"); err != nil || !slices.Equal(got, []string{"after it\n"}) {
		t.Errorf("read %q, %v", got, err)
	}
	for _, content := range []string{"", "4711\n", "mailhaul\n"} {
		write(t, fsys, "/mail/inbox.lock", content)
		wantBusy(t, fixedMode{fsys}, "/mail", "inbox.lock", "another program")
	}
}

// If no lock file can be created in the directory, the fcntl lock alone must do.
func TestDirectoryNotWritable(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EACCES, syscall.EROFS} {
		fsys := memory(t)
		write(t, fsys, "/mail/inbox", "")
		fsys.OnOp(func(op durabletest.Op) error {
			if op.Path == "/mail/inbox.lock" {
				return errno
			}
			return nil
		})
		put(t, openSink(t, fsys, "/mail"), deliver.Mail{}, "x\r\n")
		if got, err := read(fsys, "/mail"); err != nil || !slices.Equal(got, []string{"x\n"}) {
			t.Errorf("%v: read %q, %v", errno, got, err)
		}
	}
}

// The wait for a lock ends when the context is cancelled.
func TestWaitObeysContext(t *testing.T) {
	for name, other := range map[string]func(durable.FS) durable.FS{
		"this process":    func(fsys durable.FS) durable.FS { return fsys },
		"another process": func(fsys durable.FS) durable.FS { return struct{ durable.FS }{fsys} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fsys := memory(t)
				b, err := prepareBatch(t.Context(), fsys, "/mail", "one", "x")
				if err != nil {
					t.Fatal(err)
				}
				defer b.Abort()
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					synctest.Wait()
					cancel()
				}()
				if _, err := prepareBatch(ctx, other(fsys), "/mail", "two", "y"); !errors.Is(err, context.Canceled) {
					t.Errorf("Prepare = %v, want context.Canceled", err)
				}
			})
		})
	}
}

// Two sinks that deliver to one mbox at the same time do not mix up their messages.
func TestTwoSinksOneMbox(t *testing.T) {
	dir := t.TempDir()
	sinks := []deliver.Sink{openSink(t, durable.OS, dir), openSink(t, durable.OS, dir)}
	var want []string
	var wg sync.WaitGroup
	for i := range 8 {
		wire := fmt.Sprintf("Subject: %d\r\n\r\n%s\r\n", i, strings.Repeat("x", 100_000))
		want = append(want, canon(wire), canon(wire))
		wg.Go(func() {
			if err := deliverAll(t.Context(), sinks[i%2], deliver.Mail{Account: fmt.Sprint(i)}, wire, wire); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, err := readUnlocked(durable.OS, dir)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d messages, not the %d that were delivered", len(got), len(want))
	}
}

// The profile says that a batch holds locks between Prepare and Commit, so that the caller
// does little in between.
func TestProfileTellsOfLocks(t *testing.T) {
	if p := openSink(t, memory(t), "/mail").Profile(); !p.Locks {
		t.Errorf("%+v", p)
	}
}
