package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
)

// freeSpace returns how many bytes of a file system are available to ordinary users, 0
// if there is no such file system.
func freeSpace(dir string) int64 {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0
	}
	return int64(fs.Bavail) * int64(fs.Bsize)
}

// makeWorkDir makes a folder with a new name that every user may enter.
func makeWorkDir(parent string) (string, error) {
	dir, err := os.MkdirTemp(parent, "bench-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// makeMaildir makes an empty Maildir.
func makeMaildir(dir string, owner int) error {
	for _, sub := range []string{"", "cur", "new", "tmp"} {
		if err := makeDir(filepath.Join(dir, sub), owner); err != nil {
			return err
		}
	}
	return nil
}

// makeDir makes a folder that only its owner may enter.
func makeDir(dir string, owner int) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return chownTo(dir, owner)
}

// chownTo changes the owner of path. Only root can do so; for other users it does
// nothing, since they own all the files already.
func chownTo(path string, owner int) error {
	if os.Getuid() != 0 {
		return nil
	}
	return os.Lchown(path, owner, owner)
}

func copyFile(to, from string, mode os.FileMode) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, mode)
}

func writeJSON(name string, v any) error {
	text, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(text, '\n'), 0o600)
}
