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

// syncfsID returns the device number of the file system that a file is on. ok says
// whether syncfs(2) may be used there: the file system is ext4, ext3 or ext2, and
// the kernel reports all errors. (FUSE does not pass a syncfs on; other file systems
// were not measured.)
var syncfsID = func(file *os.File) (id uint64, ok bool) {
	// AT_STATX_DONT_SYNC, because a network file system would otherwise write all
	// its data before it answers.
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

// isInMemory reports whether a file is on tmpfs, where a sync has nothing to wait
// for. It asks for the seals of the file (memfd_create(2)): only files in memory have
// any, and the question costs no access to a disk.
var isInMemory = func(file *os.File) bool {
	_, err := unix.FcntlInt(file.Fd(), unix.F_GET_SEALS, 0)
	return err == nil
}

// syncfsReportsErrors reports whether syncfs(2) returns an error if the journal could
// not be written. It does since Linux 5.17.
var syncfsReportsErrors = sync.OnceValue(func() bool {
	var name unix.Utsname
	var major, minor int
	if unix.Uname(&name) != nil {
		return false
	}
	n, _ := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor)
	return n == 2 && (major > 5 || major == 5 && minor >= 17)
})

// callSyncfs makes files of one file system durable by syncfs(2). After an error none
// of them counts as durable.
var callSyncfs = func(files []*os.File) error {
	_, err := retryEINTR(func() (int, error) { return 0, unix.Syncfs(int(files[0].Fd())) })
	if err != nil {
		return err
	}
	for _, f := range files {
		// syncfs reports the errors since files[0] was opened, and this those of f. It
		// does not wait, as all is written.
		if err := unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WAIT_BEFORE); err != nil {
			return err
		}
	}
	// An ext4 without a journal flushes the disk's cache before it writes the inodes;
	// and syncfs may succeed on one that an error has made read-only. The fsync
	// flushes the cache again, and fails then.
	return fsync(files[0])
}

// maxDirty is how many octets of all programs may wait to be written to the disks
// while syncfs is used.
const maxDirty = 64 << 20

// syncfsIsCheap reports whether little data of other programs waits to be written,
// which syncfs would write too.
var syncfsIsCheap = func() bool { return dirtyBytes() <= maxDirty }

// dirtyCache is the last result of dirtyBytes, and when it was read.
var dirtyCache struct {
	sync.Mutex
	bytes int64
	at    time.Time
}

// dirtyBytes returns how many octets of all programs wait to be written to disk. The
// answer may be 100 ms old.
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

// vmstatPages returns a counter of /proc/vmstat, in pages. For one that is missing or
// no number it returns a high value, so that syncfs is not used.
func vmstatPages(vmstat []byte, name string) int64 {
	for line := range bytes.Lines(vmstat) {
		key, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if n, err := strconv.ParseInt(string(value), 10, 64); err == nil && string(key) == name {
			return n
		}
	}
	return math.MaxInt32
}
