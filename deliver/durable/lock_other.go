//go:build unix && !linux

package durable

import "golang.org/x/sys/unix"

// setLock takes POSIX record locks. They belong to the process: one lets other
// goroutines in, and closing any descriptor of the file drops it. Callers
// within one process must keep each other out by a mutex of their own.
const setLock = unix.F_SETLK
