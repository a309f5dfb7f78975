package durable

import (
	"container/list"
	"os"
	"sync"
)

// begun is a sync that goes on beside what else is done, or waits for its turn.
type begun struct {
	file  *os.File
	done  chan error
	stale bool          // the file has changed since
	place *list.Element // in the queue, nil if it is no longer there
}

// atOnce is how many syncs go on at once: each takes a thread, and disks do no
// better with more of them.
const atOnce = 16

// queue holds the syncs that wait for their turn, the oldest first.
var queue struct {
	sync.Mutex
	list.List
	workers int
}

func beginSync(file *os.File) *begun {
	b := &begun{file: file, done: make(chan error, 1)}
	queue.Lock()
	defer queue.Unlock()
	b.place = queue.PushBack(b)
	if queue.workers < atOnce {
		queue.workers++
		go work()
	}
	return b
}

// work syncs what waits.
func work() {
	for b := next(); b != nil; b = next() {
		b.done <- fsync(b.file)
	}
}

// next takes the oldest sync from the queue. If there is none, a worker less is
// at work.
func next() *begun {
	queue.Lock()
	defer queue.Unlock()
	first := queue.Front()
	if first == nil {
		queue.workers--
		return nil
	}
	b := queue.Remove(first).(*begun)
	b.place = nil
	return b
}

// takeBack takes a sync out of the queue, and reports whether it was still there.
// Whoever needs one does not wait for its turn: all workers may be held by a disk
// that hangs, and is not this one.
func (b *begun) takeBack() bool {
	queue.Lock()
	defer queue.Unlock()
	if b.place == nil {
		return false
	}
	queue.Remove(b.place)
	return true
}
