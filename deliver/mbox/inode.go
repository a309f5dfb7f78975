package mbox

import (
	"io/fs"
	"syscall"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// inode tells a file from another that later has its name. It is zero if the
// file system does not say.
type inode struct{ Dev, Ino uint64 }

func inodeOf(fi fs.FileInfo) inode {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}
	}
	return inode{Dev: uint64(st.Dev), Ino: uint64(st.Ino)}
}

// sameFile reports whether the name that a file was opened by still leads to
// it.
func sameFile(fsys durable.FS, file durable.File) bool {
	now, err := fsys.Stat(file.Name())
	if err != nil {
		return false
	}
	open, err := file.Stat()
	return err == nil && inodeOf(now) == inodeOf(open)
}
