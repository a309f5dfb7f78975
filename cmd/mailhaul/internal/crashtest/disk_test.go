//go:build linux && amd64

package crashtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A disk is full: that of the mail, of the mbox, of the state, or of the spool of an mbox.
// It is freed bit by bit, with a run after each step. As long as there is no room, each
// run ends with exit code 74 and says what to do, and no message is lost or half there.
// Then all of them have arrived once.
func TestFullDisk(t *testing.T) {
	for _, c := range []struct{ sink, disk string }{
		{"maildir", "Maildir"}, {"mbox", "mbox"}, {"maildir", "state"}, {"mbox", "state"},
	} {
		t.Run(c.sink+" with a full "+c.disk, func(t *testing.T) {
			w, err := newWorld(scratch(), workload{sink: c.sink, messages: 9, perSession: 4})
			if err != nil {
				t.Fatal(err)
			}
			defer w.close()
			defer mountDisk(t, w.path(c.disk), "2m")()
			if e := w.fetch().mustRun(t); e.code != 0 {
				t.Fatalf("exit code %d:\n%s", e.code, e.output)
			}
			w.send(9)
			fillDisk(t, w.path(c.disk, "filler"))

			failed := 0
			for ; ; failed++ {
				e := w.fetch().mustRun(t)
				w.checkSafe(t)
				if e.code == 0 {
					break
				}
				said := string(e.output)
				named := strings.Contains(said, account+": FAILED") || strings.Contains(said, "error: "+w.path(c.disk))
				_, hint, _ := strings.Cut(said, "hint: ")
				if e.code != 74 || !named || !strings.Contains(hint, "space") && !strings.Contains(hint, "room") {
					t.Fatalf("step %d: exit code %d:\n%s", failed, e.code, e.output)
				}
				if !freeSome(t, w.path(c.disk, "filler"), 8<<10) {
					t.Fatalf("the disk has room, and still:\n%s", e.output)
				}
			}
			if failed == 0 {
				t.Error("nothing failed: the disk was not full")
			}
			t.Logf("%d runs had no room", failed)
			left, err := w.leftovers()
			if len(left) > 0 || err != nil {
				t.Errorf("left over: %q (%v)", left, err)
			}
			mail, err := w.readMail()
			if v, found := w.compare(mail, true); v != (verdict{}) || err != nil {
				t.Errorf("%q (%v)", found, err)
			}
		})
	}
}

// A daemon ends if the disk fails to keep its state. The next run finds out what is there.
func TestFailingDisk(t *testing.T) {
	w, err := newWorld(scratch(), workload{sink: "maildir", messages: 9, perSession: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	p := w.fetch()
	p.args[0] = "daemon"
	delivered, failed := false, 0
	run, err := runWith(p, tracer{failing: map[int]bool{}, fails: func(pid int, c call) bool {
		switch calls[c.number] {
		case "rename", "renameat", "renameat2":
			delivered = true
		case "fsync", "fdatasync":
			file, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, c.args[0]))
			if delivered && strings.Contains(file, "mailhaul.db") {
				failed++
				return true
			}
		}
		return false
	}})
	if err != nil || run.killed || run.code != 74 || failed == 0 || !strings.Contains(string(run.output), "mailhaul: error: ") {
		t.Fatalf("exit code %d after %d failures (%v):\n%s", run.code, failed, err, run.output)
	}
	w.checkSafe(t)
	w.checkNext(t)
}

// checkNext fails the test unless another run ends well, and the owner then has all mail.
func (w *world) checkNext(t *testing.T) {
	t.Helper()
	if e := w.fetch().mustRun(t); e.code != 0 {
		t.Errorf("exit code %d:\n%s", e.code, e.output)
	}
	mail, err := w.readMail()
	if v, found := w.compare(mail, true); v != (verdict{}) || err != nil {
		t.Errorf("%q (%v)", found, err)
	}
}

// checkSafe fails the test unless every message is on the server or with its owner, who
// has no message twice and no part of one.
func (w *world) checkSafe(t *testing.T) {
	t.Helper()
	mail, err := w.readMail()
	if v, found := w.compare(mail, false); v != (verdict{}) || err != nil {
		t.Errorf("%q (%v)", found, err)
	}
	safe := map[string]bool{}
	for _, text := range mail {
		safe[text] = true
	}
	for _, m := range w.drop.Messages() {
		safe[string(bytes.ReplaceAll(m.Data, []byte("\r\n"), []byte("\n")))] = true
	}
	for text, i := range w.sent {
		if !safe[text] {
			t.Errorf("message %d is lost", i)
		}
	}
}

// mountDisk mounts a disk in memory at dir, and returns the func that unmounts it.
func mountDisk(t *testing.T, dir, size string) (unmount func()) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size)
	if errors.Is(err, unix.EPERM) {
		t.Skip("NOT TESTED: only root can mount a small disk")
	} else if err != nil {
		t.Fatal(fmt.Errorf("mount: %w", err))
	}
	return func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(fmt.Errorf("unmount: %w", err))
		}
	}
}

// fillDisk writes to a file until the disk is full.
func fillDisk(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, zeros{}); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk does not fill: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// freeSome shortens a file. It returns false if the file was already empty.
func freeSome(t *testing.T, name string, bytes int64) bool {
	t.Helper()
	info, err := os.Stat(name)
	if err == nil && info.Size() > 0 {
		err = os.Truncate(name, max(0, info.Size()-bytes))
	}
	if err != nil {
		t.Fatal(err)
	}
	return info.Size() > 0
}
