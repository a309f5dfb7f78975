package durable

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Strange says what another user put at path, in a folder where everybody may leave
// files and nobody remove those of others, in the place of what kind names: "an mbox".
// He could read the mail or remove it or, by a link, have it written where he wants.
// The system knows which links not to follow there, but not who has resolved one before.
// It is empty in any other folder. If nothing is there, or open, unless it is nil, is
// no longer the file that is, the error is fs.ErrNotExist to errors.Is.
//
// Root may deliver to what is another's, but not by his links.
func Strange(path, kind string, open fs.FileInfo) (what string, err error) {
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

// RealPath follows symbolic links, as mail programs do before they lock, but none
// that is Strange. What it is the path of may be missing.
func RealPath(path string) string {
	for range 40 { // more are ELOOP
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
		to, err := os.Readlink(path) // no stranger can have replaced it
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

// stickyDir returns the folder of a file if everybody may leave files there, and nobody
// may remove those of others; else nil.
func stickyDir(path string) fs.FileInfo {
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil || dir.Mode()&fs.ModeSticky == 0 || dir.Mode()&0o022 == 0 {
		return nil
	}
	return dir
}

// isForeign reports whether a file in a shared folder is another user's.
func isForeign(fi, dir fs.FileInfo) bool {
	owner, _ := ownerOf(fi)
	mayOwn, _ := ownerOf(dir)
	me := os.Geteuid()
	return owner != 0 && owner != mayOwn && owner != me && (me != 0 || isLink(fi))
}

func isLink(fi fs.FileInfo) bool { return fi.Mode()&fs.ModeSymlink != 0 }

// HintStrange is what the user can do about what is Strange at path.
func HintStrange(path string) string {
	return "find out who put " + path + " there and why, and remove it or name another place"
}

// ownerOf returns the number of the user whose file it is, and how many names it has.
func ownerOf(fi fs.FileInfo) (user int, links uint64) {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid), uint64(st.Nlink)
	}
	return os.Geteuid(), 1
}
