package filter

import (
	"errors"
	"io"
	"path/filepath"

	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

// Verdict is what is to become of a message.
type Verdict int

const (
	// Keep: what Result.Open returns goes to the sink.
	Keep Verdict = iota
	// Drop: nothing goes on. The message was asked to be deleted.
	Drop
	// Quarantine: it goes to the quarantine.
	Quarantine
)

// Result is what came of showing a message to a filter. It must be closed.
type Result struct {
	// Verdict is what is to become of the message.
	Verdict Verdict
	// Warning says, for a person, why the message goes on unfiltered, and what to
	// do. It is empty if nothing went wrong.
	Warning string

	spool   *spool.Dir
	files   []file
	message file // what goes on
}

// file is a file of the spool and how much was written to it.
type file struct {
	durable.File
	size int64
}

// Open returns the message that goes on, from its beginning and in wire form:
// what the filter made of it, or the original. It can be called again; all its
// readers end with Close.
func (r *Result) Open() io.Reader { return io.NewSectionReader(r.message, 0, r.message.size) }

// Close removes the message from the spool. Whatever happens to it after that
// is no concern of the filter's; what could not be removed, Sweep removes.
func (r *Result) Close() error {
	var err error
	for _, f := range r.files {
		err = errors.Join(err, f.Close(), r.spool.Remove(filepath.Base(f.Name())))
	}
	r.files = nil
	return err
}

func (r *Result) create(account string) (durable.File, error) {
	f, err := r.spool.Create(account)
	if err == nil {
		r.files = append(r.files, file{File: f})
	}
	return f, err
}
