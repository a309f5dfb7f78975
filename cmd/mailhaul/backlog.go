package main

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// maxBacklog bounds what waits in a backlog: some thousand lines.
const maxBacklog = 1 << 20

// backlogGrace is how long a daemon that ends waits for who reads its log.
const backlogGrace = 10 * time.Second

// backlog is the standard error of a daemon. What is written waits for who reads it,
// so that polls and signals do not: a pipe that nobody empties, or a terminal that
// was stopped by ^S, would hold up all of them. What is too much is left out.
type backlog struct {
	out    io.Writer
	onDrop func(lines int) // tells, later, of lines that were left out
	done   chan struct{}

	mu           sync.Mutex
	wake         sync.Cond
	pending      []byte
	droppedLines int // lines
	closed       bool
}

func newBacklog(to io.Writer, missed func(lines int)) *backlog {
	b := &backlog{out: to, onDrop: missed, done: make(chan struct{})}
	b.wake.L = &b.mu
	go b.run()
	return b
}

// Write takes whole lines.
func (b *backlog) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pending)+len(p) > maxBacklog {
		b.droppedLines += bytes.Count(p, []byte{'\n'})
	} else {
		b.pending = append(b.pending, p...)
		b.wake.Signal()
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
		_, _ = b.out.Write(lines) // nobody could be told of its error
		if lost > 0 {
			b.onDrop(lost)
		}
	}
}

// take waits for lines. lost is how many would have followed them. ok is false when
// there will be none any more.
func (b *backlog) take() (lines []byte, lost int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.pending) == 0 && !b.closed {
		b.wake.Wait()
	}
	lines, lost = b.pending, b.droppedLines
	b.pending, b.droppedLines = nil, 0
	return lines, lost, len(lines) > 0
}

// close waits until all is written, but not for long.
func (b *backlog) close() {
	b.mu.Lock()
	b.closed = true
	b.wake.Signal()
	b.mu.Unlock()
	select {
	case <-b.done:
	case <-time.After(backlogGrace):
	}
}
