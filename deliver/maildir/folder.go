package maildir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// folders are what makes a directory a Maildir. tmp/ is last: a Maildir whose
// creation was cut short is not mistaken for one that can be written to.
var folders = []string{"cur", "new", "tmp"}

// ensureMaildir makes sure that the Maildir is there and can be written to. The first
// time it also makes durable what is there: an earlier process may have died
// between creating the folders and syncing their names.
func (s *Sink) ensureMaildir() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.checked {
		for _, sub := range folders {
			info, err := s.fs.Stat(s.path(sub))
			s.checked = s.checked && err == nil && info.IsDir()
		}
		s.checked = s.checked && s.checkOwner(s.root) == nil
		if s.checked {
			return nil
		}
	}
	if err := s.ensureFolder(s.root); err != nil {
		return err
	}
	if s.dir != s.root {
		if err := s.ensureFolder(s.dir); err != nil {
			return err
		}
		// Maildir++ marks a folder, so that it is not taken for a Maildir of
		// its own. The mark of a folder that is there may be another user's.
		mark := s.path("maildirfolder")
		if _, err := s.fs.Stat(mark); err != nil {
			if err := s.createEmptyFile(mark); err != nil {
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

// requireCheck has the next Begin find out again whether the Maildir can be written to.
func (s *Sink) requireCheck() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked = false
}

// ensureFolder creates what is missing of a Maildir and makes its names durable.
func (s *Sink) ensureFolder(dir string) error {
	there := true
	switch info, err := s.fs.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		there = false
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
	// The folder above may well be unreadable, as the one of all users' mail
	// is. What was there before can do without.
	if err := s.fs.SyncDir(filepath.Dir(dir)); err != nil && !(there && errors.Is(err, fs.ErrPermission)) {
		return s.osError("sync the folder of the Maildir", err)
	}
	return nil
}

// checkOwner refuses what another user put in the place of the Maildir.
func (s *Sink) checkOwner(dir string) error {
	path := durable.RealPath(dir)
	strange, err := durable.Untrusted(path, "a folder", nil)
	if err != nil {
		return s.osError("open the Maildir", err)
	}
	if strange != "" {
		return s.operatorError(strange, nil, durable.HintUntrusted(path))
	}
	return nil
}

// createSubfolders creates those of the folders that dir lacks, unless dir is something
// else than a Maildir.
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

// checkWritable finds out whether a message could be written, before one is
// downloaded.
func (s *Sink) checkWritable() error {
	name := s.filePath("tmp", s.newName(probeTag))
	if err := s.createEmptyFile(name); err != nil {
		return err
	}
	if err := s.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // Sweep may have been faster
		return s.osError("remove a file from tmp/", err)
	}
	return nil
}
