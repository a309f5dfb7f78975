package mbox

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// checkPath checks that path is an mbox, or missing from a directory that is
// there.
func (s *Sink) checkPath(path string) error {
	if err := s.checkOwner(path, nil); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fi, err := s.fs.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s.checkDir(filepath.Dir(path))
	}
	if err != nil {
		return s.osError("open", err)
	}
	if fi.IsDir() {
		return s.operatorError("open", syscall.EISDIR, "name a file in it, or use a maildir sink if it is a Maildir")
	}
	if !fi.Mode().IsRegular() {
		return s.operatorError("not a regular file", nil, "name an mbox file or one that does not exist yet")
	}
	file, err := s.fs.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return s.osError("open", err)
	}
	defer file.Close()
	head, err := s.readHead(file)
	// After a power cut the first message may be a hole that is still to be
	// filled from the spool.
	if err == nil && head != "" && head[0] != 0 {
		err = s.checkHead(head)
	}
	return err
}

// checkOwner refuses what another user put in the place of the mbox. The error may
// be fs.ErrNotExist to errors.Is if nothing is there, or not what is open.
func (s *Sink) checkOwner(path string, open fs.FileInfo) error {
	what, err := durable.Untrusted(path, "an mbox", open)
	if err != nil {
		return s.osError("open", err)
	}
	if what != "" {
		return s.operatorError(what, nil, durable.HintUntrusted(path))
	}
	return nil
}

// readHead returns the first bytes of an mbox, or all of a shorter file.
func (s *Sink) readHead(file durable.File) (string, error) {
	head := make([]byte, len(fromPrefix))
	n, err := file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", s.osError("read", err)
	}
	return string(head[:n]), nil
}

// checkHead refuses what is not empty and not an mbox. Part of "From " is the
// beginning of a message that is half there.
func (s *Sink) checkHead(head string) error {
	if strings.HasPrefix(fromPrefix, head) {
		return nil
	}
	return s.operatorError(`not an mbox: it does not begin with "From "`, nil, "name an mbox file, or move this one away")
}

func (s *Sink) checkDir(dir string) error {
	fi, err := s.fs.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return s.operatorError("open the directory", err, "create "+dir)
	}
	if err != nil {
		return s.osError("open the directory", err)
	}
	if !fi.IsDir() {
		return s.operatorError("open the directory", syscall.ENOTDIR, "name a file in a directory")
	}
	return nil
}

// missingNewlines returns how many newlines are missing at the end of the mbox, before
// the next From_ line: a program that died may have left it so.
func (b *box) missingNewlines() (int64, error) {
	head, err := b.sink.readHead(b.file)
	if err == nil {
		err = b.sink.checkHead(head)
	}
	if err != nil {
		return 0, err
	}
	tail := make([]byte, 2)
	at := max(b.size-2, 0)
	n, err := b.file.ReadAt(tail, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, b.sink.osError("read", err)
	}
	switch tail := string(tail[:n]); {
	case tail == "" || tail == "\n\n":
		return 0, nil
	case tail[len(tail)-1] == '\n':
		return 1, nil
	default:
		return 2, nil
	}
}
