//go:build unix && !linux

package state

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// tryLock takes a BSD lock (flock(2)): unlike a POSIX record lock it belongs
// to f alone, so that it also keeps out other goroutines and is not dropped
// when the process closes another descriptor of the file.
func tryLock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errLocked
	}
	return err
}
