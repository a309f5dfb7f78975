package durable

import (
	"container/list"
	"os"
	"sync"
)

// begun is a sync that goes on beside what else is done. Until somebody is at it
// it waits: in the queue for its turn, or in a pool for company.
type begun struct {
	file  *os.File
	done  chan error
	stale bool          // the file has changed since
	list  *list.List    // where it waits, nil once it does not
	place *list.Element // in list
}

const (
	// atOnce is how many syncs go on at once: each takes a thread, and disks do no
	// better with more of them.
	atOnce = 16
	// most is how many files a pool waits for, and fewest with how many it is
	// better to sync all of a file system at once than each of them.
	most, fewest = 32, 8
)

// waiting holds the syncs that nobody is at, the oldest first.
var waiting = struct {
	sync.Mutex
	queue   list.List
	workers int                   // at the queue
	pools   map[uint64]*list.List // by file system
}{pools: map[uint64]*list.List{}}

// beginSync begins the sync of a file. small says that it has company, if there is
// any on its file system.
func beginSync(file *os.File, small bool) *begun {
	b := &begun{file: file, done: make(chan error, 1)}
	disk, pooled := uint64(0), false
	if small {
		disk, pooled = diskOf(file)
	}
	waiting.Lock()
	defer waiting.Unlock()
	if !pooled {
		b.enqueue()
		return b
	}
	pool := waiting.pools[disk]
	if pool == nil {
		pool = list.New()
		waiting.pools[disk] = pool
	}
	b.wait(pool)
	if pool.Len() >= most {
		go syncTogether(take(pool))
	}
	return b
}

// wait adds b to a list.
func (b *begun) wait(l *list.List) { b.list, b.place = l, l.PushBack(b) }

// leave takes b out of its list.
func (b *begun) leave() {
	b.list.Remove(b.place)
	b.list = nil
}

// enqueue has b wait for its turn.
func (b *begun) enqueue() {
	b.wait(&waiting.queue)
	if waiting.workers < atOnce {
		waiting.workers++
		go work()
	}
}

// take takes all out of a list.
func take(l *list.List) (all []*begun) {
	for l.Len() > 0 {
		b := l.Front().Value.(*begun)
		b.leave()
		all = append(all, b)
	}
	return all
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
	first := waiting.queue.Front()
	if first == nil {
		waiting.workers--
		return nil
	}
	b := first.Value.(*begun)
	b.leave()
	return b
}

// syncTogether syncs files of one file system by a sync of all of it. If that
// fails, it may be over a file that is none of them: each is asked for itself.
func syncTogether(group []*begun) {
	files := make([]*os.File, len(group))
	for i, b := range group {
		files[i] = b.file
	}
	synced := syncDisk(files) == nil
	for _, b := range group {
		var err error
		if !synced {
			err = fsync(b.file)
		}
		b.done <- err
	}
}

// hurry is for who needs the sync: what is in its pool waits no longer.
func (b *begun) hurry() {
	waiting.Lock()
	var group []*begun
	if b.list != nil && b.list != &waiting.queue {
		group = take(b.list)
	}
	together := len(group) >= fewest
	if !together {
		for _, b := range group {
			b.enqueue()
		}
	}
	waiting.Unlock()
	if together {
		syncTogether(group)
	}
}

// takeBack takes a sync out of where it waits, and reports whether it still did.
// Whoever needs one does not wait for its turn: all workers may be held by a disk
// that hangs, and is not this one.
func (b *begun) takeBack() bool {
	waiting.Lock()
	defer waiting.Unlock()
	if b.list == nil {
		return false
	}
	b.leave()
	return true
}
