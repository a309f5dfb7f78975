package durable

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// wholeSyncID returns the number of the file system that a file is on, and whether it
// may be synced as a whole: if it is ext4 (or ext2 or ext3), and the kernel tells
// of all that then fails. FUSE does not pass such a sync on; the others were not
// measured.
var wholeSyncID = func(file *os.File) (number uint64, ok bool) {
	// Not to be answered by a server, for which a network file system would first
	// write all there is.
	var x unix.Statx_t
	if unix.Statx(int(file.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, 0, &x) != nil || x.Dev_major == 0 {
		return 0, false
	}
	var fs unix.Statfs_t
	if unix.Fstatfs(int(file.Fd()), &fs) != nil || fs.Type != unix.EXT4_SUPER_MAGIC {
		return 0, false
	}
	return unix.Mkdev(x.Dev_major, x.Dev_minor), syncfsReportsErrors()
}

// isInMemory reports whether a file is in memory alone (tmpfs), where a sync has
// nothing to wait for. Only there are files that can be sealed (memfd_create(2)), and
// no other file system is asked about it.
var isInMemory = func(file *os.File) bool {
	_, err := unix.FcntlInt(file.Fd(), unix.F_GET_SEALS, 0)
	return err == nil
}

// syncfsReportsErrors reports whether syncfs(2) tells of a journal that could not be written.
// Before Linux 5.17 it does not.
var syncfsReportsErrors = sync.OnceValue(func() bool {
	var name unix.Utsname
	var major, minor int
	if unix.Uname(&name) != nil {
		return false
	}
	n, _ := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor)
	return n == 2 && (major > 5 || major == 5 && minor >= 17)
})

// syncWholeFS makes files durable by a sync of the whole file system that they are
// on. After an error none of them counts as durable.
var syncWholeFS = func(files []*os.File) error {
	_, err := retryEINTR(func() (int, error) { return 0, unix.Syncfs(int(files[0].Fd())) })
	if err != nil {
		return err
	}
	for _, f := range files {
		// syncfs tells of what could not be written since files[0] was opened.
		// This tells of the file, and has nothing to wait for any more.
		if err := unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WAIT_BEFORE); err != nil {
			return err
		}
	}
	// An ext4 without a journal flushes the disk's cache before it writes the
	// inodes. And of one that an error has made read-only syncfs may say nothing.
	return fsync(files[0])
}

// maxDirty is how many octets may wait to be written to the disks, of whomever,
// in calm times.
const maxDirty = 64 << 20

// canSyncWhole reports whether a sync of a whole file system has little of others to wait
// for, as of a moment ago.
var canSyncWhole = func() bool { return dirtyBytes() <= maxDirty }

// dirtyCache is what dirty returned last, and when.
var dirtyCache struct {
	sync.Mutex
	bytes int64
	at    time.Time
}

// dirtyBytes returns how many octets wait to be written.
func dirtyBytes() int64 {
	dirtyCache.Lock()
	defer dirtyCache.Unlock()
	if now := time.Now(); now.Sub(dirtyCache.at) > 100*time.Millisecond {
		text, _ := os.ReadFile("/proc/vmstat")
		pages := vmstatPages(text, "nr_dirty") + vmstatPages(text, "nr_writeback")
		dirtyCache.bytes, dirtyCache.at = pages*int64(os.Getpagesize()), now
	}
	return dirtyCache.bytes
}

// vmstatPages returns a counter of /proc/vmstat, in pages; one that is not there is
// high.
func vmstatPages(vmstat []byte, name string) int64 {
	for line := range bytes.Lines(vmstat) {
		key, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if n, err := strconv.ParseInt(string(value), 10, 64); err == nil && string(key) == name {
			return n
		}
	}
	return math.MaxInt32
}
