// Package durabletest is a file system in memory on which a test can fail any
// operation, kill the program before it, or cut the power.
//
// The model is a POSIX file system with a page cache and a directory cache.
// What a program wrote, created, renamed or removed is there for every program
// at once. It is on the disk only after File.Sync, which makes the content and
// the size of one file durable, or SyncDir, which makes the names in one
// directory durable. File.Sync does not sync the name of the file, and SyncDir
// does not sync the content of files.
//
// A kill keeps the caches and drops the locks. A power cut keeps, of all that
// was not synced, any part:
//
//   - Each name in a directory goes back to any of the states it had since
//     that directory was last synced, independently of other names. Only the two
//     names of a rename depend on each other: the old name does not disappear
//     before the new one is there. Within a directory a cut leaves the old name or
//     the new one; across directories it leaves the old one, the new one, or both.
//     The old name is gone for good only when both directories were synced, the new
//     one first.
//   - The content of each file is that of its last Sync (nothing, if there was
//     none), or what was written since, or the first half of what was written
//     over the content of the last Sync, or what was written with its second
//     half or all of it zero, as when the size reached the disk before the
//     data.
//
// After a Sync that failed, nothing of that file becomes durable any more, although
// later calls of Sync succeed: Linux behaves so. Permissions and times are not
// subject to power cuts. There are no symbolic links; relative names start at the
// root.
//
// fs.go and file.go hold the operations, op.go the hooks by which a test interferes,
// crash.go the kill and the power cut, inode.go and tree.go the data.
package durabletest

import (
	"cmp"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// FS is the file system as one process sees it. It implements durable.FS. New
// creates one.
type FS struct {
	mu      sync.Mutex
	root    *inode
	pending []*event // changes of names that are not durable, oldest first
	open    map[*file]struct{}
	inodes  uint64 // the number that the last inode was given
	hooks   []func(Op) error
	ops     int  // operations so far
	dead    bool // the process was killed
}

var _ durable.FS = (*FS)(nil)

// New returns a file system with an empty root directory.
func New() *FS {
	f := &FS{open: make(map[*file]struct{})}
	f.root = f.newInode(fs.ModeDir | 0o700)
	return f
}

// event is a change of one name in one directory.
type event struct {
	dir  *inode
	name string
	to   *inode // nil if the name was removed
	// needs is a change that must reach the disk before this one or together with
	// it; nil if there is none.
	needs   *event
	durable bool
}

// OpenFile implements durable.FS.
func (f *FS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	verb := Open
	if _, err := f.Stat(name); err != nil && flag&os.O_CREATE != 0 {
		verb = Create
	}
	effect, err := f.runHooks(Op{Verb: verb, Path: name})
	if err != nil {
		return nil, pathError("open", name, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	dir, base, n, err := f.walk(name)
	switch {
	case err != nil:
	case n == nil && flag&os.O_CREATE == 0:
		err = syscall.ENOENT
	case n == nil:
		n = f.newInode(perm.Perm())
		if effect {
			f.link(dir, base, n, nil)
		}
	case flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		err = syscall.EEXIST
	case n.isDir() && flag&(os.O_WRONLY|os.O_RDWR|os.O_CREATE|os.O_TRUNC) != 0:
		err = syscall.EISDIR
	case flag&os.O_TRUNC != 0:
		n.truncate(0)
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	h := &file{fs: f, n: n, name: name, flag: flag}
	f.open[h] = struct{}{}
	return h, nil
}

// Rename implements durable.FS.
func (f *FS) Rename(oldname, newname string) error {
	fail := func(err error) error {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
	effect, err := f.runHooks(Op{Verb: Rename, Path: oldname, To: newname})
	if err != nil {
		return fail(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	from, oldbase, n, err := f.walk(oldname)
	if err != nil {
		return fail(err)
	}
	to, newbase, was, err := f.walk(newname)
	switch {
	case err != nil:
		return fail(err)
	case n == nil:
		return fail(syscall.ENOENT)
	case n.isDir() && was != n && n.contains(to):
		return fail(syscall.EINVAL)
	case was == n:
		return nil // rename(2): two names of one file are both left
	case was != nil && was.isDir() && (was.contains(from) || n.isDir() && len(was.names) > 0):
		return fail(syscall.ENOTEMPTY)
	case was != nil && was.isDir() && !n.isDir():
		return fail(syscall.EISDIR)
	case was != nil && !was.isDir() && n.isDir():
		return fail(syscall.ENOTDIR)
	case !effect:
		return nil
	}
	add := f.link(to, newbase, n, nil)
	gone := f.link(from, oldbase, nil, add)
	if from == to {
		add.needs = gone
	}
	return nil
}

// Remove implements durable.FS.
func (f *FS) Remove(name string) error {
	effect, err := f.runHooks(Op{Verb: Remove, Path: name})
	if err != nil {
		return pathError("remove", name, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	dir, base, n, err := f.walk(name)
	switch {
	case err != nil:
	case n == nil:
		err = syscall.ENOENT
	case n.isDir() && len(n.names) > 0:
		err = syscall.ENOTEMPTY
	case effect:
		f.link(dir, base, nil, nil)
	}
	return pathError("remove", name, err)
}

// Mkdir implements durable.FS.
func (f *FS) Mkdir(name string, perm fs.FileMode) error {
	effect, err := f.runHooks(Op{Verb: Mkdir, Path: name})
	if err != nil {
		return pathError("mkdir", name, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	dir, base, n, err := f.walk(name)
	switch {
	case err != nil:
	case n != nil:
		err = syscall.EEXIST
	case effect:
		f.link(dir, base, f.newInode(fs.ModeDir|perm.Perm()), nil)
	}
	return pathError("mkdir", name, err)
}

// Stat implements durable.FS. Sys of its result is a *syscall.Stat_t in which only
// Ino is set.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find(name)
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return n.info(filepath.Base(name)), nil
}

// ReadDir implements durable.FS.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find(name)
	if err == nil && !n.isDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	var list []fs.DirEntry
	for base, child := range sorted(n.names) {
		list = append(list, fs.FileInfoToDirEntry(child.info(base)))
	}
	return list, nil
}

// SyncDir implements durable.FS.
func (f *FS) SyncDir(name string) error {
	effect, err := f.runHooks(Op{Verb: SyncDir, Path: name})
	if err != nil {
		return pathError("sync", name, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find(name)
	if err != nil || !effect {
		return pathError("sync", name, err)
	}
	held := make(map[string]bool) // names with a change that cannot be synced yet
	f.pending = slices.DeleteFunc(f.pending, func(e *event) bool {
		if e.dir != n {
			return false
		}
		needs := e.needs
		if held[e.name] || needs != nil && !needs.durable && (needs.dir != n || held[needs.name]) {
			held[e.name] = true
			return false
		}
		setName(n.disk, e.name, e.to)
		e.durable = true
		return true
	})
	return nil
}

// OpenFiles lists the files that are open, by the names they were opened by.
func (f *FS) OpenFiles() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for h := range f.open {
		list = append(list, h.name)
	}
	slices.Sort(list)
	return list
}

// link makes a name in dir stand for another inode, or for none if to is nil, and
// records that this is not durable yet.
func (f *FS) link(dir *inode, name string, to *inode, needs *event) *event {
	setName(dir.names, name, to)
	e := &event{dir: dir, name: name, to: to, needs: needs}
	f.pending = append(f.pending, e)
	return e
}

// walk returns the directory that a name is in, and the inode of the name; n is nil
// if there is none.
func (f *FS) walk(name string) (dir *inode, base string, n *inode, err error) {
	if f.dead {
		return nil, "", nil, ErrCrashed
	}
	name = strings.TrimPrefix(filepath.Clean("/"+name), "/")
	if name == "" {
		return f.root, "", f.root, nil
	}
	dir = f.root
	for {
		base, rest, more := strings.Cut(name, "/")
		n := dir.names[base]
		if !more {
			return dir, base, n, nil
		}
		if n == nil {
			return nil, "", nil, syscall.ENOENT
		}
		if !n.isDir() {
			return nil, "", nil, syscall.ENOTDIR
		}
		dir, name = n, rest
	}
}

func (f *FS) find(name string) (*inode, error) {
	_, _, n, err := f.walk(name)
	if err == nil && n == nil {
		err = syscall.ENOENT
	}
	return n, err
}

func setName(names map[string]*inode, name string, to *inode) {
	if to == nil {
		delete(names, name)
	} else {
		names[name] = to
	}
}

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// sorted ranges over a map in the order of its keys.
func sorted[K cmp.Ordered, V any](m map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
