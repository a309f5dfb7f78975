package durable

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxDirty is how many octets may wait to be written to the disks, of whomever,
// if a whole file system is to be synced: that waits for all of it.
const maxDirty = 64 << 20

// diskOf names the file system of a file, and tells whether many files there are
// to be synced by a sync of all of it. They are on ext4, where it takes half the
// time, as long as others write little. FUSE does not pass such a sync on; the rest
// was not measured.
var diskOf = func(file *os.File) (disk uint64, whole bool) {
	var s unix.Stat_t
	if unix.Fstat(int(file.Fd()), &s) != nil || unix.Major(s.Dev) == 0 {
		return 0, false // on no disk: a network would be asked what it is, each time
	}
	var fs unix.Statfs_t
	if unix.Fstatfs(int(file.Fd()), &fs) != nil || fs.Type != unix.EXT4_SUPER_MAGIC {
		return 0, false
	}
	return s.Dev, dirty() <= maxDirty
}

// syncDisk makes files of one file system durable by a sync of all of it. After an
// error each of them may be so, or not.
var syncDisk = func(files []*os.File) error {
	_, err := again(func() (int, error) { return 0, unix.Syncfs(int(files[0].Fd())) })
	for _, f := range files {
		// syncfs tells nothing of writes that failed on Linux before 5.8. This
		// does, and has nothing to wait for.
		err = errors.Join(err, unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WAIT_BEFORE))
	}
	// An ext4 without a journal flushes the disk's cache before it writes the inodes.
	return errors.Join(err, fsync(files[0]))
}

// lately is what dirty returned last, and when.
var lately struct {
	sync.Mutex
	dirty int64
	at    time.Time
}

// dirty returns how many octets wait to be written to the disks, as of a moment
// ago.
func dirty() int64 {
	lately.Lock()
	defer lately.Unlock()
	if now := time.Now(); now.Sub(lately.at) > 100*time.Millisecond {
		text, _ := os.ReadFile("/proc/vmstat")
		pages := counter(text, "nr_dirty") + counter(text, "nr_writeback")
		lately.dirty, lately.at = pages*int64(os.Getpagesize()), now
	}
	return lately.dirty
}

// counter returns a counter of /proc/vmstat; one that is not there is high.
func counter(vmstat []byte, name string) int64 {
	for line := range bytes.Lines(vmstat) {
		key, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if n, err := strconv.ParseInt(string(value), 10, 64); err == nil && string(key) == name {
			return n
		}
	}
	return maxDirty
}
