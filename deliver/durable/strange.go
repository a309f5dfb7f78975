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
// Nobody can replace what is not strange. It is empty in any other folder; if nothing
// is there, the error is fs.ErrNotExist to errors.Is.
//
// Root may deliver to what is another's, but not by his links.
func Strange(path, kind string) (what string, err error) {
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil || dir.Mode()&fs.ModeSticky == 0 || dir.Mode()&0o022 == 0 {
		return "", nil
	}
	fi, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	owner, links := ownerOf(fi)
	mayOwn, _ := ownerOf(dir)
	link, me := fi.Mode()&fs.ModeSymlink != 0, os.Geteuid()
	if link {
		kind = "a link"
	}
	switch {
	case owner != 0 && owner != mayOwn && owner != me && (me != 0 || link):
		what = fmt.Sprintf("%s of another user, number %d,", kind, owner)
	case fi.Mode().IsRegular() && links > 1:
		what = kind + " that has another name, too,"
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
		dir, err := filepath.EvalSymlinks(folder)
		if err != nil {
			break
		}
		path = filepath.Join(dir, name)
		if strange, err := Strange(path, ""); err != nil || strange != "" {
			break
		}
		to, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			to = dir + "/" + to
		}
		path = to
	}
	return path
}

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
