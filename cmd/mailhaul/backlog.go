package main

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// maxBacklog bounds what waits in a backlog: some thousand lines.
const maxBacklog = 1 << 20

// lastLines is how long a daemon that ends waits for who reads its log.
const lastLines = 10 * time.Second

// backlog is the standard error of a daemon. What is written waits for who reads it,
// so that polls and signals do not: a pipe that nobody empties, or a terminal that
// was stopped by ^S, would hold up all of them. What is too much is left out.
type backlog struct {
	to     io.Writer
	missed func(lines int) // tells, later, of lines that were left out
	done   chan struct{}

	mu      sync.Mutex
	more    sync.Cond
	waiting []byte
	lost    int // lines
	closed  bool
}

func newBacklog(to io.Writer, missed func(lines int)) *backlog {
	b := &backlog{to: to, missed: missed, done: make(chan struct{})}
	b.more.L = &b.mu
	go b.run()
	return b
}

// Write takes whole lines.
func (b *backlog) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting)+len(p) > maxBacklog {
		b.lost += bytes.Count(p, []byte{'\n'})
	} else {
		b.waiting = append(b.waiting, p...)
		b.more.Signal()
	}
	return len(p), nil
}

func (b *backlog) run() {
	defer close(b.done)
	for {
		lines, lost, ok := b.take()
		if !ok {
			return
		}
		_, _ = b.to.Write(lines) // nobody could be told of its error
		if lost > 0 {
			b.missed(lost)
		}
	}
}

// take waits for lines. lost is how many would have followed them. ok is false when
// there will be none any more.
func (b *backlog) take() (lines []byte, lost int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.waiting) == 0 && !b.closed {
		b.more.Wait()
	}
	lines, lost = b.waiting, b.lost
	b.waiting, b.lost = nil, 0
	return lines, lost, len(lines) > 0
}

// close waits until all is written, but not for long.
func (b *backlog) close() {
	b.mu.Lock()
	b.closed = true
	b.more.Signal()
	b.mu.Unlock()
	select {
	case <-b.done:
	case <-time.After(lastLines):
	}
}
