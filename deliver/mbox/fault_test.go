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

// wantFault checks the fault of an error and a part of its hint. The error is that of the
// operation what.
func wantFault(t *testing.T, what string, err error, fault deliver.Fault, hint string) {
	t.Helper()
	e, ok := errors.AsType[*deliver.Error](err)
	if !ok || e.Fault != fault || !strings.Contains(e.Hint, hint) {
		t.Errorf("%s: %#v, want fault %d and a hint of %q", what, err, fault, hint)
	}
}

// Delivery to a file system without locks, such as NFS without a lock daemon, is refused.
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

// On a file system without file modes, such as FAT, messages are delivered all the same.
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

// statFails is a file system on which Stat of what exists fails.
type statFails struct {
	durable.FS
	err error
}

func (s statFails) Stat(name string) (fs.FileInfo, error) {
	fi, err := s.FS.Stat(name)
	if err == nil {
		err = s.err
	}
	return fi, err
}

// If Begin cannot examine the directory of the mbox, the hint depends on the error: only a
// missing directory is to be created.
func TestDirectoryErrors(t *testing.T) {
	for err, want := range map[error]struct {
		fault deliver.Fault
		hint  string
	}{
		syscall.ENOENT: {deliver.FaultOperator, "create /mail"},
		syscall.EACCES: {deliver.FaultOperator, "may write there"},
		syscall.EIO:    {deliver.FaultMachine, "is in order"},
	} {
		_, got := openSink(t, statFails{memory(t), err}, "/mail").Begin(t.Context())
		wantFault(t, err.Error(), got, want.fault, want.hint)
	}
}
