package durable

import (
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// asyncSync is a sync that goes on beside what else is done. Until somebody is at it,
// it waits: in the queue for its turn, or in the pool of its disk for company.
type asyncSync struct {
	file    *os.File
	done    chan error
	stale   bool          // the file has changed since
	disk    *fileSystem   // nil if it is to be synced by itself
	waitsIn *[]*asyncSync // which it waits in, nil once it does not wait
}

// maxWorkers is how many files are synced at once, each by itself: it takes a thread,
// and disks do no better with more of them.
const maxWorkers = 16

// scheduled holds the syncs that nobody is at, the oldest first.
var scheduled = struct {
	sync.Mutex
	queue   []*asyncSync
	workers int // at the queue
	disks   map[uint64]*fileSystem
}{disks: map[uint64]*fileSystem{}}

// onDisk is what OnDisk was last given, nil once it was called.
var onDisk atomic.Pointer[func()]

// OnDisk has f called, once, before the next sync of a small file is begun beside
// what else is done that may have to wait for a disk: one of many, as a rule. It takes
// the place of what was to be called until then.
func OnDisk(f func()) { onDisk.Store(&f) }

// beginSync begins the sync of a file. One that is small may have to wait for
// others. It returns nil if there is nothing to wait for.
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
	if isSmall && canSyncWhole() {
		if number, ok := wholeSyncID(file); ok {
			b.disk = fileSystemByID(number)
		}
	}
	if b.disk == nil || b.disk.wholeDisabled.Load() {
		schedule(b)
	} else if many := b.joinPool(); many != nil {
		go b.disk.syncGroup(many)
		runtime.Gosched() // it is to be at the disk before more is written
	}
	return b
}

// schedule has syncs wait for their turn, and sees to it that there are workers.
func schedule(all ...*asyncSync) {
	scheduled.Lock()
	defer scheduled.Unlock()
	for _, b := range all {
		b.addTo(&scheduled.queue)
		if scheduled.workers < maxWorkers {
			scheduled.workers++
			go runWorker()
		}
	}
}

// addTo adds b to those that wait in a queue.
func (b *asyncSync) addTo(queue *[]*asyncSync) {
	b.waitsIn = queue
	*queue = append(*queue, b)
}

// removeFromQueue takes b out of its queue, and reports whether it was in one.
func (b *asyncSync) removeFromQueue() bool {
	if b.waitsIn == nil {
		return false
	}
	i := slices.Index(*b.waitsIn, b)
	*b.waitsIn = slices.Delete(*b.waitsIn, i, i+1)
	b.waitsIn = nil
	return true
}

// runWorker syncs what is in the queue.
func runWorker() {
	for b := nextScheduled(); b != nil; b = nextScheduled() {
		b.done <- fsync(b.file)
	}
}

// nextScheduled takes the oldest sync out of the queue. If there is none, a worker less is
// at work.
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

// cancel takes a sync out of where it waits, and reports whether it still did.
// Whoever needs one does not wait for its turn: all workers may be held by a disk
// that hangs, and is not this one.
func (b *asyncSync) cancel() bool {
	scheduled.Lock()
	defer scheduled.Unlock()
	return b.removeFromQueue()
}
