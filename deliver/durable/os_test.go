package durable_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// TestLarge writes what is synced on the way, more than once.
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

// TestBeginSync writes beside syncs that were begun, more of them than go on at
// once.
func TestBeginSync(t *testing.T) {
	dir := t.TempDir()
	var files []durable.File
	for i := range 100 {
		f, err := durable.OS.OpenFile(filepath.Join(dir, strconv.Itoa(i)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
		for range 3 {
			if _, err := io.WriteString(f, "hello"); err != nil {
				t.Fatal(err)
			}
			f.BeginSync()
		}
	}
	for i, f := range files {
		var err error
		if i%3 > 0 {
			_, err = f.WriteAt([]byte("H"), 0)
		}
		if i%3 > 1 {
			err = errors.Join(err, f.Truncate(5), f.Chmod(0o640))
		}
		if i%2 == 0 {
			err = errors.Join(err, f.Sync(), f.Sync())
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Error(err)
		}
	}
	want := []string{"hellohellohello", "Hellohellohello", "Hello"}
	for i, f := range files {
		if data, err := os.ReadFile(f.Name()); string(data) != want[i%3] {
			t.Errorf("file %d: %q, %v", i, data, err)
		}
	}
}

// An error of a sync that was begun is told, whenever Sync asks.
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
