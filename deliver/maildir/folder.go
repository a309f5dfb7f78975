package maildir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// folders are the directories in a Maildir. tmp/ is created last, so that an
// incomplete Maildir cannot be written to.
var folders = []string{"cur", "new", "tmp"}

// ensureMaildir makes sure that the Maildir exists and can be written to. The first
// time it also syncs the names of existing folders: an earlier process may have died
// before it did.
func (s *Sink) ensureMaildir() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked = s.checked && s.isUnchanged()
	if s.checked {
		return nil
	}
	if err := s.ensureFolder(s.root); err != nil {
		return err
	}
	if s.dir != s.root {
		if err := s.ensureFolder(s.dir); err != nil {
			return err
		}
		// This file says that the folder is not a Maildir of its own (Maildir++). If
		// it exists, it may belong to another user.
		marker := s.path("maildirfolder")
		if _, err := s.fs.Stat(marker); err != nil {
			if err := s.createEmptyFile(marker); err != nil {
				return err
			}
		}
	}
	if err := s.checkWritable(); err != nil {
		return err
	}
	s.checked = true
	return nil
}

// isUnchanged reports whether the folders are still there.
func (s *Sink) isUnchanged() bool {
	for _, sub := range folders {
		info, err := s.fs.Stat(s.path(sub))
		if err != nil || !info.IsDir() {
			return false
		}
	}
	return s.checkOwner(s.root) == nil
}

// requireCheck makes the next Begin check the Maildir as if it were the first.
func (s *Sink) requireCheck() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked = false
}

// ensureFolder creates what is missing of a Maildir or a folder of it, and makes its
// names durable.
func (s *Sink) ensureFolder(dir string) error {
	existed := true
	switch info, err := s.fs.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		existed = false
		if err := s.fs.Mkdir(dir, 0o700); errors.Is(err, fs.ErrNotExist) {
			return s.operatorError("create the Maildir", err, "create "+filepath.Dir(dir)+" first, or correct the path")
		} else if err != nil && !errors.Is(err, fs.ErrExist) {
			return s.osError("create the Maildir", err)
		}
	case err != nil:
		return s.osError("open the Maildir", err)
	case !info.IsDir():
		return s.operatorError("not a folder: "+dir, nil, "a Maildir is a folder; for a single file choose mbox")
	}
	if err := s.checkOwner(dir); err != nil {
		return err
	}
	if err := s.createSubfolders(dir); err != nil {
		return err
	}
	if err := s.fs.SyncDir(dir); err != nil {
		return s.osError("sync the Maildir", err)
	}
	// The parent directory may be unreadable, as the common directory of all users'
	// mail often is. It need not be synced if the Maildir existed before.
	err := s.fs.SyncDir(filepath.Dir(dir))
	if err != nil && !(existed && errors.Is(err, fs.ErrPermission)) {
		return s.osError("sync the folder of the Maildir", err)
	}
	return nil
}

// checkOwner returns an error if another user put the Maildir, or a link to it, into a
// directory such as /tmp.
func (s *Sink) checkOwner(dir string) error {
	path := durable.RealPath(dir)
	untrusted, err := durable.Untrusted(path, "a folder", nil)
	if err != nil {
		return s.osError("open the Maildir", err)
	}
	if untrusted != "" {
		return s.operatorError(untrusted, nil, durable.HintUntrusted(path))
	}
	return nil
}

// createSubfolders creates the folders that are missing in dir. It returns an error if
// dir has other files and none of the folders, and so is not a Maildir.
func (s *Sink) createSubfolders(dir string) error {
	var missing []string
	for _, sub := range folders {
		switch info, err := s.fs.Stat(filepath.Join(dir, sub)); {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, sub)
		case err != nil:
			return s.osError("open "+sub+"/", err)
		case !info.IsDir():
			return s.operatorError("not a Maildir: "+sub+" is a file", nil, "choose another path")
		}
	}
	if len(missing) == len(folders) {
		entries, err := s.fs.ReadDir(dir)
		if err != nil {
			return s.osError("list the Maildir", err)
		}
		if len(entries) > 0 {
			return s.operatorError("not a Maildir: it has other files, and no cur/, new/ and tmp/", nil,
				"choose a Maildir, an empty folder, or a path that does not exist yet")
		}
	}
	for _, sub := range missing {
		if err := s.fs.Mkdir(filepath.Join(dir, sub), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return s.osError("create "+sub+"/", err)
		}
	}
	return nil
}

func (s *Sink) createEmptyFile(name string) error {
	f, err := s.fs.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return s.osError("create a file", err)
	}
	if err := f.Close(); err != nil {
		return s.osError("create a file", err)
	}
	return nil
}

// checkWritable returns an error if no file can be created in tmp/.
func (s *Sink) checkWritable() error {
	name := s.filePath("tmp", s.newName(probeTag))
	if err := s.createEmptyFile(name); err != nil {
		return err
	}
	// A Sweep in another goroutine may have removed it.
	if err := s.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.osError("remove a file from tmp/", err)
	}
	return nil
}
