package main

import (
	"bytes"
	"io"
	"sync"
)

// orderedReports lets several goroutines write reports at the same time, and puts them
// out one after the other, in their order. The current report is written through; those
// after it are buffered until all before them have finished.
type orderedReports struct {
	out io.Writer

	mu      sync.Mutex
	current int
	reports []pendingReport
}

// pendingReport is what is known of a report that is not finished or not yet current.
type pendingReport struct {
	buffered bytes.Buffer
	finished bool
}

// newOrderedReports prepares n reports.
func newOrderedReports(out io.Writer, n int) *orderedReports {
	return &orderedReports{out: out, reports: make([]pendingReport, n)}
}

// orderedReport is the writer of report i.
type orderedReport struct {
	*orderedReports
	i int
}

func (r orderedReport) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.i > r.current {
		return r.reports[r.i].buffered.Write(p)
	}
	return r.out.Write(p)
}

// finish ends the report. Each report must be finished, for the later ones to appear.
func (r orderedReport) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reports[r.i].finished = true
	for r.current < len(r.reports) && r.reports[r.current].finished {
		r.current++
		if r.current < len(r.reports) {
			next := &r.reports[r.current].buffered
			r.out.Write(next.Bytes())
			*next = bytes.Buffer{}
		}
	}
}
