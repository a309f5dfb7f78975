package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"
)

// output is the standard output of a run. Its first error is permanent, as with
// bufio.Writer, so that code which writes line by line need not check for errors.
type output struct {
	w io.Writer

	mu  sync.Mutex
	err error
}

func (o *output) Write(p []byte) (n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		n, o.err = o.w.Write(p)
	}
	return n, o.err
}

// resultOf returns the error of a run whose command returned err. A failed write to the
// output counts unless the command failed for another reason. A reader that closed the
// pipe is no failure. If a write still hangs, it is ignored: the run was hung up.
func (o *output) resultOf(err error) error {
	if !o.mu.TryLock() {
		return err
	}
	defer o.mu.Unlock()
	if o.err == nil {
		return err
	}
	_, isOutcome := errors.AsType[*outcome](err)
	pipeClosed := errors.Is(o.err, syscall.EPIPE)
	switch {
	case err == o.err && pipeClosed:
		return nil
	case !pipeClosed && (err == nil || isOutcome || err == o.err):
		return incompleteOutput(o.err)
	}
	return err
}

// incompleteOutput returns the failure of a run whose output could not be written.
func incompleteOutput(err error) error {
	return &failure{fmt.Errorf("the output is not complete: %w", err), exitMachine, ""}
}

// abandonableWriter is a writer whose writes may block for as long as its reader pauses.
// Once it is abandoned they do no more, so that a run that was hung up can end although
// nobody reads its output.
type abandonableWriter struct {
	to        io.Writer
	abandoned chan struct{}

	mu      sync.Mutex
	stalled bool // a write timed out after abandon; later ones are dropped
}

// abandonedWriteTimeout bounds a write that is pending at, or begins after, abandon.
const abandonedWriteTimeout = time.Second

func newAbandonableWriter(to io.Writer) *abandonableWriter {
	return &abandonableWriter{to: to, abandoned: make(chan struct{})}
}

func (w *abandonableWriter) abandon() { close(w.abandoned) }

func (w *abandonableWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stalled {
		return len(p), nil // not an error: zerolog would report it to standard error
	}
	text := bytes.Clone(p) // the caller may reuse p after a timeout, while the write hangs
	done := make(chan error, 1)
	go func() {
		_, err := w.to.Write(text)
		done <- err
	}()
	select {
	case err := <-done:
		return len(p), err
	case <-w.abandoned:
	}
	select {
	case err := <-done:
		return len(p), err
	case <-time.After(abandonedWriteTimeout):
		w.stalled = true
		return len(p), nil
	}
}
