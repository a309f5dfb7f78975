package durabletest

import (
	"errors"
	"path"
)

// Verb is a sort of operation.
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
	Mark     Verb = "mark" // a step of the test's own: FS.Mark
)

// Op is an operation that is about to happen.
type Op struct {
	// N is its number, from 1.
	N    int
	Verb Verb
	// Path is the name it is about; To the new name of a rename.
	Path, To string
}

var (
	// ErrCrashed is what a hook returns to kill the process before an
	// operation, and what every call returns from then on. None of them has
	// an effect.
	ErrCrashed = errors.New("the process has crashed")
	// ErrSkip is what a hook returns to let an operation succeed without
	// having any effect.
	ErrSkip = errors.New("skip this operation")
)

// OnOp has hook called before each numbered operation, without any lock held.
// If it returns nil the operation goes on; ErrCrashed and ErrSkip do as they
// say; with any other error, a syscall.Errno as a rule, the operation fails. A
// write that fails has written the first half.
func (f *FS) OnOp(hook func(Op) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hooks = append(f.hooks, hook)
}

// Skip is a hook for OnOp that leaves out an operation on whatever path.Match
// finds to match a pattern.
func Skip(verb Verb, pattern string) func(Op) error {
	return func(op Op) error {
		if ok, _ := path.Match(pattern, op.Path); ok && op.Verb == verb {
			return ErrSkip
		}
		return nil
	}
}

// FailNth is a hook for OnOp that makes the n-th operation of a kind fail with err,
// counted from 1.
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

// FailAt makes operation n fail.
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

// Ops is how many operations there were.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Mark numbers a step that the test takes itself, a record in a journal, so
// that the process can crash before it.
func (f *FS) Mark(name string) error {
	_, err := f.ask(Op{Verb: Mark, Path: name})
	return err
}

// ask numbers an operation and asks the hooks about it.
func (f *FS) ask(op Op) (effect bool, err error) {
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
