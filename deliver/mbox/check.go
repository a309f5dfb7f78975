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

// checkPath returns an error unless path is an mbox or does not exist in an existing
// directory.
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
	// After a power cut the file may begin with NULs, which recoverAppends will replace.
	if err == nil && head != "" && head[0] != 0 {
		err = s.checkHead(head)
	}
	return err
}

// checkOwner returns an error if another user put the mbox, or a link to it, into a
// directory such as /tmp. There, the error is fs.ErrNotExist to errors.Is if path does
// not exist or is not the file that open describes.
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

// readHead returns as many octets of an mbox as "From " has, or all of a shorter file.
func (s *Sink) readHead(file durable.File) (string, error) {
	head := make([]byte, len(fromPrefix))
	n, err := file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", s.osError("read", err)
	}
	return string(head[:n]), nil
}

// checkHead returns an error if a file that begins with head is no mbox. An empty file is
// one, and so is part of "From ": the beginning of an incomplete message.
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

// missingNewlines returns how many newlines must be written before the next From_ line.
// They are missing if another program died while it appended.
func (b *lockedMbox) missingNewlines() (int64, error) {
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
