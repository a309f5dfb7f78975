package notify

import (
	"context"
	"errors"
	"sync"
)

// maxQueued bounds the alerts that wait. There are so many only when all accounts
// of a large installation fail at once.
const maxQueued = 1000

// errQueueFull means that the command is slower than alerts come in.
var errQueueFull = errors.New("too many alerts wait for the command, which is slow or hangs")

// Queue sends alerts, one after the other, in a goroutine of its own: a command
// that is slow or hangs does not hold up a poll.
type Queue struct {
	send   func(context.Context, Alert) error
	done   func(Alert, error)
	ctx    context.Context // of send; canceled when Close gives up
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	added  sync.Cond // signaled by Add and Close
	queue  []Alert
	closed bool
}

// NewQueue starts a queue. It calls send for each alert, and then done with the
// alert and the error of send. An alert that Close gives up on does not get to
// done, so that it is not remembered as sent and the next run sends it; an alert
// of the kind Refused is lost, as only the poll that first refuses a message makes
// one.
func NewQueue(ctx context.Context, send func(context.Context, Alert) error, done func(Alert, error)) *Queue {
	q := &Queue{send: send, done: done}
	q.added.L = &q.mu
	q.ctx, q.cancel = context.WithCancel(ctx)
	q.wg.Go(q.run)
	return q
}

// Add queues an alert. If the queue is full, it calls done with an error instead.
// After Close it does nothing.
func (q *Queue) Add(a Alert) {
	q.mu.Lock()
	full := len(q.queue) >= maxQueued
	if !full && !q.closed {
		q.queue = append(q.queue, a)
		q.added.Signal()
	}
	q.mu.Unlock()
	if full {
		q.done(a, errQueueFull)
	}
}

// run sends the alerts until the queue is closed and empty, or Close gives up.
func (q *Queue) run() {
	for {
		a, ok := q.next()
		if !ok {
			return
		}
		err := q.send(q.ctx, a)
		if q.ctx.Err() != nil {
			return
		}
		q.done(a, err)
	}
}

// next waits for an alert and takes it from the queue. ok is false if there will
// be no more to send.
func (q *Queue) next() (a Alert, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.queue) == 0 && !q.closed {
		q.added.Wait()
	}
	if len(q.queue) == 0 || q.ctx.Err() != nil {
		return Alert{}, false
	}
	a, q.queue = q.queue[0], q.queue[1:]
	return a, true
}

// Close waits until all alerts in the queue were sent. If ctx ends before that, it
// drops the rest and ends the command that is running.
func (q *Queue) Close(ctx context.Context) {
	q.mu.Lock()
	q.closed = true
	q.added.Signal()
	q.mu.Unlock()
	stop := context.AfterFunc(ctx, q.cancel)
	defer stop()
	q.wg.Wait()
	q.cancel()
}
