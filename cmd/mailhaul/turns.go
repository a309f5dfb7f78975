package main

import (
	"bytes"
	"io"
	"sync"
)

// turns has the reports of several accounts, which are written at once, come out one
// after the other: what is written out of turn waits for all that comes before it.
type turns struct {
	out io.Writer

	mu      sync.Mutex
	now     int // whose turn it is
	reports []report
}

// report is what was written out of turn.
type report struct {
	held  bytes.Buffer
	ended bool
}

// newTurns returns the turns of n reports, the first of which comes out at once.
func newTurns(out io.Writer, n int) *turns { return &turns{out: out, reports: make([]report, n)} }

// turn is where one of them is written to.
type turn struct {
	*turns
	i int
}

func (t turn) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.i > t.now {
		return t.reports[t.i].held.Write(p)
	}
	return t.out.Write(p)
}

// end has the next one come out, once all before it have ended, too.
func (t turn) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reports[t.i].ended = true
	for t.now < len(t.reports) && t.reports[t.now].ended {
		t.now++
		if t.now < len(t.reports) {
			next := &t.reports[t.now].held
			t.out.Write(next.Bytes())
			*next = bytes.Buffer{}
		}
	}
}
