package durabletest

import (
	"crypto/sha256"
	"fmt"
	"path"
	"slices"
	"strings"
)

// clone copies a graph of inodes. It calls copy once for each of them.
type clone struct {
	copies map[*inode]*inode
	copy   func(*inode, *clone) *inode
}

func newClone(copy func(*inode, *clone) *inode) *clone {
	return &clone{copies: make(map[*inode]*inode), copy: copy}
}

func (c *clone) inode(n *inode) *inode {
	if n == nil {
		return nil
	}
	m, ok := c.copies[n]
	if !ok {
		m = c.copy(n, c)
		c.copies[n] = m
	}
	return m
}

func (c *clone) names(names map[string]*inode) map[string]*inode {
	m := make(map[string]*inode, len(names))
	for name, n := range names {
		m[name] = c.inode(n)
	}
	return m
}

// fs returns the copy of f, for a new process.
func (c *clone) fs(f *FS) *FS {
	return &FS{root: c.inode(f.root), open: make(map[*file]struct{}), inodes: f.inodes}
}

// Tree lists all files, one per line: path, permissions and content. The content of a
// long file is given by its size and digest. Two file systems with the same Tree have
// the same files.
func (f *FS) Tree() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	var list func(dir string, n *inode)
	list = func(dir string, n *inode) {
		for base, child := range sorted(n.names) {
			name := path.Join(dir, base)
			switch {
			case child.isDir():
				fmt.Fprintf(&b, "%s/ %v\n", name, child.mode)
				list(name, child)
			case len(child.data) > 256:
				fmt.Fprintf(&b, "%s %v %d octets %x\n", name, child.mode, len(child.data), sha256.Sum256(child.data))
			default:
				fmt.Fprintf(&b, "%s %v %q\n", name, child.mode, child.data)
			}
		}
	}
	list("/", f.root)
	return b.String()
}

// Unsynced lists what a power cut could undo: each file whose content is not durable,
// and each change of a name that is not.
func (f *FS) Unsynced() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	paths := make(map[*inode]string)
	var walk func(dir string, n *inode)
	walk = func(dir string, n *inode) {
		paths[n] = dir
		if n.dirty() {
			list = append(list, "content of "+dir)
		}
		for base, child := range sorted(n.names) {
			walk(path.Join(dir, base), child)
		}
	}
	walk("/", f.root)
	for _, e := range f.pending {
		verb := "added "
		if e.to == nil {
			verb = "removed "
		}
		list = append(list, verb+path.Join(paths[e.dir], e.name))
	}
	slices.Sort(list)
	return list
}

// TwoNames reports whether a file has two names, because a power cut has kept both
// names of a rename.
func (f *FS) TwoNames() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := make(map[*inode]bool)
	var walk func(n *inode) bool
	walk = func(n *inode) bool {
		if seen[n] {
			return true
		}
		seen[n] = true
		for _, child := range n.names {
			if walk(child) {
				return true
			}
		}
		return false
	}
	return walk(f.root)
}
