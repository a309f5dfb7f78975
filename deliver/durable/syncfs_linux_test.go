package durable_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// This calls the real syncfs, on whatever file system the test runs. One of the files
// gets an fsync in addition.
func TestSyncfsFiles(t *testing.T) {
	var names []string
	durable.OnSync(t, func(name string) { names = append(names, filepath.Base(name)) })
	var files []*os.File
	for i := range 3 {
		f, err := os.Create(filepath.Join(t.TempDir(), fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		io.WriteString(f, "hello")
		files = append(files, f)
	}
	var s unix.Stat_t
	if err := unix.Fstat(int(files[0].Fd()), &s); err != nil {
		t.Fatal(err)
	}
	if id, ok := durable.SyncfsID(files[0]); ok && id != uint64(s.Dev) {
		t.Errorf("the file system has the id %x, want %x", id, s.Dev)
	}
	err := durable.CallSyncfs(files)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		t.Skipf("NOT TESTED: the system does not let us: %v", err)
	}
	if err != nil || !slices.Equal(names, []string{"0"}) {
		t.Errorf("%v; synced by itself: %q", err, names)
	}
	files[1].Close()
	if err := durable.CallSyncfs(files); err == nil {
		t.Error("one of the files is closed, and no error")
	}
	if _, ok := durable.SyncfsID(files[1]); ok {
		t.Error("a closed file is to be synced with others")
	}
}

// Files in memory are synced by Sync only, and not by BeginSync.
func TestInMemory(t *testing.T) {
	var s unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &s); err != nil || s.Type != unix.TMPFS_MAGIC {
		t.Skip("NOT TESTED: /dev/shm is not in memory")
	}
	dir, err := os.MkdirTemp("/dev/shm", "durable-")
	if err != nil {
		t.Skip("NOT TESTED:", err)
	}
	defer os.RemoveAll(dir)
	durable.OnDisk(func() { t.Error("it is told that there is a disk") })
	defer durable.OnDisk(func() {})
	f, err := durable.OS.OpenFile(filepath.Join(dir, "file"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(f, "hello")
	f.BeginSync()
	if n := durable.QueueLength(); n != 0 {
		t.Errorf("%d syncs wait", n)
	}
	if err := errors.Join(f.Sync(), f.Sync(), f.Close()); err != nil {
		t.Error(err)
	}
	if err := f.Sync(); err == nil {
		t.Error("the file is closed, and was synced")
	}
}

// A counter that is missing or not a number is high.
func TestVmstatPages(t *testing.T) {
	const vmstat = "nr_free_pages 1\nnr_dirty 23\nnr_dirty_threshold 4\nnr_writeback x\n"
	for name, want := range map[string]int64{"nr_dirty": 23, "nr_writeback": math.MaxInt32, "nr_unknown": math.MaxInt32} {
		if n := durable.VmstatPages([]byte(vmstat), name); n != want {
			t.Errorf("%s is %d, want %d", name, n, want)
		}
	}
}
