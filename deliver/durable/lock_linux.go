package durable

import "golang.org/x/sys/unix"

// setLock takes open file description locks: they conflict with the fcntl
// locks of other programs, and unlike those are not dropped when any other
// descriptor of this process on the file is closed (fcntl(2)).
const setLock = unix.F_OFD_SETLK
