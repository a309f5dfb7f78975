package durable_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// disks records how files are synced. The first letter of a file's name is the file
// system it is on.
type disks struct {
	mu     sync.Mutex
	syncfs []string // calls of syncfs, as written by group
	fsync  []string // calls of fsync: the names of the files

	fail    map[string]error         // what the sync of a file system or a file returns
	hang    map[string]chan struct{} // the syncfs of a file system hangs until this is closed
	busy    bool                     // other programs write much
	hung    chan struct{}            // receives once for each syncfs that hangs
	fsynced chan struct{}            // receives once for each fsync
}

func watchDisks(t *testing.T) *disks {
	d := &disks{fail: map[string]error{}, hang: map[string]chan struct{}{}, hung: make(chan struct{}, 10), fsynced: make(chan struct{}, 1000)}
	durable.ReplaceKernel(t, durable.Kernel{
		FileSystem: func(name string) uint64 { return uint64(filepath.Base(name)[0]) },
		Syncfs: func(names []string) error {
			of := filepath.Base(names[0])[:1]
			for _, name := range names {
				if !strings.HasPrefix(filepath.Base(name), of) {
					t.Errorf("they are not on one file system: %q", names)
				}
			}
			if hang := d.hang[of]; hang != nil {
				d.hung <- struct{}{}
				<-hang
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			d.syncfs = append(d.syncfs, fmt.Sprintf("%s: %d", of, len(names)))
			return d.fail[of]
		},
		Fsync: func(name string) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.fsync = append(d.fsync, filepath.Base(name))
			d.fsynced <- struct{}{}
			return d.fail[filepath.Base(name)]
		},
		IsCheap: func() bool { return !d.busy },
	})
	return d
}

// expect checks what was synced since it was last called: so many files by fsync, and
// these groups by syncfs.
func (d *disks) expect(t *testing.T, fsync int, syncfs ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(d.syncfs)
	if !slices.Equal(d.syncfs, syncfs) || len(d.fsync) != fsync {
		t.Errorf("synced %q and %d files, want %q and %d", d.syncfs, len(d.fsync), syncfs, fsync)
	}
	d.syncfs, d.fsync = nil, nil
}

// begin creates n files on a file system and begins to sync them.
func begin(t *testing.T, disk string, n int) (files []durable.File) {
	for i := range n {
		f := create(t, fmt.Sprint(disk, i))
		f.BeginSync()
		files = append(files, f)
	}
	return files
}

const maxGroup, minGroup = durable.MaxGroup, durable.MinGroup

// group is a call of syncfs in disks.syncfs: so many files of a file system.
func group(disk string, n int) string { return fmt.Sprintf("%s: %d", disk, n) }

// Many files are synced by syncfs, a few each by itself.
func TestSyncfs(t *testing.T) {
	for _, test := range []struct {
		n      int
		syncfs []string
		fsync  int
	}{
		{minGroup - 1, nil, minGroup - 1},
		{minGroup, []string{group("a", minGroup)}, 0},
		{maxGroup, []string{group("a", maxGroup)}, 0},
		{2*maxGroup + minGroup, []string{group("a", maxGroup), group("a", maxGroup), group("a", minGroup)}, 0},
		{maxGroup + 1, []string{group("a", maxGroup)}, 1},
	} {
		d := watchDisks(t)
		files := begin(t, "a", test.n)
		for _, f := range files {
			if err := f.Sync(); err != nil {
				t.Error(err)
			}
		}
		d.expect(t, test.fsync, test.syncfs...)
		for _, f := range files {
			f.Close()
		}
	}
}

// Files on several file systems do not wait for each other, not even for one that hangs.
func TestSyncfsSeveral(t *testing.T) {
	d := watchDisks(t)
	d.hang["a"] = make(chan struct{})
	full := begin(t, "a", maxGroup) // begin does not wait for syncfs
	asked := begin(t, "a", minGroup)
	synced := make(chan error)
	go func() { synced <- asked[0].Sync() }()
	b := begin(t, "b", maxGroup-1)
	d.expect(t, 0)
	if err := b[0].Sync(); err != nil {
		t.Error(err)
	}
	d.expect(t, 0, group("b", maxGroup-1))
	close(d.hang["a"])
	if err := <-synced; err != nil {
		t.Error(err)
	}
	for _, f := range slices.Concat(full, asked[1:]) {
		if err := f.Sync(); err != nil {
			t.Error(err)
		}
	}
	d.expect(t, 0, group("a", maxGroup), group("a", minGroup))
	for _, f := range slices.Concat(full, asked, b) {
		f.Close()
	}
}

// A closed file is not synced any more, and a large file does not wait for others.
func TestSyncfsCloseAndLarge(t *testing.T) {
	d := watchDisks(t)
	unwanted, wanted := begin(t, "a", maxGroup-1), begin(t, "b", minGroup)
	large := create(t, "b-large")
	if _, err := io.WriteString(large, strings.Repeat("x", durable.MaxSmallFile)); err != nil {
		t.Fatal(err)
	}
	large.BeginSync()
	for _, f := range append(unwanted, wanted[0]) {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, f := range append(wanted[1:], large) {
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Error(err)
		}
	}
	d.expect(t, len(wanted))
}

// A file that was changed since is synced again.
func TestSyncfsChanged(t *testing.T) {
	d := watchDisks(t)
	files := begin(t, "a", maxGroup)
	if _, err := io.WriteString(files[3], "more"); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Error(err)
		}
	}
	d.expect(t, 1, group("a", maxGroup))
}

// While other programs write much, each file is synced by itself: whether they do at
// BeginSync, or when the group is to be synced.
func TestSyncfsBusy(t *testing.T) {
	for _, n := range []int{minGroup, maxGroup - 1} {
		d := watchDisks(t)
		d.busy = true
		early := begin(t, "a", n)
		for range n {
			<-d.fsynced // without a call of Sync
		}
		d.busy = false
		late := begin(t, "b", n)
		d.busy = true
		for _, f := range slices.Concat(early, late) {
			if err := errors.Join(f.Sync(), f.Close()); err != nil {
				t.Error(err)
			}
		}
		d.expect(t, 2*n)
	}
}

// After a failed syncfs, Sync fails for every file that was open then, and SyncDir once
// for every directory, even if their own fsync succeeds: see fileSystem. syncfs is not
// used there again.
func TestSyncfsFails(t *testing.T) {
	d := watchDisks(t)
	var dirs []string
	for _, name := range []string{"a-dir", "b-dir"} {
		dirs = append(dirs, filepath.Join(t.TempDir(), name))
		if err := errors.Join(os.Mkdir(dirs[len(dirs)-1], 0o700), durable.OS.SyncDir(dirs[len(dirs)-1])); err != nil {
			t.Fatal(err)
		}
	}
	d.fail["a"], d.hang["a"] = syscall.EIO, make(chan struct{})
	synced, waiting, other := begin(t, "a", maxGroup), begin(t, "a", minGroup), create(t, "a-other")
	elsewhere := begin(t, "b", minGroup)
	<-d.hung
	alone := make(chan error)
	go func() { alone <- other.Sync() }()
	<-d.fsynced // its own fsync has succeeded
	close(d.hang["a"])
	if err := <-alone; !errors.Is(err, syscall.EIO) {
		t.Errorf("a file that was synced meanwhile: %v", err)
	}
	for _, f := range slices.Concat(synced, waiting, []durable.File{other}) {
		first, again := f.Sync(), f.Sync()
		if !errors.Is(first, syscall.EIO) || !errors.Is(again, syscall.EIO) || f.Close() != nil {
			t.Errorf("%s: %v, and then %v", filepath.Base(f.Name()), first, again)
		}
	}
	for i, want := range []error{syscall.EIO, nil} {
		first, again := durable.OS.SyncDir(dirs[i]), durable.OS.SyncDir(dirs[i])
		if !errors.Is(first, want) || again != nil {
			t.Errorf("%s: %v, and then %v", filepath.Base(dirs[i]), first, again)
		}
	}
	for _, f := range elsewhere {
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Errorf("a file on another file system: %v", err)
		}
	}
	later := begin(t, "a", 2*maxGroup)
	for _, f := range later {
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Errorf("a file that was opened later: %v", err)
		}
	}
	d.expect(t, 1+len(waiting)+len(later), group("a", maxGroup), group("b", minGroup))
}

// Where the system does not permit syncfs, each file is synced by itself.
func TestSyncfsRefused(t *testing.T) {
	for _, refusal := range []error{syscall.ENOSYS, syscall.EPERM} {
		d := watchDisks(t)
		d.fail["a"] = refusal
		files := begin(t, "a", 2*maxGroup)
		for _, f := range files {
			if err := errors.Join(f.Sync(), f.Close()); err != nil {
				t.Error(err)
			}
		}
		d.expect(t, len(files), group("a", maxGroup))
	}
}
