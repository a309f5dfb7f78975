package main

import (
	"errors"
	"fmt"
	"os"
)

// fakeT is a servertest.TB outside of a test.
type fakeT struct {
	cleanups []func()
	failed   bool
}

// fatalError is what Fatal panics with, for catchFatal.
type fatalError struct{ error }

// catchFatal runs f, and returns the failure if f ends by Fatal or Skipf.
func (t *fakeT) catchFatal(f func()) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case fatalError:
			err = r.error
		default:
			panic(r)
		}
	}()
	f()
	return nil
}

func (t *fakeT) Helper()                         {}
func (t *fakeT) Cleanup(f func())                { t.cleanups = append(t.cleanups, f) }
func (t *fakeT) Failed() bool                    { return t.failed }
func (t *fakeT) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func (t *fakeT) Errorf(format string, args ...any) {
	t.failed = true
	t.Logf(format, args...)
}

func (t *fakeT) Fatal(args ...any) {
	t.failed = true
	panic(fatalError{errors.New(fmt.Sprint(args...))})
}

func (t *fakeT) Fatalf(format string, args ...any) { t.Fatal(fmt.Sprintf(format, args...)) }
func (t *fakeT) Skipf(format string, args ...any)  { t.Fatal(fmt.Sprintf(format, args...)) }

// runCleanups runs what Cleanup was given, the last first.
func (t *fakeT) runCleanups() {
	for len(t.cleanups) > 0 {
		last := len(t.cleanups) - 1
		f := t.cleanups[last]
		t.cleanups = t.cleanups[:last]
		f()
	}
}
