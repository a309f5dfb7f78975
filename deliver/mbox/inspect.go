package mbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// inspect checks that path is an mbox, or missing from a directory that is
// there.
func (s *Sink) inspect(path string) error {
	if err := s.inspectOwner(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fi, err := s.fs.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s.inspectDir(filepath.Dir(path))
	}
	if err != nil {
		return s.fail("open", err)
	}
	if fi.IsDir() {
		return s.refuse("open", syscall.EISDIR, "name a file in it, or use a maildir sink if it is a Maildir")
	}
	if !fi.Mode().IsRegular() {
		return s.refuse("not a regular file", nil, "name an mbox file or one that does not exist yet")
	}
	file, err := s.fs.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return s.fail("open", err)
	}
	defer file.Close()
	head, err := s.head(file)
	// After a power cut the first message may be a hole that is still to be
	// filled from the spool.
	if err == nil && head != "" && head[0] != 0 {
		err = s.checkHead(head)
	}
	return err
}

// inspectOwner refuses what another user put in the place of the mbox, in a folder
// in which everybody may: he could read the mail or, by a link, have it written into
// any file of ours. The system knows which links not to follow there, but not that
// realPath does. If nothing is there, the error is fs.ErrNotExist to errors.Is.
func (s *Sink) inspectOwner(path string) error {
	dir := shared(path)
	if dir == nil {
		return nil
	}
	fi, err := os.Lstat(path)
	if err != nil {
		return s.fail("open", err)
	}
	what := ""
	switch alien := strange(fi, dir); {
	case alien && isLink(fi):
		what = fmt.Sprintf("a link of another user, number %d,", ownerOf(fi))
	case alien:
		what = fmt.Sprintf("an mbox of another user, number %d,", ownerOf(fi))
	case fi.Mode().IsRegular() && linksOf(fi) > 1:
		what = "an mbox that has another name, too,"
	default:
		return nil
	}
	return s.refuse(what+" in a folder where everybody may leave files", nil,
		"find out who put it there and why, and remove it or name another file")
}

// shared returns the folder of a file if everybody may leave files there, and
// nobody may remove those of others; else nil.
func shared(path string) fs.FileInfo {
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil || dir.Mode()&fs.ModeSticky == 0 || dir.Mode()&0o022 == 0 {
		return nil
	}
	return dir
}

// strange reports whether what is in a shared folder is another user's. Root may
// deliver to the mboxes of others.
func strange(fi, dir fs.FileInfo) bool {
	if dir == nil {
		return false
	}
	owner, me := ownerOf(fi), os.Geteuid()
	return owner != 0 && owner != ownerOf(dir) && owner != me && (me != 0 || isLink(fi))
}

func isLink(fi fs.FileInfo) bool { return fi.Mode()&fs.ModeSymlink != 0 }

// head returns the first bytes of an mbox, or all of a shorter file.
func (s *Sink) head(file durable.File) (string, error) {
	head := make([]byte, len(from))
	n, err := file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", s.fail("read", err)
	}
	return string(head[:n]), nil
}

// checkHead refuses what is not empty and not an mbox. Part of "From " is the
// beginning of a message that is half there.
func (s *Sink) checkHead(head string) error {
	if strings.HasPrefix(from, head) {
		return nil
	}
	return s.refuse(`not an mbox: it does not begin with "From "`, nil, "name an mbox file, or move this one away")
}

func (s *Sink) inspectDir(dir string) error {
	fi, err := s.fs.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return s.refuse("open the directory", err, "create "+dir)
	}
	if err != nil {
		return s.fail("open the directory", err)
	}
	if !fi.IsDir() {
		return s.refuse("open the directory", syscall.ENOTDIR, "name a file in a directory")
	}
	return nil
}

// lead returns how many newlines are missing at the end of the mbox, before
// the next From_ line: a program that died may have left it so.
func (b *box) lead() (int64, error) {
	head, err := b.sink.head(b.file)
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
		return 0, b.sink.fail("read", err)
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
