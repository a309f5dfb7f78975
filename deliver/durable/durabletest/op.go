package durabletest

import (
	"errors"
	"path"
)

// Verb is the kind of an operation.
type Verb string

// The operations that are numbered. Reading, listing and closing are not.
const (
	Open     Verb = "open" // of a file that exists
	Create   Verb = "create"
	Write    Verb = "write"
	Truncate Verb = "truncate"
	Sync     Verb = "sync"
	Chmod    Verb = "chmod"
	Lock     Verb = "lock"
	Rename   Verb = "rename"
	Remove   Verb = "remove"
	Mkdir    Verb = "mkdir"
	SyncDir  Verb = "syncdir"
	Mark     Verb = "mark" // a step of the test itself: FS.Mark
)

// Op describes an operation that is about to happen.
type Op struct {
	// N is its number, from 1.
	N    int
	Verb Verb
	// Path is the name it is about; To the new name of a rename.
	Path, To string
}

var (
	// ErrCrashed, returned by a hook, kills the process before the operation. From
	// then on every call returns it and has no effect.
	ErrCrashed = errors.New("the process has crashed")
	// ErrSkip, returned by a hook, lets the operation succeed without any effect.
	ErrSkip = errors.New("skip this operation")
)

// OnOp adds a hook, which is called before each numbered operation without any lock
// held. If it returns nil, the operation goes on; for ErrCrashed and ErrSkip see
// there; with any other error, usually a syscall.Errno, the operation fails with that
// error. A write that fails has written the first half.
func (f *FS) OnOp(hook func(Op) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hooks = append(f.hooks, hook)
}

// Skip returns a hook for OnOp that skips an operation on all paths that match a
// pattern of path.Match.
func Skip(verb Verb, pattern string) func(Op) error {
	return func(op Op) error {
		if ok, _ := path.Match(pattern, op.Path); ok && op.Verb == verb {
			return ErrSkip
		}
		return nil
	}
}

// FailNth returns a hook for OnOp that makes the n-th operation of a kind, counted
// from 1, fail with err.
func FailNth(verb Verb, n int, err error) func(Op) error {
	return func(op Op) error {
		if op.Verb != verb {
			return nil
		}
		if n--; n == 0 {
			return err
		}
		return nil
	}
}

// FailAt makes operation number n fail with err.
func (f *FS) FailAt(n int, err error) {
	f.OnOp(func(op Op) error {
		if op.N == n {
			return err
		}
		return nil
	})
}

// CrashAt kills the process before operation n.
func (f *FS) CrashAt(n int) { f.FailAt(n, ErrCrashed) }

// Ops returns how many operations there were.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Mark counts a step of the test itself, such as a record in a journal, as an
// operation, so that the process can crash before it.
func (f *FS) Mark(name string) error {
	_, err := f.runHooks(Op{Verb: Mark, Path: name})
	return err
}

// runHooks numbers an operation and calls the hooks. effect is false if the operation
// is to be skipped.
func (f *FS) runHooks(op Op) (effect bool, err error) {
	f.mu.Lock()
	if f.dead {
		f.mu.Unlock()
		return false, ErrCrashed
	}
	f.ops++
	op.N = f.ops
	hooks := f.hooks
	f.mu.Unlock()

	effect = true
	for _, hook := range hooks {
		switch err := hook(op); {
		case err == nil:
		case errors.Is(err, ErrSkip):
			effect = false
		default:
			if errors.Is(err, ErrCrashed) {
				f.crash()
			}
			return effect, err
		}
	}
	return effect, nil
}

// crash ends the process.
func (f *FS) crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
}
