package durabletest

import (
	"bytes"
	"io/fs"
	"slices"
	"syscall"
	"time"
)

// inode is a file or a directory, whatever its names are.
type inode struct {
	ino  uint64
	mode fs.FileMode
	time time.Time

	// names is a directory's content in the cache, disk is its durable content.
	names, disk map[string]*inode

	// data is a file's content in the cache, synced is its durable content. They
	// share memory with each other and with those of clones, so that bytes that
	// were written are never changed in place.
	data, synced []byte
	syncFailed   bool // later calls of Sync have no effect

	lock *file // which holds the lock; nil if none does
}

func (f *FS) newInode(mode fs.FileMode) *inode {
	f.inodes++
	n := &inode{ino: f.inodes, mode: mode, time: time.Now()}
	if n.isDir() {
		n.names, n.disk = make(map[string]*inode), make(map[string]*inode)
	}
	return n
}

func (n *inode) isDir() bool { return n.mode.IsDir() }
func (n *inode) dirty() bool { return !bytes.Equal(n.data, n.synced) }

// contains reports whether dir is n or below it.
func (n *inode) contains(dir *inode) bool {
	if n == dir {
		return true
	}
	for _, child := range n.names {
		if child.contains(dir) {
			return true
		}
	}
	return false
}

func (n *inode) write(p []byte, off int) {
	if end := off + len(p); off < len(n.data) {
		n.data = slices.Concat(n.data[:off], p, n.data[min(end, len(n.data)):])
	} else {
		if off > len(n.data) {
			n.truncate(off)
		}
		// This overwrites no byte that another slice can see: those are clipped.
		n.data = append(n.data, p...)
	}
	n.time = time.Now()
}

func (n *inode) truncate(size int) {
	if size <= len(n.data) {
		n.data = slices.Clip(n.data[:size])
	} else {
		n.data = append(n.data, make([]byte, size-len(n.data))...)
	}
	n.time = time.Now()
}

// torn returns every content the file may have after a power cut, the durable
// one first and the cached one last.
func (n *inode) torn() [][]byte {
	now, was := n.data, n.synced
	same := 0
	for same < min(len(now), len(was)) && now[same] == was[same] {
		same++
	}
	half := same + (len(now)-same)/2
	all := [][]byte{was, now}
	for _, v := range [][]byte{
		slices.Concat(now[:half], was[min(half, len(was)):]),
		now[:half],
		slices.Concat(now[:half], make([]byte, len(now)-half)),
		slices.Concat(now[:same], make([]byte, len(now)-same)),
	} {
		if !slices.ContainsFunc(all, func(w []byte) bool { return bytes.Equal(v, w) }) {
			all = slices.Insert(all, 1, v)
		}
	}
	return all
}

func (n *inode) info(name string) fs.FileInfo {
	return info{name: name, size: int64(len(n.data)), mode: n.mode, time: n.time, ino: n.ino}
}

// info is an inode seen at one moment.
type info struct {
	name string
	size int64
	mode fs.FileMode
	time time.Time
	ino  uint64
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return i.time }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return &syscall.Stat_t{Ino: i.ino} }
