package durabletest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// file is an open file.
type file struct {
	fs   *FS
	n    *inode
	name string
	flag int
	off  int
}

// lockFS locks the file system for an operation on the open file. The caller unlocks
// it, even after an error.
func (h *file) lockFS() error {
	h.fs.mu.Lock()
	if h.fs.dead {
		return ErrCrashed
	}
	if _, ok := h.fs.open[h]; !ok {
		return os.ErrClosed
	}
	return nil
}

func (h *file) Name() string { return h.name }

func (h *file) Read(p []byte) (int, error) {
	n, err := h.ReadAt(p, int64(h.off))
	h.off += n
	if n > 0 {
		err = nil
	}
	return n, err
}

func (h *file) ReadAt(p []byte, off int64) (int, error) {
	err := h.lockFS()
	defer h.fs.mu.Unlock()
	if err == nil && h.flag&os.O_WRONLY != 0 {
		err = syscall.EBADF
	}
	if err != nil {
		return 0, pathError("read", h.name, err)
	}
	n := copy(p, h.n.data[min(int(off), len(h.n.data)):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *file) Write(p []byte) (int, error) {
	n, err := h.write(p, func() int {
		if h.flag&os.O_APPEND != 0 {
			h.off = len(h.n.data)
		}
		return h.off
	})
	h.off += n
	return n, err
}

func (h *file) WriteAt(p []byte, off int64) (int, error) {
	return h.write(p, func() int { return int(off) })
}

// write writes p at the offset that off returns. If a hook makes it fail, it writes
// the first half, as on a disk that becomes full.
func (h *file) write(p []byte, off func() int) (int, error) {
	effect, failed := h.fs.runHooks(Op{Verb: Write, Path: h.name})
	err := h.lockFS()
	defer h.fs.mu.Unlock()
	if err == nil && h.flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		err = syscall.EBADF
	}
	if err != nil {
		return 0, pathError("write", h.name, err)
	}
	n := len(p)
	if failed != nil {
		n /= 2
	}
	if effect {
		h.n.write(p[:n], off())
	}
	return n, pathError("write", h.name, failed)
}

func (h *file) Truncate(size int64) error {
	if h.flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		return pathError("truncate", h.name, syscall.EINVAL)
	}
	return h.change("truncate", Truncate, func() { h.n.truncate(int(size)) })
}

func (h *file) Chmod(mode fs.FileMode) error {
	return h.change("chmod", Chmod, func() { h.n.mode = h.n.mode.Type() | mode.Perm() })
}

// BeginSync does nothing: Sync does it all.
func (h *file) BeginSync() {}

func (h *file) Sync() error {
	err := h.change("sync", Sync, func() {
		if !h.n.syncFailed {
			h.n.synced = h.n.data[:len(h.n.data):len(h.n.data)]
		}
	})
	if err != nil && !errors.Is(err, ErrCrashed) {
		h.fs.mu.Lock()
		h.n.syncFailed = true
		h.fs.mu.Unlock()
	}
	return err
}

// change calls the hooks and then do, with the file system locked.
func (h *file) change(op string, verb Verb, do func()) error {
	effect, err := h.fs.runHooks(Op{Verb: verb, Path: h.name})
	if err != nil {
		return pathError(op, h.name, err)
	}
	err = h.lockFS()
	defer h.fs.mu.Unlock()
	if err == nil && effect {
		do()
	}
	return pathError(op, h.name, err)
}

func (h *file) TryLock() error {
	if _, err := h.fs.runHooks(Op{Verb: Lock, Path: h.name}); err != nil {
		return pathError("lock", h.name, err)
	}
	err := h.lockFS()
	defer h.fs.mu.Unlock()
	if err != nil {
		return pathError("lock", h.name, err)
	}
	if h.n.lock != nil && h.n.lock != h {
		return durable.ErrLocked
	}
	h.n.lock = h
	return nil
}

func (h *file) Stat() (fs.FileInfo, error) {
	err := h.lockFS()
	defer h.fs.mu.Unlock()
	if err != nil {
		return nil, pathError("stat", h.name, err)
	}
	return h.n.info(filepath.Base(h.name)), nil
}

func (h *file) Close() error {
	err := h.lockFS()
	defer h.fs.mu.Unlock()
	if err != nil {
		return pathError("close", h.name, err)
	}
	delete(h.fs.open, h)
	if h.n.lock == h {
		h.n.lock = nil
	}
	return nil
}
