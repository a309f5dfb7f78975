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

// disk is an ext4 in a file in memory.
type disk struct{ parent, image, dir string }

// newDisk makes one, where the system lets us.
func newDisk(t *testing.T, options ...string) *disk {
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
	d := &disk{parent, filepath.Join(parent, "image"), filepath.Join(parent, "mounted")}
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

func (d *disk) tryMount() ([]byte, error) {
	return exec.Command("mount", "-o", "loop,nodiscard", d.image, d.dir).CombinedOutput()
}

// mounted mounts the disk. There is little left to be written then.
func (d *disk) mounted(t *testing.T) *disk {
	t.Helper()
	if out, err := d.tryMount(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	unix.Sync()
	return d
}

// inSteps has the mounted disk write no more than a block at once: of what is cut
// short, a loop device says that it was written.
func (d *disk) inSteps(t *testing.T) {
	t.Helper()
	device, err := exec.Command("findmnt", "-no", "SOURCE", d.dir).Output()
	if err == nil {
		err = os.WriteFile(filepath.Join("/sys/block", filepath.Base(strings.TrimSpace(string(device))), "queue/max_sectors_kb"), []byte("4"), 0)
	}
	if err != nil {
		t.Skipf("NOT TESTED: what a loop device writes at once cannot be set: %v", err)
	}
}

func (d *disk) unmount(t *testing.T) {
	t.Helper()
	if err := unix.Unmount(d.dir, 0); err != nil {
		t.Fatalf("unmount: %v", err)
	}
}

// remount does with a disk that was in use what a system does when it starts.
func (d *disk) remount(t *testing.T) {
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

// The power goes when the server is told to delete the first message: what the
// disk was given until then is all that is left. On a real file system all mail is
// there, and the next run finds nothing to fetch.
func TestPowerCut(t *testing.T) {
	for name, options := range map[string][]string{"a journal": nil, "no journal": withoutJournal} {
		for _, l := range []workload{{"maildir", 60, 100}, {"maildir", 5, 100}, {"mbox", 60, 100}} {
			t.Run(fmt.Sprintf("%d in %s, %s", l.messages, l.sink, name), func(t *testing.T) {
				d := newDisk(t, options...).mounted(t)
				w, err := newWorld(d.dir, l)
				if err != nil {
					t.Fatal(err)
				}
				defer w.server.Close()
				unix.Sync() // the configuration
				cut, taken := d.image+"-cut", false
				trace, err := watched(w.fetch(), tracer{failing: map[int]bool{}, fails: func(pid int, c call) bool {
					if !taken && c.deletes(pid) {
						out, err := exec.Command("cp", "--sparse=always", d.image, cut).CombinedOutput()
						if taken = true; err != nil {
							t.Errorf("cp: %v: %s", err, out) // this is no goroutine of the test's
						}
					}
					return false
				}})
				if err != nil || trace.code != 0 || !taken {
					t.Fatalf("exit code %d, taken: %v (%v):\n%s", trace.code, taken, err, trace.said)
				}
				whole := slices.ContainsFunc(trace.seen, func(c call) bool { return c.number == unix.SYS_SYNCFS })
				if !whole && l.sink == "maildir" && l.messages > 10 {
					t.Log("NOT TESTED: too much is being written to the disks for a sync of all of one")
				}
				d.unmount(t)
				d.image = cut
				d.remount(t)
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

// holes leave parts of the disk without room in memory: what cannot be written.
var holes = map[string]struct {
	options []string
	shell   string // prints the first and the last block of each part of the image $1
}{
	"data":    {nil, `dumpe2fs $1 | sed -n 's/^  Free blocks: //p' | tr -d ' ' | tr ',' '\n' | sed -n 's/^\([0-9]*\)$/\1-\1/p; /-/p' | tr - ' '`},
	"journal": {nil, `debugfs -R 'blocks <8>' $1 | tr ' ' '\n' | sed -n '2,$s/^[0-9][0-9]*$/& &/p'`},
	"inodes":  {withoutJournal, `dumpe2fs $1 | sed -n 's/.*Inode table at \([0-9]*\)-\([0-9]*\).*/\1 \2/p' | while read a b; do echo $((a+1)) $b; done`},
}

// A disk fails to write mail, the journal of its file system, or its inodes, and
// says so when it is synced. Whatever of it that was, all mail is on the server or
// safe, once the disk is well again and was repaired; and then comes the rest.
func TestUnwritableDisk(t *testing.T) {
	for what, h := range holes {
		if what == "inodes" && !full {
			// Whoever syncs all disks at that moment, as other tests do, hears
			// of it, and nobody else.
			continue
		}
		for _, n := range []int{40, 5} { // synced together, and each by itself
			t.Run(fmt.Sprintf("%s, %d messages", what, n), func(t *testing.T) {
				d := newDisk(t, h.options...).mounted(t)
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

				e := w.fetch().do(t)
				t.Logf("exit code %d:\n%s", e.code, e.said)
				if e.code == 0 && what != "inodes" { // some inodes are in a block that is well
					t.Error("nothing failed")
				}
				run(t, "cp", "--sparse=always", d.image, sound) // as it is now
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
