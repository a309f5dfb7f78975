package mbox_test

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
)

func wantFault(t *testing.T, what string, err error, fault deliver.Fault, hint string) {
	t.Helper()
	e, ok := errors.AsType[*deliver.Error](err)
	if !ok || e.Fault != fault || !strings.Contains(e.Hint, hint) {
		t.Errorf("%s: %#v, want fault %d and a hint of %q", what, err, fault, hint)
	}
}

// A file system without locks, as NFS without a lock daemon.
func TestNoLocks(t *testing.T) {
	for errno, fault := range map[syscall.Errno]deliver.Fault{
		syscall.ENOLCK: deliver.FaultOperator,
		syscall.EINVAL: deliver.FaultOperator,
		syscall.EIO:    deliver.FaultMachine,
	} {
		fsys := memory(t)
		fsys.OnOp(func(op durabletest.Op) error {
			if op.Verb == durabletest.Lock {
				return errno
			}
			return nil
		})
		hint := "disk"
		if fault == deliver.FaultOperator {
			hint = "NFS"
		}
		err := deliverAll(t.Context(), openSink(t, fsys, "/mail"), deliver.Mail{Account: "work"}, "x\r\n")
		wantFault(t, errno.Error(), err, fault, hint)
	}
}

// A file system in which files have no mode of their own, as FAT.
func TestNoModes(t *testing.T) {
	fsys := memory(t)
	fsys.OnOp(func(op durabletest.Op) error {
		if op.Verb == durabletest.Chmod {
			return syscall.EPERM
		}
		return nil
	})
	if err := deliverAll(t.Context(), openSink(t, fsys, "/mail"), deliver.Mail{Account: "work"}, "x\r\n"); err != nil {
		t.Error(err)
	}
}

// unknowable is a file system in which nothing but what is missing can be
// looked at.
type unknowable struct {
	durable.FS
	err error
}

func (u unknowable) Stat(name string) (fs.FileInfo, error) {
	fi, err := u.FS.Stat(name)
	if err == nil {
		err = u.err
	}
	return fi, err
}

// A directory is to be created only if it is missing.
func TestDirectory(t *testing.T) {
	for err, want := range map[error]struct {
		fault deliver.Fault
		hint  string
	}{
		syscall.ENOENT: {deliver.FaultOperator, "create /mail"},
		syscall.EACCES: {deliver.FaultOperator, "may write there"},
		syscall.EIO:    {deliver.FaultMachine, "is in order"},
	} {
		_, got := openSink(t, unknowable{memory(t), err}, "/mail").Begin(t.Context())
		wantFault(t, err.Error(), got, want.fault, want.hint)
	}
}
