package durable

import (
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// asyncSync is a sync of a file that was begun by File.BeginSync. It first waits:
// either in scheduled.queue for a worker, or in the pool of its file system for
// enough others to be synced together.
type asyncSync struct {
	file     *os.File
	done     chan error    // receives the result
	stale    bool          // the file has changed since
	fileSys  *fileSystem   // nil if the file must be synced by itself
	queuedIn *[]*asyncSync // where it waits; nil once it does not wait any more
}

// maxWorkers is how many files are synced by themselves at the same time. Each takes
// a thread, and disks get no faster with more of them.
const maxWorkers = 16

// scheduled holds the syncs that no goroutine works on yet, the oldest first. Its
// mutex also guards the pools of the file systems, and asyncSync.queuedIn.
var scheduled = struct {
	sync.Mutex
	queue       []*asyncSync
	workers     int // that take syncs from queue
	fileSystems map[uint64]*fileSystem
}{fileSystems: map[uint64]*fileSystem{}}

// onDisk is the function that OnDisk was last given; nil once it was called.
var onDisk atomic.Pointer[func()]

// OnDisk registers f to be called once, before the next sync of a small file on a
// disk is begun: as a rule one of many, which the program may have to wait for. It
// replaces a function registered before that was not called yet.
func OnDisk(f func()) { onDisk.Store(&f) }

// beginSync begins the sync of a file. A small file may be made to wait for others,
// to be synced together with them. It returns nil for a file in memory, whose sync
// takes no time.
func beginSync(file *os.File, isSmall bool) *asyncSync {
	if isInMemory(file) {
		return nil
	}
	if isSmall {
		if f := onDisk.Swap(nil); f != nil {
			(*f)()
		}
	}
	b := &asyncSync{file: file, done: make(chan error, 1)}
	if isSmall && syncfsIsCheap() {
		if id, ok := syncfsID(file); ok {
			b.fileSys = fileSystemOf(id)
		}
	}
	if b.fileSys == nil || b.fileSys.syncfsDisabled.Load() {
		schedule(b)
	} else if group := b.joinPool(); group != nil {
		go b.fileSys.syncGroup(group)
		runtime.Gosched() // let that begin before more is written
	}
	return b
}

// schedule queues syncs for the workers, and starts workers as needed.
func schedule(syncs ...*asyncSync) {
	scheduled.Lock()
	defer scheduled.Unlock()
	for _, b := range syncs {
		b.addTo(&scheduled.queue)
		if scheduled.workers < maxWorkers {
			scheduled.workers++
			go runWorker()
		}
	}
}

// addTo appends b to a queue. The caller holds scheduled.
func (b *asyncSync) addTo(queue *[]*asyncSync) {
	b.queuedIn = queue
	*queue = append(*queue, b)
}

// removeFromQueue removes b from its queue and reports whether it was in one. The
// caller holds scheduled.
func (b *asyncSync) removeFromQueue() bool {
	if b.queuedIn == nil {
		return false
	}
	i := slices.Index(*b.queuedIn, b)
	*b.queuedIn = slices.Delete(*b.queuedIn, i, i+1)
	b.queuedIn = nil
	return true
}

// runWorker syncs files from the queue until it is empty.
func runWorker() {
	for b := nextScheduled(); b != nil; b = nextScheduled() {
		b.done <- fsync(b.file)
	}
}

// nextScheduled takes the oldest sync from the queue. If the queue is empty, it
// returns nil and counts its worker as ended.
func nextScheduled() *asyncSync {
	scheduled.Lock()
	defer scheduled.Unlock()
	if len(scheduled.queue) == 0 {
		scheduled.workers--
		return nil
	}
	b := scheduled.queue[0]
	b.removeFromQueue()
	return b
}

// cancel removes a sync from the queue or pool it waits in, and reports whether it
// still waited. The caller then syncs the file itself instead of waiting for a
// worker: all workers may be blocked by another disk that hangs.
func (b *asyncSync) cancel() bool {
	scheduled.Lock()
	defer scheduled.Unlock()
	return b.removeFromQueue()
}
