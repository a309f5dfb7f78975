//go:build linux && amd64

package crashtest

import "golang.org/x/sys/unix"

// calls are the system calls that change what another process, the disk or the server can
// see. At each of them the program is killed.
var calls = map[uint64]string{
	unix.SYS_WRITE: "write", unix.SYS_WRITEV: "writev", unix.SYS_PWRITE64: "pwrite64", unix.SYS_PWRITEV: "pwritev",
	unix.SYS_SENDTO: "sendto", unix.SYS_SENDMSG: "sendmsg", unix.SYS_CONNECT: "connect",
	unix.SYS_COPY_FILE_RANGE: "copy_file_range", unix.SYS_SENDFILE: "sendfile", unix.SYS_SPLICE: "splice",
	unix.SYS_FSYNC: "fsync", unix.SYS_FDATASYNC: "fdatasync", unix.SYS_SYNC_FILE_RANGE: "sync_file_range",
	unix.SYS_SYNCFS: "syncfs", unix.SYS_MSYNC: "msync",
	unix.SYS_RENAME: "rename", unix.SYS_RENAMEAT: "renameat", unix.SYS_RENAMEAT2: "renameat2",
	unix.SYS_LINK: "link", unix.SYS_LINKAT: "linkat", unix.SYS_SYMLINK: "symlink", unix.SYS_SYMLINKAT: "symlinkat",
	unix.SYS_UNLINK: "unlink", unix.SYS_UNLINKAT: "unlinkat", unix.SYS_RMDIR: "rmdir",
	unix.SYS_MKDIR: "mkdir", unix.SYS_MKDIRAT: "mkdirat",
	unix.SYS_TRUNCATE: "truncate", unix.SYS_FTRUNCATE: "ftruncate", unix.SYS_FALLOCATE: "fallocate",
	unix.SYS_CHMOD: "chmod", unix.SYS_FCHMOD: "fchmod", unix.SYS_FCHMODAT: "fchmodat",
	unix.SYS_FLOCK: "flock", unix.SYS_FCNTL: "fcntl", unix.SYS_CREAT: "creat",
	unix.SYS_OPEN: "open", unix.SYS_OPENAT: "openat",
}

// call is a system call that a process is about to make.
type call struct {
	number uint64
	args   [6]uint64
}

// isKillPoint reports whether the program is killed at c. Calls that open or lock count
// only if they create, empty or lock a file.
func (c call) isKillPoint() bool {
	const creates = unix.O_CREAT | unix.O_TRUNC
	switch c.number {
	case unix.SYS_OPEN:
		return c.args[1]&creates != 0
	case unix.SYS_OPENAT:
		return c.args[2]&creates != 0
	case unix.SYS_FCNTL:
		switch c.args[1] {
		case unix.F_SETLK, unix.F_SETLKW, unix.F_OFD_SETLK, unix.F_OFD_SETLKW:
			return true
		}
		return false
	}
	return calls[c.number] != ""
}

// size returns how many bytes c writes, or 0 if it is not a call that can end half done.
func (c call) size() uint64 {
	switch c.number {
	case unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_SENDTO:
		return c.args[2]
	}
	return 0
}
