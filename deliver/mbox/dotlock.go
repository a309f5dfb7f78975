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

// A dotlock is the file <mbox>.lock: while it exists, other mail programs do not touch
// the mbox. The process that holds ours also has an fcntl lock on it. So a lock file
// that a dead process has left can be recognised without process ids, which are used
// again. Such a file is taken over, and not removed and created again, so that two
// processes which find it cannot remove each other's file.
type dotlock struct {
	fs   durable.FS
	file durable.File
	// takenOver says that another process has left the file: the message at the end
	// of the mbox may be incomplete.
	takenOver bool
}

// dotlockMode identifies a lock file as ours, even if its creator died before it wrote
// anything into it. No other mail program makes its lock file executable.
const dotlockMode = 0o700

// heldError says that another program holds a lock. file is the lock file that a person
// may remove if that program does not run any more. It is empty if that is not needed.
type heldError struct{ by, file string }

func (e *heldError) Error() string { return "locked by " + e.by }

// owner identifies the process that holds a dotlock. It is the content of the file.
type owner struct {
	pid        int
	host, boot string
	// batch is the spool.Base of the spool file that the process delivers. It is
	// empty if the file was written by an older version.
	batch string
}

// The batch is on a separate line, which older versions do not read.
const (
	ownerFormat = "mailhaul pid %d host %q boot %q\n"
	batchFormat = "batch %q\n"
)

func currentOwner(host string) owner {
	if host == "" {
		host, _ = os.Hostname()
	}
	// The boot id changes with each boot of the machine. Not all systems have it.
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return owner{pid: os.Getpid(), host: host, boot: strings.TrimSpace(string(boot))}
}

// sameMachine reports whether two processes run on the same machine and so see each
// other's locks. Containers on one machine have different names and the same boot id.
func (o owner) sameMachine(other owner) bool {
	return o.host == other.host || o.boot != "" && o.boot == other.boot
}

// canSeeLocksOf reports whether we would see a lock of the holder's process: it ran on
// this machine, or its batch is in our spool. The spool is on a disk of this machine,
// even if the machine had another name and boot id when the holder died, as happens
// with a new container after a power cut. Names in the spool are random, so that no
// other machine has the same file.
func (s *Sink) canSeeLocksOf(holder owner) bool {
	return s.self.sameMachine(holder) || s.spool.HasBase(holder.batch)
}

// takeDotlock creates or takes over the dotlock of the mbox at path. batch is for
// owner.batch and may be empty. The error is a *heldError if another program holds the
// dotlock. If we may not create files in the directory, takeDotlock returns nil: the
// lock on the mbox itself must be enough then.
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

// openDotlock opens an existing lock file. If it is not ours, the error is a *heldError.
func (s *Sink) openDotlock(name string) (durable.File, error) {
	fi, err := s.fs.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		// If that does not change, it is a link to a file that does not exist.
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

// openForeign opens a lock file that another user may have created. It does not wait if
// the file is a pipe, and does not follow a link, which could lead to any file of ours.
// For a link the error is ELOOP, or EMLINK on FreeBSD.
func (s *Sink) openForeign(name string, flag int) (durable.File, error) {
	return s.fs.OpenFile(name, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
}

// hasOwnerLine reports whether a lock file has the content of ours. On file systems where
// all files have the same mode, such as CIFS and FAT, dotlockMode does not identify it.
func (s *Sink) hasOwnerLine(name string) bool {
	file, err := s.openForeign(name, os.O_RDONLY)
	if err != nil {
		return false
	}
	defer file.Close()
	o, _, err := readOwner(file)
	return err == nil && o != owner{}
}

// foreignPID returns " (process 123)" if the lock file of another program begins with a
// process id, as that of most programs does; else it returns "".
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

// claim locks the lock file and writes the owner line. If a living process may hold the
// file, the error is a *heldError.
func (s *Sink) claim(d *dotlock, batch string) error {
	holder, content, err := readOwner(d.file)
	if err != nil {
		return err
	}
	// Another process may have taken the file over since we created it. Whoever has
	// the fcntl lock holds the dotlock.
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
		// It may be alive on another machine.
		return &heldError{describeOwner(holder) + ", by " + d.file.Name(), d.file.Name()}
	}
	if err := d.file.Truncate(0); err != nil {
		return err
	}
	// Without a batch of our own, keep that of the dead holder: we may die as well.
	batch = cmp.Or(batch, holder.batch)
	text := fmt.Appendf(nil, ownerFormat, s.self.pid, s.self.host, s.self.boot)
	_, err = d.file.WriteAt(fmt.Appendf(text, batchFormat, batch), 0)
	return err
}

// readOwner reads the owner from a lock file, and returns the whole content as well. The
// owner is zero if the file does not begin with an owner line.
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

// isTornOwnerLine reports whether content may be an owner line that a crash has cut.
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

// removeFile removes the lock file, unless another program has replaced it.
func (d *dotlock) removeFile() {
	if sameFile(d.fs, d.file) {
		// After an error, the next process takes the file over. The directory is synced
		// so that a power cut does not bring the file back, which would keep readers out
		// until there is new mail.
		_ = d.fs.Remove(d.file.Name())
		_ = d.fs.SyncDir(filepath.Dir(d.file.Name()))
	}
	_ = d.file.Close()
}

// keepFile releases the fcntl lock and leaves the lock file, as a crash would. The next
// process takes it over; until then it keeps readers out.
func (d *dotlock) keepFile() { _ = d.file.Close() }
