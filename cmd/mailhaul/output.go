package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// output is the standard output of a run. It takes no more after an error, which it
// keeps: what is written line by line need not look for one.
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

// verdict returns how a run ended that ended with err: in trouble of this machine
// if what it had to say could not be written. A reader that goes away has heard
// enough, and for one who does not read, a run that was hung up waits no more.
func (o *output) verdict(err error) error {
	if !o.mu.TryLock() {
		return err
	}
	defer o.mu.Unlock()
	_, told := errors.AsType[*outcome](err)
	switch {
	case o.err == nil:
		return err
	case !errors.Is(o.err, syscall.EPIPE) && (err == nil || told || err == o.err):
		return incomplete(o.err)
	case err == o.err:
		return nil
	}
	return err
}

// incomplete returns the error of a standard output that could not be written
// to the end.
func incomplete(err error) error {
	return &failure{fmt.Errorf("the output is not complete: %w", err), exitMachine, ""}
}

// leavable is an output that waits for who reads it, until it is left: then not for
// long, since who hangs up must end though nobody reads.
type leavable struct {
	to   io.Writer
	left chan struct{}

	mu     sync.Mutex
	unread bool // since it was left, nobody has read: nothing more is written
}

// lastWords is how long an output that was left waits for who reads it.
const lastWords = time.Second

func newLeavable(to io.Writer) *leavable { return &leavable{to: to, left: make(chan struct{})} }

func (l *leavable) leave() { close(l.left) }

func (l *leavable) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unread {
		return len(p), nil // an error would be told of in the same place, as zerolog does
	}
	text := bytes.Clone(p) // its caller may use p again while nobody reads
	done := make(chan error, 1)
	go func() {
		_, err := l.to.Write(text)
		done <- err
	}()
	select {
	case err := <-done:
		return len(p), err
	case <-l.left:
	}
	select {
	case err := <-done:
		return len(p), err
	case <-time.After(lastWords):
		l.unread = true
		return len(p), nil
	}
}

// fileOf returns the file that is written to in the end, nil if it is none.
func fileOf(w io.Writer) *os.File {
	for {
		switch above := w.(type) {
		case *output:
			w = above.w
		case *aboveLines:
			w = above.w
		case *backlog:
			w = above.out
		case *leavable:
			w = above.to
		case turn:
			w = above.out
		case *os.File:
			return above
		default:
			return nil
		}
	}
}
