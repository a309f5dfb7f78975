//go:build unix && !linux

package durable

import "golang.org/x/sys/unix"

// setLock takes POSIX record locks. They belong to the process: they do not exclude
// other goroutines, and are dropped when any descriptor of the file is closed. Within
// the process callers need a mutex in addition.
const setLock = unix.F_SETLK
