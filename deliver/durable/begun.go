package durable

import (
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// begun is a sync that goes on beside what else is done. Until somebody is at it,
// it waits: in the queue for its turn, or in the pool of its disk for company.
type begun struct {
	file  *os.File
	done  chan error
	stale bool      // the file has changed since
	disk  *disk     // nil if it is to be synced by itself
	queue *[]*begun // which it waits in, nil once it does not wait
}

// atOnce is how many files are synced at once, each by itself: it takes a thread,
// and disks do no better with more of them.
const atOnce = 16

// waiting holds the syncs that nobody is at, the oldest first.
var waiting = struct {
	sync.Mutex
	queue   []*begun
	workers int // at the queue
	disks   map[uint64]*disk
}{disks: map[uint64]*disk{}}

// onDisk is what OnDisk was last given, nil once it was called.
var onDisk atomic.Pointer[func()]

// OnDisk has f called, once, before the next sync of a small file is begun beside
// what else is done that may have to wait for a disk: one of many, as a rule. It takes
// the place of what was to be called until then.
func OnDisk(f func()) { onDisk.Store(&f) }

// beginSync begins the sync of a file. One that is small may have to wait for
// others. It returns nil if there is nothing to wait for.
func beginSync(file *os.File, small bool) *begun {
	if inMemory(file) {
		return nil
	}
	if small {
		if f := onDisk.Swap(nil); f != nil {
			(*f)()
		}
	}
	b := &begun{file: file, done: make(chan error, 1)}
	if small && calm() {
		if number, ok := diskOf(file); ok {
			b.disk = diskNumber(number)
		}
	}
	if b.disk == nil || b.disk.each.Load() {
		enqueue(b)
	} else if many := b.join(); many != nil {
		go b.disk.sync(many)
		runtime.Gosched() // it is to be at the disk before more is written
	}
	return b
}

// enqueue has syncs wait for their turn, and sees to it that there are workers.
func enqueue(all ...*begun) {
	waiting.Lock()
	defer waiting.Unlock()
	for _, b := range all {
		b.addTo(&waiting.queue)
		if waiting.workers < atOnce {
			waiting.workers++
			go work()
		}
	}
}

// addTo adds b to those that wait in a queue.
func (b *begun) addTo(queue *[]*begun) {
	b.queue = queue
	*queue = append(*queue, b)
}

// leave takes b out of its queue, and reports whether it was in one.
func (b *begun) leave() bool {
	if b.queue == nil {
		return false
	}
	i := slices.Index(*b.queue, b)
	*b.queue = slices.Delete(*b.queue, i, i+1)
	b.queue = nil
	return true
}

// work syncs what is in the queue.
func work() {
	for b := next(); b != nil; b = next() {
		b.done <- fsync(b.file)
	}
}

// next takes the oldest sync out of the queue. If there is none, a worker less is
// at work.
func next() *begun {
	waiting.Lock()
	defer waiting.Unlock()
	if len(waiting.queue) == 0 {
		waiting.workers--
		return nil
	}
	b := waiting.queue[0]
	b.leave()
	return b
}

// takeBack takes a sync out of where it waits, and reports whether it still did.
// Whoever needs one does not wait for its turn: all workers may be held by a disk
// that hangs, and is not this one.
func (b *begun) takeBack() bool {
	waiting.Lock()
	defer waiting.Unlock()
	return b.leave()
}
