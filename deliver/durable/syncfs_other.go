//go:build !linux

package durable

import (
	"errors"
	"os"
)

// syncfsID and what follows stand for syncfs_linux.go on systems without syncfs(2).
var syncfsID = func(*os.File) (id uint64, ok bool) { return 0, false }

var isInMemory = func(*os.File) bool { return false }

var callSyncfs = func([]*os.File) error { return errors.ErrUnsupported }

var syncfsIsCheap = func() bool { return false }
