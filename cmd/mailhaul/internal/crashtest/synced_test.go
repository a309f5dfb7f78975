//go:build linux && amd64

package crashtest

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// unsyncedWrites records what a process has written below dir and not yet synced: the
// content of files and the names in folders. Names that are removed do not count: it does
// no harm if they come back.
type unsyncedWrites struct {
	dir   string
	dirty map[string]bool // by path, relative to dir
	// syncing is, for each thread in a syncfs, what that will sync; syncfs counts
	// those that have ended.
	syncing map[int]map[string]bool
	syncfs  int
	// blind is a pattern of paths whose syncs are ignored.
	blind string
	// deletes counts the writes with a DELE to the server;
	// early are the paths that were not synced at one of them.
	deletes int
	early   map[string]bool
}

// harmless are patterns of files that need not survive: the index that SQLite rebuilds,
// files that matter only for their locks, and the output of the program.
var harmless = []string{"state/*-shm", "state/leases", "state/leases/*", "mbox/inbox.lock", "said"}

// begun is called when a call begins.
func (l *unsyncedWrites) begun(tid int, c call) {
	switch c.number {
	case unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_FTRUNCATE:
		name := descriptor(tid, c.args[0])
		if !strings.HasPrefix(name, "socket:") {
			l.mark(name)
		} else if c.deletes(tid) {
			l.deletes++
			maps.Copy(l.early, l.dirty)
		}
	case unix.SYS_OPEN:
		l.created(path(tid, c.args[0]))
	case unix.SYS_OPENAT, unix.SYS_MKDIRAT:
		l.created(path(tid, c.args[1]))
	case unix.SYS_MKDIR:
		l.created(path(tid, c.args[0]))
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
		from, to := path(tid, c.args[1]), path(tid, c.args[3])
		if l.dirty[l.relative(from)] {
			l.mark(to)
		}
		delete(l.dirty, l.relative(from))
		l.mark(filepath.Dir(from))
		l.mark(filepath.Dir(to))
	case unix.SYS_SYNCFS:
		l.syncing[tid] = maps.Clone(l.dirty)
	}
}

// ended is called when a call returns without an error: only then has a sync done its
// work.
func (l *unsyncedWrites) ended(tid int, c call) {
	switch c.number {
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		l.synced(l.relative(descriptor(tid, c.args[0])))
	case unix.SYS_SYNCFS:
		for name := range l.syncing[tid] {
			l.synced(name)
		}
		delete(l.syncing, tid)
		l.syncfs++
	}
}

// synced records that a file or folder was synced.
func (l *unsyncedWrites) synced(name string) {
	if blind, _ := filepath.Match(l.blind, name); !blind {
		delete(l.dirty, name)
	}
}

// deletes reports whether the call tells the server to delete something.
func (c call) deletes(pid int) bool {
	return c.number == unix.SYS_WRITE && strings.HasPrefix(descriptor(pid, c.args[0]), "socket:") &&
		bytes.Contains(memoryOf(pid, c.args[1], c.args[2]), []byte("DELE "))
}

// created marks the folder of a name that may be new.
func (l *unsyncedWrites) created(name string) {
	if _, err := os.Lstat(name); err != nil {
		l.mark(filepath.Dir(name))
	}
}

// mark records a write to a file or folder.
func (l *unsyncedWrites) mark(name string) {
	if name = l.relative(name); !filepath.IsLocal(name) {
		return
	}
	for _, pattern := range harmless {
		if ok, _ := filepath.Match(pattern, name); ok {
			return
		}
	}
	l.dirty[name] = true
	for _, names := range l.syncing {
		delete(names, name) // it may be written too late for that sync
	}
}

// relative returns a path relative to dir, and "" for what is no path, such as a pipe.
func (l *unsyncedWrites) relative(name string) string {
	rel, err := filepath.Rel(l.dir, name)
	if err != nil {
		return ""
	}
	return rel
}

// descriptor returns the file that a descriptor of a process refers to.
func descriptor(pid int, fd uint64) string {
	name, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
	return name
}

// path reads a path from the memory of a process, and makes it absolute.
func path(pid int, address uint64) string {
	text, _, _ := bytes.Cut(memoryOf(pid, address, unix.PathMax), []byte{0})
	if filepath.IsAbs(string(text)) {
		return string(text)
	}
	cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return filepath.Join(cwd, string(text))
}

// memoryOf reads at most size bytes of a process's memory.
func memoryOf(pid int, address, size uint64) []byte {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil
	}
	defer mem.Close()
	p := make([]byte, min(size, 64<<10))
	n, _ := mem.ReadAt(p, int64(address))
	return p[:n]
}

// Everything that was written is synced before the server is told to delete anything: the
// mail, the folders with its names, and the state. A power cut then loses nothing. With
// blind, syncs of some files are ignored, and must be missed.
func TestSyncedBeforeDelete(t *testing.T) {
	maildir, mbox := workload{"maildir", 9, 4}, workload{"mbox", 9, 4}
	many := workload{"maildir", 60, 20} // on an ext4 these are synced together
	for _, c := range []struct {
		workload
		blind, early string
	}{
		{maildir, "", ""},
		{many, "", ""},
		{mbox, "", ""},
		{maildir, "Maildir/tmp/*", "Maildir/new/*"},
		{many, "Maildir/tmp/*", "Maildir/new/*"},
		{maildir, "Maildir/tmp", "Maildir/tmp"},
		{maildir, "Maildir/new", "Maildir/new"},
		{maildir, "state/*-wal", "state/*-wal"},
		{mbox, "mbox/inbox", "mbox/inbox"},
		{mbox, "mbox", "mbox"},
		{mbox, "state/spool", "state/spool"},
		{mbox, "state/*-wal", "state/*-wal"},
	} {
		t.Run(fmt.Sprintf("%d in %s %s", c.messages, c.sink, c.blind), func(t *testing.T) {
			parent := scratch()
			if c.workload == many {
				parent = os.TempDir() // a folder that may be on a disk
				unix.Sync()           // so that there is little left to write
			}
			w, err := newWorld(parent, c.workload)
			if err != nil {
				t.Fatal(err)
			}
			defer w.close()
			l := &unsyncedWrites{dir: w.dir, blind: c.blind, dirty: map[string]bool{}, early: map[string]bool{}, syncing: map[int]map[string]bool{}}
			run, err := runWith(w.fetch(), tracer{writes: l, inside: map[int]call{}})
			if err != nil || run.code != 0 {
				t.Fatalf("exit code %d (%v):\n%s", run.code, err, run.output)
			}
			if c.workload == many && l.syncfs == 0 {
				t.Log("NOT TESTED: too much is being written to the disks for a sync of all of one")
			}
			early := slices.Sorted(maps.Keys(l.early))
			noticed := slices.ContainsFunc(early, func(name string) bool {
				ok, _ := filepath.Match(c.early, name)
				return ok
			})
			if l.deletes < 3 || c.blind == "" && len(early) > 0 || c.blind != "" && !noticed {
				t.Errorf("%d times messages were deleted; not synced before: %q", l.deletes, early)
			}
		})
	}
}
