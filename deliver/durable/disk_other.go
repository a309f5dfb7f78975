//go:build !linux

package durable

import (
	"errors"
	"os"
)

// diskOf tells that no file is to be synced by a sync of all of its file system.
var diskOf = func(*os.File) (disk uint64, whole bool) { return 0, false }

// syncDisk is not called.
var syncDisk = func([]*os.File) error { return errors.ErrUnsupported }
