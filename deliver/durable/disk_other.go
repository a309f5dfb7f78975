//go:build !linux

package durable

import (
	"errors"
	"os"
)

// diskOf tells of no file that its file system may be synced as a whole.
var diskOf = func(*os.File) (number uint64, ok bool) { return 0, false }

// inMemory tells of no file that it is in memory alone.
var inMemory = func(*os.File) bool { return false }

var syncDisk = func([]*os.File) error { return errors.ErrUnsupported }

var calm = func() bool { return false }
