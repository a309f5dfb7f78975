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

// disks notes how files are synced. The first letter of a file's name is its disk.
type disks struct {
	mu    sync.Mutex
	whole []string // disks, each with the number of files it was synced for
	each  []string // files

	fail map[string]error         // of a disk or a file
	hang map[string]chan struct{} // a disk, until it is closed
	busy bool
	hung chan struct{} // tells of each disk that hangs
	one  chan struct{} // tells of each file
}

func watchDisks(t *testing.T) *disks {
	d := &disks{fail: map[string]error{}, hang: map[string]chan struct{}{}, hung: make(chan struct{}, 10), one: make(chan struct{}, 1000)}
	durable.OnDisks(t, durable.Disks{
		Of: func(name string) uint64 { return uint64(filepath.Base(name)[0]) },
		Whole: func(names []string) error {
			of := filepath.Base(names[0])[:1]
			for _, name := range names {
				if !strings.HasPrefix(filepath.Base(name), of) {
					t.Errorf("they are not of one disk: %q", names)
				}
			}
			if hang := d.hang[of]; hang != nil {
				d.hung <- struct{}{}
				<-hang
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			d.whole = append(d.whole, fmt.Sprintf("%s: %d", of, len(names)))
			return d.fail[of]
		},
		Each: func(name string) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.each = append(d.each, filepath.Base(name))
			d.one <- struct{}{}
			return d.fail[filepath.Base(name)]
		},
		Calm: func() bool { return !d.busy },
	})
	return d
}

// expect checks what was synced since it was last called: disks, and so many files.
func (d *disks) expect(t *testing.T, each int, whole ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(d.whole)
	if !slices.Equal(d.whole, whole) || len(d.each) != each {
		t.Errorf("synced %q and %d files, want %q and %d", d.whole, len(d.each), whole, each)
	}
	d.whole, d.each = nil, nil
}

// begin makes n files of a disk and begins to sync them.
func begin(t *testing.T, disk string, n int) (files []durable.File) {
	for i := range n {
		f := create(t, fmt.Sprint(disk, i))
		f.BeginSync()
		files = append(files, f)
	}
	return files
}

const most, fewest = durable.Most, durable.Fewest

func of(disk string, n int) string { return fmt.Sprintf("%s: %d", disk, n) }

// Many files are synced by a sync of their disk, a few each by itself.
func TestTogether(t *testing.T) {
	for _, test := range []struct {
		n     int
		whole []string
		each  int
	}{
		{fewest - 1, nil, fewest - 1},
		{fewest, []string{of("a", fewest)}, 0},
		{most, []string{of("a", most)}, 0},
		{2*most + fewest, []string{of("a", most), of("a", most), of("a", fewest)}, 0},
		{most + 1, []string{of("a", most)}, 1},
	} {
		d := watchDisks(t)
		files := begin(t, "a", test.n)
		for _, f := range files {
			if err := f.Sync(); err != nil {
				t.Error(err)
			}
		}
		d.expect(t, test.each, test.whole...)
		for _, f := range files {
			f.Close()
		}
	}
}

// Files of several disks do not wait for each other, not even for one that hangs.
func TestTogetherOnDisks(t *testing.T) {
	d := watchDisks(t)
	d.hang["a"] = make(chan struct{})
	full := begin(t, "a", most) // which does not wait for its sync
	asked := begin(t, "a", fewest)
	synced := make(chan error)
	go func() { synced <- asked[0].Sync() }()
	b := begin(t, "b", most-1)
	d.expect(t, 0)
	if err := b[0].Sync(); err != nil {
		t.Error(err)
	}
	d.expect(t, 0, of("b", most-1))
	close(d.hang["a"])
	if err := <-synced; err != nil {
		t.Error(err)
	}
	for _, f := range slices.Concat(full, asked[1:]) {
		if err := f.Sync(); err != nil {
			t.Error(err)
		}
	}
	d.expect(t, 0, of("a", most), of("a", fewest))
	for _, f := range slices.Concat(full, asked, b) {
		f.Close()
	}
}

// What is closed is not synced any more, and what is large does not wait.
func TestTogetherLeft(t *testing.T) {
	d := watchDisks(t)
	unwanted, wanted := begin(t, "a", most-1), begin(t, "b", fewest)
	large := create(t, "b-large")
	if _, err := io.WriteString(large, strings.Repeat("x", durable.Small)); err != nil {
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
func TestTogetherChanged(t *testing.T) {
	d := watchDisks(t)
	files := begin(t, "a", most)
	if _, err := io.WriteString(files[3], "more"); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Error(err)
		}
	}
	d.expect(t, 1, of("a", most))
}

// While others write much, each file is synced by itself: whether they do when
// the sync is begun, or when it is due.
func TestTogetherBusy(t *testing.T) {
	for _, n := range []int{fewest, most - 1} {
		d := watchDisks(t)
		d.busy = true
		early := begin(t, "a", n)
		for range n {
			<-d.one // nobody has asked for it
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

// If a disk cannot be synced, no file that was open then is taken for durable, nor
// a directory until its next sync, whatever they say themselves: the kernel may have
// told of them already. The disk is not synced as a whole again.
func TestTogetherFails(t *testing.T) {
	d := watchDisks(t)
	var dirs []string
	for _, name := range []string{"a-dir", "b-dir"} {
		dirs = append(dirs, filepath.Join(t.TempDir(), name))
		if err := errors.Join(os.Mkdir(dirs[len(dirs)-1], 0o700), durable.OS.SyncDir(dirs[len(dirs)-1])); err != nil {
			t.Fatal(err)
		}
	}
	d.fail["a"], d.hang["a"] = syscall.EIO, make(chan struct{})
	group, waiting, other := begin(t, "a", most), begin(t, "a", fewest), create(t, "a-other")
	elsewhere := begin(t, "b", fewest)
	<-d.hung
	alone := make(chan error)
	go func() { alone <- other.Sync() }()
	<-d.one // it has said that all is well
	close(d.hang["a"])
	if err := <-alone; !errors.Is(err, syscall.EIO) {
		t.Errorf("a file that was synced meanwhile: %v", err)
	}
	for _, f := range slices.Concat(group, waiting, []durable.File{other}) {
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
			t.Errorf("a file of another disk: %v", err)
		}
	}
	later := begin(t, "a", 2*most)
	for _, f := range later {
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Errorf("a file that was opened later: %v", err)
		}
	}
	d.expect(t, 1+len(waiting)+len(later), of("a", most), of("b", fewest))
}

// Where the system does not allow such a sync, each file is synced by itself.
func TestTogetherRefused(t *testing.T) {
	for _, refusal := range []error{syscall.ENOSYS, syscall.EPERM} {
		d := watchDisks(t)
		d.fail["a"] = refusal
		files := begin(t, "a", 2*most)
		for _, f := range files {
			if err := errors.Join(f.Sync(), f.Close()); err != nil {
				t.Error(err)
			}
		}
		d.expect(t, len(files), of("a", most))
	}
}
