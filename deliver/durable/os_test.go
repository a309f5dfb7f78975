package durable_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// TestLarge writes so much that syncs begin during the writes.
func TestLarge(t *testing.T) {
	name := filepath.Join(t.TempDir(), "large")
	f, err := durable.OS.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	piece := make([]byte, 5<<20)
	for i := range 10 {
		piece[0] = byte(i)
		if n, err := f.Write(piece); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(name)
	if err != nil || len(data) != 10*len(piece) || data[9*len(piece)] != 9 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if err := f.Sync(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Sync of a closed file: %v", err)
	}
}

// Sync covers what was written since BeginSync, and syncs nothing twice.
func TestBeginSync(t *testing.T) {
	n := 0
	begun := make(chan struct{}, 3)
	durable.OnSync(t, func(string) { n++; begun <- struct{}{} })
	change := map[string]func(f durable.File) error{
		"nothing":     func(durable.File) error { return nil },
		"Write":       func(f durable.File) error { _, err := f.Write([]byte("x")); return err },
		"WriteString": func(f durable.File) error { _, err := io.WriteString(f, "x"); return err },
		"Copy":        func(f durable.File) error { _, err := io.Copy(f, strings.NewReader("x")); return err },
		"WriteAt":     func(f durable.File) error { _, err := f.WriteAt([]byte("H"), 0); return err },
		"Truncate":    func(f durable.File) error { return f.Truncate(2) },
		"Chmod":       func(f durable.File) error { return f.Chmod(0o640) },
	}
	for what, do := range change {
		n = 0
		f := create(t, what)
		f.BeginSync()
		<-begun // or Sync may do it instead
		err := errors.Join(do(f), f.Sync(), f.Sync(), f.Close())
		want := 3
		if what == "nothing" {
			want = 2
		}
		if err != nil || n != want {
			t.Errorf("%s: %d syncs, want %d; %v", what, n, want, err)
		}
		for range n - 1 {
			<-begun
		}
	}
}

// The function of OnDisk is called at the first BeginSync of a small file, once, and
// one that was replaced before that is not called.
func TestOnDisk(t *testing.T) {
	durable.OnSync(t, func(string) {})
	durable.OnDisk(func() { t.Error("called for a large file, or after it was replaced") })
	large := create(t, "large")
	large.Write(make([]byte, durable.MaxSmallFile))
	large.BeginSync()
	if err := errors.Join(large.Sync(), large.Close()); err != nil {
		t.Error(err)
	}
	calls := 0
	durable.OnDisk(func() { calls++ })
	f := create(t, "file")
	for range 2 {
		f.BeginSync()
		if err := f.Sync(); err != nil || calls != 1 {
			t.Errorf("called %d times, want once; %v", calls, err)
		}
	}
	f.Close()
}

// A disk that hangs does not delay files on another disk.
func TestHungDisk(t *testing.T) {
	release, reached := make(chan struct{}), make(chan struct{})
	durable.OnSync(t, func(name string) {
		if strings.HasSuffix(name, "hung") {
			reached <- struct{}{}
			<-release
		}
	})
	var hung []durable.File
	for i := range durable.MaxWorkers {
		f := create(t, strconv.Itoa(i)+".hung")
		f.BeginSync()
		<-reached
		hung = append(hung, f)
	}
	for range 2 {
		f, unwanted := create(t, "fine"), create(t, "unwanted")
		f.BeginSync()
		unwanted.BeginSync()
		if n := durable.QueueLength(); n != 2 {
			t.Errorf("%d syncs wait, want 2", n)
		}
		if err := errors.Join(f.Sync(), f.Close(), unwanted.Close()); err != nil {
			t.Error(err)
		}
		if n := durable.QueueLength(); n != 0 {
			t.Errorf("%d syncs wait for nobody", n)
		}
	}
	late := create(t, "late")
	late.BeginSync()
	close(release)
	for _, f := range append(hung, late) {
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Error(err)
		}
	}
}

func create(t *testing.T, name string) durable.File {
	t.Helper()
	f, err := durable.OS.OpenFile(filepath.Join(t.TempDir(), name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = io.WriteString(f, "hello")
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Sync returns the error of a sync that BeginSync began, each time.
func TestBeginSyncFails(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe") // which cannot be synced
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := durable.OS.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.BeginSync()
	for range 2 {
		if err := f.Sync(); !errors.Is(err, unix.EINVAL) {
			t.Errorf("Sync: %v", err)
		}
	}
	f.BeginSync()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestOS(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a")
	f, err := durable.OS.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(f, "hello")
	err = errors.Join(err, f.Sync(), f.Chmod(0o640), f.Truncate(4), f.Close(),
		durable.OS.Rename(name, name+"b"), durable.OS.SyncDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	info, err := durable.OS.Stat(name + "b")
	if err != nil || info.Size() != 4 || info.Mode() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
	if err := durable.OS.SyncDir(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("SyncDir of nothing: %v", err)
	}
	if f, err := durable.OS.OpenFile(name, os.O_RDONLY, 0); f != nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenFile of nothing: %v, %v", f, err)
	}
}
