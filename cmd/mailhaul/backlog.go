package main

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// maxBacklog bounds the bytes that wait in a backlog: some thousand lines.
const maxBacklog = 1 << 20

// backlogGrace is how long a daemon that ends waits for its log to be read.
const backlogGrace = 10 * time.Second

// backlog is the standard error of a daemon. It buffers what is written and passes it on
// from a goroutine of its own, so that a pipe that nobody empties, or a terminal stopped
// by ^S, does not hold up polls and signals. Lines beyond maxBacklog are dropped.
type backlog struct {
	out    io.Writer
	onDrop func(lines int) // called when the lines before the dropped ones are written
	done   chan struct{}   // closed when all is written

	mu           sync.Mutex
	changed      sync.Cond // signalled when pending or closed changes
	pending      []byte
	droppedLines int
	closed       bool
}

func newBacklog(out io.Writer, onDrop func(lines int)) *backlog {
	b := &backlog{out: out, onDrop: onDrop, done: make(chan struct{})}
	b.changed.L = &b.mu
	go b.run()
	return b
}

// Write expects whole lines. It never blocks and never fails.
func (b *backlog) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pending)+len(p) > maxBacklog {
		b.droppedLines += bytes.Count(p, []byte{'\n'})
	} else {
		b.pending = append(b.pending, p...)
		b.changed.Signal()
	}
	return len(p), nil
}

// run writes the lines until the backlog is closed and empty.
func (b *backlog) run() {
	defer close(b.done)
	for {
		lines, dropped, ok := b.take()
		if !ok {
			return
		}
		_, _ = b.out.Write(lines) // there is nowhere to report an error
		if dropped > 0 {
			b.onDrop(dropped)
		}
	}
}

// take waits for lines and removes them. dropped is how many were dropped after them.
// ok is false once the backlog is closed and empty.
func (b *backlog) take() (lines []byte, dropped int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.pending) == 0 && !b.closed {
		b.changed.Wait()
	}
	lines, dropped = b.pending, b.droppedLines
	b.pending, b.droppedLines = nil, 0
	return lines, dropped, len(lines) > 0
}

// close waits until all is written, for backlogGrace at most.
func (b *backlog) close() {
	b.mu.Lock()
	b.closed = true
	b.changed.Signal()
	b.mu.Unlock()
	select {
	case <-b.done:
	case <-time.After(backlogGrace):
	}
}
