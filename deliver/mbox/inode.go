package mbox

import (
	"io/fs"
	"syscall"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// inode identifies a file, whatever its name is. It is zero if the file system has no
// inode numbers.
type inode struct{ Dev, Ino uint64 }

func inodeOf(fi fs.FileInfo) inode {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}
	}
	return inode{Dev: uint64(st.Dev), Ino: uint64(st.Ino)}
}

// sameFile reports whether the name by which a file was opened still belongs to it.
func sameFile(fsys durable.FS, file durable.File) bool {
	now, err := fsys.Stat(file.Name())
	if err != nil {
		return false
	}
	open, err := file.Stat()
	return err == nil && inodeOf(now) == inodeOf(open)
}
