package durable_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

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
