package mbox

import (
	"bytes"
	"cmp"
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

// A dotlock is the file <mbox>.lock: while it is there, other mail programs
// leave the mbox alone. Ours is in addition locked by the process that holds
// it, so that one that was left by a dead process can be told from one that
// is held, without process numbers, which are used again. A dead one is not
// removed and created anew but taken over, so that two processes that find it
// cannot remove each other's.
type dotlock struct {
	fs   durable.FS
	file durable.File
	// inherited is set if a process before this one left the file: the mbox
	// may have a message at its end that is half there.
	takenOver bool
}

// dotlockMode marks a lock file as ours from the moment it exists, so that one
// whose creator died before it wrote a byte is not held for another program's.
// No mail program makes its lock file executable.
const dotlockMode = 0o700

// heldError says that somebody else holds a lock. file is the lock file that a
// person may remove if that somebody is gone; empty if the system does it.
type heldError struct{ by, file string }

func (e *heldError) Error() string { return "locked by " + e.by }

// owner tells who holds a dotlock. It is the content of the file.
type owner struct {
	pid        int
	host, boot string
	// batch is what the holder delivers, as its spool calls it; empty if it does
	// not say, as former versions do not.
	batch string
}

// The batch has a line of its own, which former versions do not read.
const (
	ownerFormat = "mailhaul pid %d host %q boot %q\n"
	batchFormat = "batch %q\n"
)

func currentOwner(host string) owner {
	if host == "" {
		host, _ = os.Hostname()
	}
	// It changes with each boot of the machine, and is missing on some systems.
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return owner{pid: os.Getpid(), host: host, boot: strings.TrimSpace(string(boot))}
}

// sameMachine reports whether locks of o's process can be seen from here.
// Containers of one machine have different names but share the boot.
func (o owner) sameMachine(other owner) bool {
	return o.host == other.host || o.boot != "" && o.boot == other.boot
}

// canSeeLocksOf reports whether locks of a holder's process can be seen from here: if it
// is on this machine, or its batch is in our spool. The spool is on a disk of this
// machine, whatever that was called when the holder died: a new container has
// another name, and another boot after a power cut. Names in the spool are random,
// so that no other machine has such a file.
func (s *Sink) canSeeLocksOf(holder owner) bool {
	return s.self.sameMachine(holder) || s.spool.HasBase(holder.batch)
}

// takeDotlock creates or takes over the dotlock of the mbox at path, for a batch if
// that is not empty. It returns a *heldError if somebody else has it, and nil if
// the directory may not be written by us: there the lock on the mbox itself must
// do.
func (s *Sink) takeDotlock(path, batch string) (*dotlock, error) {
	name := path + ".lock"
	file, err := s.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, dotlockMode)
	d := &dotlock{fs: s.fs, file: file}
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return nil, nil
	case errors.Is(err, fs.ErrExist):
		if d.file, err = s.openDotlock(name); err != nil {
			return nil, err
		}
		d.takenOver = true
	case err != nil:
		return nil, err
	}
	if err := s.claim(d, batch); err != nil {
		if _, held := errors.AsType[*heldError](err); held || d.takenOver {
			d.keepFile()
		} else {
			d.removeFile()
		}
		return nil, err
	}
	return d, nil
}

// openDotlock opens a lock file of ours that is there.
func (s *Sink) openDotlock(name string) (durable.File, error) {
	fi, err := s.fs.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		// If that is so for long, it is a link to nowhere.
		return nil, &heldError{"another program, by " + name, name}
	}
	if err != nil {
		return nil, err
	}
	if fi.Mode() != dotlockMode && !s.hasOwnerLine(name) {
		return nil, &heldError{"another program, by " + name + s.foreignPID(name), name}
	}
	file, err := s.openForeign(name, os.O_RDWR)
	for _, other := range []error{fs.ErrNotExist, fs.ErrPermission, syscall.ELOOP, syscall.EMLINK} {
		if errors.Is(err, other) {
			return nil, &heldError{"another program, by " + name, name}
		}
	}
	return file, err
}

// openForeign opens a lock file that may be another's. Where others may write, it
// can be a pipe, which must not be waited for, or a link to any file of ours, which
// is ELOOP, or EMLINK on FreeBSD.
func (s *Sink) openForeign(name string, flag int) (durable.File, error) {
	return s.fs.OpenFile(name, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
}

// hasOwnerLine reports whether a lock file says that it is ours. Where all files have the
// same mode, as on CIFS and FAT, that is the only way to tell.
func (s *Sink) hasOwnerLine(name string) bool {
	file, err := s.openForeign(name, os.O_RDONLY)
	if err != nil {
		return false
	}
	defer file.Close()
	o, _, err := readOwner(file)
	return err == nil && o != owner{}
}

// foreignPID reads the process number that most programs write first into
// their lock file.
func (s *Sink) foreignPID(name string) string {
	file, err := s.openForeign(name, os.O_RDONLY)
	if err != nil {
		return ""
	}
	defer file.Close()
	var pid int
	// A pipe has no beginning to read from.
	if _, err := fmt.Fscan(io.NewSectionReader(file, 0, 64), &pid); err != nil || pid <= 0 {
		return ""
	}
	return fmt.Sprintf(" (process %d)", pid)
}

// claim makes the lock file ours, if it is no living process's.
func (s *Sink) claim(d *dotlock, batch string) error {
	holder, content, err := readOwner(d.file)
	if err != nil {
		return err
	}
	// Between its creation and this lock another process may have taken the
	// file over, so that who has the lock has the file, whoever created it.
	if err := d.file.TryLock(); errors.Is(err, durable.ErrLocked) {
		return &heldError{by: describeOwner(holder)}
	} else if err != nil {
		return err
	}
	if !sameFile(d.fs, d.file) {
		return &heldError{by: "a program that has just let go"}
	}
	switch {
	case holder == owner{} && !isTornOwnerLine(content):
		return &heldError{"another program, by " + d.file.Name(), d.file.Name()}
	case holder != owner{} && !s.canSeeLocksOf(holder):
		// It may be alive, where its lock cannot be seen from here.
		return &heldError{describeOwner(holder) + ", by " + d.file.Name(), d.file.Name()}
	}
	if err := d.file.Truncate(0); err != nil {
		return err
	}
	// Who only looks after a dead holder's batch may die over it, too.
	batch = cmp.Or(batch, holder.batch)
	text := fmt.Appendf(nil, ownerFormat, s.self.pid, s.self.host, s.self.boot)
	_, err = d.file.WriteAt(fmt.Appendf(text, batchFormat, batch), 0)
	return err
}

// readOwner returns who a lock file says has it; a crash may have left it empty.
func readOwner(file durable.File) (owner, []byte, error) {
	content := make([]byte, 1024)
	n, err := file.ReadAt(content, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return owner{}, nil, err
	}
	var o owner
	r := bytes.NewReader(content[:n])
	if _, err := fmt.Fscanf(r, ownerFormat, &o.pid, &o.host, &o.boot); err != nil {
		o = owner{}
	} else if _, err := fmt.Fscanf(r, batchFormat, &o.batch); err != nil {
		o.batch = ""
	}
	return o, content[:n], nil
}

// isTornOwnerLine reports whether content is what a crash may have left of ours.
func isTornOwnerLine(content []byte) bool {
	s := strings.TrimRight(string(content), "\x00")
	word, _, _ := strings.Cut(ownerFormat, "%")
	return strings.HasPrefix(s, word) || strings.HasPrefix(word, s)
}

func describeOwner(o owner) string {
	if o == (owner{}) {
		return "another mailhaul"
	}
	return fmt.Sprintf("another mailhaul, process %d on %s", o.pid, o.host)
}

// removeFile removes the lock file, unless it was taken from us.
func (d *dotlock) removeFile() {
	if sameFile(d.fs, d.file) {
		// If it stays, the next process takes it over. That may be long in
		// coming: a power cut must not bring the file back after a poll that
		// ended well, to keep readers out until there is new mail.
		_ = d.fs.Remove(d.file.Name())
		_ = d.fs.SyncDir(filepath.Dir(d.file.Name()))
	}
	_ = d.file.Close()
}

// keepFile lets go of the lock file but keeps it there, as a crash would: the
// next process takes it over, and no reader comes in before.
func (d *dotlock) keepFile() { _ = d.file.Close() }
