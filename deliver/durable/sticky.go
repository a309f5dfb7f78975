package durable

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Untrusted says why mail must not be written to path: it is in a directory such as
// /tmp, with the sticky bit and writable by others, and another user put there what
// is at path. That user could read or remove the mail or, by a link, choose where it
// is written. (The kernel's own protection, protected_symlinks, does not help after
// RealPath.) what is empty if path can be trusted, as in every other directory. kind
// names in it what should be there: "an mbox".
//
// open, unless it is nil, describes the file that the caller has opened by that path.
// The error is fs.ErrNotExist to errors.Is if nothing is at path, or another file
// than open.
//
// Root may deliver to a file of another user, but not through a link of one.
func Untrusted(path, kind string, open fs.FileInfo) (what string, err error) {
	dir := stickyDir(path)
	if dir == nil {
		return "", nil
	}
	fi, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	owner, links := ownerOf(fi)
	if isLink(fi) {
		kind = "a link"
	}
	switch {
	case isForeign(fi, dir):
		what = fmt.Sprintf("%s of another user, number %d,", kind, owner)
	case fi.Mode().IsRegular() && links > 1:
		what = kind + " that has another name, too,"
	case open != nil && !isLink(fi) && !os.SameFile(open, fi):
		return "", fs.ErrNotExist
	default:
		return "", nil
	}
	return what + " in a folder where everybody may leave files", nil
}

// RealPath resolves the symbolic links in path, as mail programs do before they lock
// a file. It does not follow a link that is Untrusted. Nothing needs to exist at the
// end of the path; if a directory is missing, the rest of the path stays as it is.
func RealPath(path string) string {
	for range 40 { // the kernel allows as many
		folder, name := filepath.Split(path)
		parent, err := filepath.EvalSymlinks(folder)
		if err != nil {
			break
		}
		path = filepath.Join(parent, name)
		fi, err := os.Lstat(path)
		if err != nil || !isLink(fi) {
			break
		}
		if dir := stickyDir(path); dir != nil && isForeign(fi, dir) {
			break
		}
		to, err := os.Readlink(path) // no other user can have replaced it since Lstat
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			to = parent + "/" + to
		}
		path = to
	}
	return path
}

// stickyDir describes the directory of a file if it has the sticky bit and is writable
// for the group or for others; else it returns nil.
func stickyDir(path string) fs.FileInfo {
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil || dir.Mode()&fs.ModeSticky == 0 || dir.Mode()&0o022 == 0 {
		return nil
	}
	return dir
}

// isForeign reports whether a file in a sticky directory belongs to another user than
// root, the owner of the directory and ourselves. To root only links are foreign.
func isForeign(fi, dir fs.FileInfo) bool {
	owner, _ := ownerOf(fi)
	dirOwner, _ := ownerOf(dir)
	me := os.Geteuid()
	if me == 0 && !isLink(fi) {
		return false
	}
	return owner != 0 && owner != dirOwner && owner != me
}

func isLink(fi fs.FileInfo) bool { return fi.Mode()&fs.ModeSymlink != 0 }

// HintUntrusted is what the user can do about a path that is Untrusted.
func HintUntrusted(path string) string {
	return "find out who put " + path + " there and why, and remove it or name another place"
}

// ownerOf returns the user id of the owner of a file, and its number of hard links.
func ownerOf(fi fs.FileInfo) (user int, links uint64) {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid), uint64(st.Nlink)
	}
	return os.Geteuid(), 1
}
