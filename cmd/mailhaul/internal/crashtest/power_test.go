//go:build linux && amd64

package crashtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The power goes when the server is told to delete the first message: what the
// disk has then is all that is left. On a real file system all mail is there, and
// the next run finds nothing to fetch. Many files are synced by one sync of the
// file system there, a few by one each.
func TestPowerCut(t *testing.T) {
	for name, options := range map[string][]string{"a journal": nil, "no journal": {"-O", "^has_journal"}} {
		for _, l := range []workload{
			{sink: "maildir", messages: 60, perSession: 100}, {sink: "maildir", messages: 5, perSession: 100},
			{sink: "mbox", messages: 60, perSession: 100},
		} {
			t.Run(fmt.Sprintf("%d in %s, %s", l.messages, l.sink, name), func(t *testing.T) {
				disk := newDisk(t, options)
				disk.mount(t, disk.image)
				w, err := newWorld(disk.dir, l)
				if err != nil {
					t.Fatal(err)
				}
				defer w.server.Close()
				unix.Sync() // else there may be too much to write for a sync of all of it
				cut := disk.image + "-cut"
				taken := false
				run, err := watched(w.fetch(), tracer{failing: map[int]bool{}, fails: func(pid int, c call) bool {
					if !taken && c.deletes(pid) {
						taken = true
						disk.copy(t, cut)
					}
					return false
				}})
				if err != nil || run.code != 0 || !taken {
					t.Fatalf("exit code %d, taken: %v (%v):\n%s", run.code, taken, err, run.said)
				}
				disk.unmount(t)
				disk.repair(t, cut)
				disk.mount(t, cut)
				for _, when := range []string{"after the cut", "after another run"} {
					mail, err := w.look()
					if v, found := w.judge(mail, true); v != (verdict{}) || err != nil {
						t.Errorf("%s: %q (%v)", when, found, err)
					}
					if e := w.fetch().do(t); e.code != 0 {
						t.Errorf("exit code %d:\n%s", e.code, e.said)
					}
				}
				if left, err := w.leftovers(); len(left) > 0 || err != nil {
					t.Errorf("left over: %q (%v)", left, err)
				}
			})
		}
	}
}

// disk is an ext4 in a file.
type disk struct{ image, dir string }

func newDisk(t *testing.T, options []string) *disk {
	t.Helper()
	parent, err := os.MkdirTemp(memory(), "mailhaul-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	d := &disk{filepath.Join(parent, "image"), filepath.Join(parent, "mounted")}
	err = errors.Join(os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, 64<<20), os.Mkdir(d.dir, 0o700))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("/sbin/mkfs.ext4", append(options, "-q", "-F", d.image)...).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	return d
}

// mount mounts an image, until the test ends.
func (d *disk) mount(t *testing.T, image string) {
	t.Helper()
	if out, err := exec.Command("mount", "-o", "loop", image, d.dir).CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: only root can mount a disk of its own, where there are loop devices: %s", out)
	}
	t.Cleanup(func() { unix.Unmount(d.dir, unix.MNT_DETACH) })
}

func (d *disk) unmount(t *testing.T) {
	t.Helper()
	if err := unix.Unmount(d.dir, 0); err != nil {
		t.Fatalf("unmount: %v", err)
	}
}

// repair does what a system does with a disk when it starts.
func (d *disk) repair(t *testing.T, image string) {
	t.Helper()
	out, err := exec.Command("/sbin/e2fsck", "-fy", image).CombinedOutput()
	if e, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || e.ExitCode() > 1) {
		t.Fatalf("e2fsck: %v: %s", err, out)
	}
}

// copy copies what the disk has.
func (d *disk) copy(t *testing.T, to string) {
	if out, err := exec.Command("cp", "--sparse=always", d.image, to).CombinedOutput(); err != nil {
		t.Errorf("cp: %v: %s", err, out)
	}
}
