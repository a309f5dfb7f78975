//go:build !linux

package durable

import (
	"errors"
	"os"
)

// wholeSyncID tells of no file that its file system may be synced as a whole.
var wholeSyncID = func(*os.File) (number uint64, ok bool) { return 0, false }

// isInMemory tells of no file that it is in memory alone.
var isInMemory = func(*os.File) bool { return false }

var syncWholeFS = func([]*os.File) error { return errors.ErrUnsupported }

var canSyncWhole = func() bool { return false }
