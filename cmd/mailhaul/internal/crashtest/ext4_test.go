//go:build linux && amd64

package crashtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// ext4 is a file system in a file in memory.
type ext4 struct{ parent, image, dir string }

// newExt4 makes one, or skips the test where it cannot be mounted.
func newExt4(t *testing.T, options ...string) *ext4 {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: only root can mount a disk")
	}
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	parent, err := os.MkdirTemp(memory(), "mailhaul-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	d := &ext4{parent, filepath.Join(parent, "image"), filepath.Join(parent, "mounted")}
	err = errors.Join(os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, 32<<20), os.Mkdir(d.dir, 0o700))
	if err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", append(options, "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", d.image)...)
	out, err := d.tryMount()
	if err != nil {
		t.Skipf("NOT TESTED: no disk can be mounted here: %s", out)
	}
	t.Cleanup(func() { unix.Unmount(d.dir, unix.MNT_DETACH) })
	d.unmount(t)
	return d
}

func (d *ext4) tryMount() ([]byte, error) {
	return exec.Command("mount", "-o", "loop,nodiscard", d.image, d.dir).CombinedOutput()
}

// mounted mounts the disk, and syncs what that has to write.
func (d *ext4) mounted(t *testing.T) *ext4 {
	t.Helper()
	if out, err := d.tryMount(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	unix.Sync()
	return d
}

// inSteps has the mounted disk write one block at a time: a loop device reports a write
// that fails in part as done.
func (d *ext4) inSteps(t *testing.T) {
	t.Helper()
	device, err := exec.Command("findmnt", "-no", "SOURCE", d.dir).Output()
	if err == nil {
		err = os.WriteFile(filepath.Join("/sys/block", filepath.Base(strings.TrimSpace(string(device))), "queue/max_sectors_kb"), []byte("4"), 0)
	}
	if err != nil {
		t.Skipf("NOT TESTED: what a loop device writes at once cannot be set: %v", err)
	}
}

func (d *ext4) unmount(t *testing.T) {
	t.Helper()
	if err := unix.Unmount(d.dir, 0); err != nil {
		t.Fatalf("unmount: %v", err)
	}
}

// remount checks and mounts a disk that was in use, as a system does when it starts.
func (d *ext4) remount(t *testing.T) {
	t.Helper()
	out, err := exec.Command("e2fsck", "-fy", d.image).CombinedOutput()
	if e, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || e.ExitCode() > 1) {
		t.Fatalf("e2fsck: %v: %s", err, out)
	}
	d.mounted(t)
}

// run runs a program that has to succeed.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}

var withoutJournal = []string{"-O", "^has_journal"}

// The power is cut when the server is told to delete the first message: what was written
// to the disk by then is all that is left. On a real file system all mail is there, and
// the next run finds nothing to fetch.
func TestPowerCut(t *testing.T) {
	for name, options := range map[string][]string{"a journal": nil, "no journal": withoutJournal} {
		for _, l := range []workload{{"maildir", 60, 100}, {"maildir", 5, 100}, {"mbox", 60, 100}} {
			t.Run(fmt.Sprintf("%d in %s, %s", l.messages, l.sink, name), func(t *testing.T) {
				d := newExt4(t, options...).mounted(t)
				w, err := newWorld(d.dir, l)
				if err != nil {
					t.Fatal(err)
				}
				defer w.server.Close()
				unix.Sync() // so that the configuration is on the disk
				cut, taken := d.image+"-cut", false
				trace, err := runWith(w.fetch(), tracer{failing: map[int]bool{}, fails: func(pid int, c call) bool {
					if !taken && c.deletes(pid) {
						out, err := exec.Command("cp", "--sparse=always", d.image, cut).CombinedOutput()
						if taken = true; err != nil {
							t.Errorf("cp: %v: %s", err, out) // not Fatalf: this runs in the tracer's goroutine
						}
					}
					return false
				}})
				if err != nil || trace.code != 0 || !taken {
					t.Fatalf("exit code %d, taken: %v (%v):\n%s", trace.code, taken, err, trace.output)
				}
				whole := slices.ContainsFunc(trace.seen, func(c call) bool { return c.number == unix.SYS_SYNCFS })
				if !whole && l.sink == "maildir" && l.messages > 10 {
					t.Log("NOT TESTED: too much is being written to the disks for a sync of all of one")
				}
				d.unmount(t)
				d.image = cut
				d.remount(t)
				for _, when := range []string{"after the cut", "after another run"} {
					mail, err := w.readMail()
					if v, found := w.compare(mail, true); v != (verdict{}) || err != nil {
						t.Errorf("%s: %q (%v)", when, found, err)
					}
					if e := w.fetch().mustRun(t); e.code != 0 {
						t.Errorf("exit code %d:\n%s", e.code, e.output)
					}
				}
				if left, err := w.leftovers(); len(left) > 0 || err != nil {
					t.Errorf("left over: %q (%v)", left, err)
				}
			})
		}
	}
}

// holes are parts of the disk that have no room in memory, so that writes to them fail.
var holes = map[string]struct {
	options []string
	shell   string // prints the first and the last block of each part of the image $1
}{
	"data":    {nil, `dumpe2fs $1 | sed -n 's/^  Free blocks: //p' | tr -d ' ' | tr ',' '\n' | sed -n 's/^\([0-9]*\)$/\1-\1/p; /-/p' | tr - ' '`},
	"journal": {nil, `debugfs -R 'blocks <8>' $1 | tr ' ' '\n' | sed -n '2,$s/^[0-9][0-9]*$/& &/p'`},
	"inodes":  {withoutJournal, `dumpe2fs $1 | sed -n 's/.*Inode table at \([0-9]*\)-\([0-9]*\).*/\1 \2/p' | while read a b; do echo $((a+1)) $b; done`},
}

// A disk fails to write mail, the journal of its file system, or its inodes, and reports
// that at a sync. All mail is on the server or safe once the disk was repaired, and then
// the rest comes.
func TestUnwritableDisk(t *testing.T) {
	for what, h := range holes {
		if what == "inodes" && !full {
			// A failure to write inodes is reported to one sync only, which may be that
			// of all disks by another test.
			continue
		}
		for _, n := range []int{40, 5} { // synced together, or one by one
			t.Run(fmt.Sprintf("%s, %d messages", what, n), func(t *testing.T) {
				d := newExt4(t, h.options...).mounted(t)
				for _, sub := range []string{"tmp", "new", "cur"} {
					if err := os.Mkdir(filepath.Join(d.dir, sub), 0o700); err != nil {
						t.Fatal(err)
					}
				}
				d.unmount(t)
				small := filepath.Join(d.parent, "small")
				t.Cleanup(mountDisk(t, small, "34m"))
				sound := d.image
				d.image = filepath.Join(small, "image")
				run(t, "cp", "--sparse=never", sound, d.image)
				run(t, "bash", "-ec", `set -o pipefail
					{ `+h.shell+`; } 2>/dev/null | while read first last; do
						fallocate -p -o $((first*4096)) -l $(((last-first+1)*4096)) $1
					done`, "holes", d.image)
				d.mounted(t)
				d.inSteps(t)
				w, err := newWorld(memory(), workload{"maildir", n, 100})
				if err != nil {
					t.Fatal(err)
				}
				defer w.close()
				if err := os.Symlink(d.dir, w.path("Maildir")); err != nil {
					t.Fatal(err)
				}
				filler := filepath.Join(small, "filler")
				fillDisk(t, filler)

				e := w.fetch().mustRun(t)
				t.Logf("exit code %d:\n%s", e.code, e.output)
				if e.code == 0 && what != "inodes" { // some inodes are in a block that can be written
					t.Error("nothing failed")
				}
				run(t, "cp", "--sparse=always", d.image, sound) // what is on the disk now
				if err := os.Remove(filler); err != nil {
					t.Fatal(err)
				}
				d.unmount(t)
				d.image = sound
				d.remount(t)
				w.checkSafe(t)
				w.checkNext(t)
			})
		}
	}
}
