package notify

import (
	"context"
	"errors"
	"sync"
)

// maxQueued bounds the news that wait. With news of changes only, so many
// come together when all accounts of a large machine fail at once.
const maxQueued = 1000

// errQueueFull means that the command cannot keep up with the news.
var errQueueFull = errors.New("too much news waits for the command, which is slow or hangs")

// Queue runs a command for one piece of news after the other, in a goroutine
// of its own: a command that is slow or hangs never holds up a poll.
type Queue struct {
	tell   func(context.Context, News) error
	done   func(News, error)
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	more   sync.Cond
	queue  []News
	closed bool
}

// NewQueue starts a queue. tell passes on news, done is called after each of
// them, with tell's error. News that Close leaves untold never gets to done,
// so that the next run tells of it. Of refused messages it does not: they are
// news to the poll alone that is the first to refuse them.
func NewQueue(ctx context.Context, tell func(context.Context, News) error, done func(News, error)) *Queue {
	q := &Queue{tell: tell, done: done}
	q.more.L = &q.mu
	q.ctx, q.cancel = context.WithCancel(ctx)
	q.wg.Go(q.run)
	return q
}

// Add queues news.
func (q *Queue) Add(n News) {
	q.mu.Lock()
	full := len(q.queue) >= maxQueued
	if !full && !q.closed {
		q.queue = append(q.queue, n)
		q.more.Signal()
	}
	q.mu.Unlock()
	if full {
		q.done(n, errQueueFull)
	}
}

func (q *Queue) run() {
	for n, ok := q.next(); ok; n, ok = q.next() {
		err := q.tell(q.ctx, n)
		if q.ctx.Err() != nil {
			return
		}
		q.done(n, err)
	}
}

// next waits for news. ok is false when there will be none any more.
func (q *Queue) next() (n News, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.queue) == 0 && !q.closed {
		q.more.Wait()
	}
	if len(q.queue) == 0 || q.ctx.Err() != nil {
		return n, false
	}
	n, q.queue = q.queue[0], q.queue[1:]
	return n, true
}

// Close waits until all that is queued was told, or until ctx ends: then what
// is left is dropped and a command that is running is ended.
func (q *Queue) Close(ctx context.Context) {
	q.mu.Lock()
	q.closed = true
	q.more.Signal()
	q.mu.Unlock()
	stop := context.AfterFunc(ctx, q.cancel)
	defer stop()
	q.wg.Wait()
	q.cancel()
}
