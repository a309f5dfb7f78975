package durable_test

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// disks notes how files are synced.
type disks struct {
	mu    sync.Mutex
	whole []string          // file systems, each by the number of files
	each  []string          // files
	fails func(string) bool // a file, or "whole"
}

var errIO = errors.New("input/output error")

// watchDisks has the first letter of a file's name tell its file system.
func watchDisks(t *testing.T) *disks {
	d := &disks{fails: func(string) bool { return false }}
	durable.OnDisks(t, func(name string) uint64 { return uint64(filepath.Base(name)[0]) },
		func(names []string) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			for _, name := range names {
				if filepath.Base(name)[0] != filepath.Base(names[0])[0] {
					t.Errorf("they are not of one file system: %q", names)
				}
			}
			d.whole = append(d.whole, fmt.Sprintf("%c: %d", filepath.Base(names[0])[0], len(names)))
			if d.fails("whole") {
				return errIO
			}
			return nil
		},
		func(name string) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.each = append(d.each, filepath.Base(name))
			if d.fails(filepath.Base(name)) {
				return errIO
			}
			return nil
		})
	return d
}

func begin(t *testing.T, disk string, n int) (files []durable.File) {
	for i := range n {
		f := create(t, fmt.Sprint(disk, i))
		f.BeginSync()
		files = append(files, f)
	}
	return files
}

// finish syncs files and returns those that failed.
func finish(t *testing.T, files []durable.File) (failed []string) {
	for _, f := range files {
		if err := f.Sync(); err != nil {
			failed = append(failed, filepath.Base(f.Name()))
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	return failed
}

func (d *disks) expect(t *testing.T, whole []string, each int) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(d.whole)
	if !slices.Equal(d.whole, whole) || len(d.each) != each {
		t.Errorf("synced %q and %d files, want %q and %d", d.whole, len(d.each), whole, each)
	}
}

// Many files are synced by a sync of their file system, a few are not.
func TestTogether(t *testing.T) {
	for _, test := range []struct {
		n     int
		whole []string
		each  int
	}{
		{durable.Fewest - 1, nil, durable.Fewest - 1},
		{durable.Fewest, []string{"a: 8"}, 0},
		{durable.Most, []string{"a: 32"}, 0},
		{2*durable.Most + durable.Fewest, []string{"a: 32", "a: 32", "a: 8"}, 0},
		{durable.Most + 1, []string{"a: 32"}, 1},
	} {
		d := watchDisks(t)
		if failed := finish(t, begin(t, "a", test.n)); failed != nil {
			t.Errorf("failed: %q", failed)
		}
		d.expect(t, test.whole, test.each)
	}
}

// Files of several file systems do not wait for each other.
func TestTogetherOnDisks(t *testing.T) {
	d := watchDisks(t)
	a, b := begin(t, "a", durable.Most-1), begin(t, "b", durable.Most-1)
	d.expect(t, nil, 0)
	finish(t, b)
	d.expect(t, []string{"b: 31"}, 0)
	finish(t, a)
	d.expect(t, []string{"a: 31", "b: 31"}, 0)
}

// What is closed is not synced any more, and what is large does not wait.
func TestTogetherLeft(t *testing.T) {
	d := watchDisks(t)
	unwanted, wanted := begin(t, "a", durable.Most-1), begin(t, "b", durable.Fewest)
	large := create(t, "a")
	if _, err := io.WriteString(large, strings.Repeat("x", durable.Small)); err != nil {
		t.Fatal(err)
	}
	large.BeginSync()
	for _, f := range append(unwanted, wanted[0]) {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	finish(t, append(wanted[1:], large))
	d.expect(t, nil, len(wanted))
}

// A file that was changed since is synced again.
func TestTogetherChanged(t *testing.T) {
	d := watchDisks(t)
	files := begin(t, "a", durable.Most)
	if _, err := io.WriteString(files[3], "more"); err != nil {
		t.Fatal(err)
	}
	finish(t, files)
	d.expect(t, []string{"a: 32"}, 1)
}

// If a file system cannot be synced, each file tells for itself.
func TestTogetherFails(t *testing.T) {
	d := watchDisks(t)
	d.fails = func(what string) bool { return what == "whole" || what == "a2" || what == "a7" }
	if failed := finish(t, begin(t, "a", durable.Fewest)); !slices.Equal(failed, []string{"a2", "a7"}) {
		t.Errorf("failed: %q", failed)
	}
	d.expect(t, []string{"a: 8"}, durable.Fewest)
}
