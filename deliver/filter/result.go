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
	// Keep means that the message that Result.Open returns is delivered to the sink.
	Keep Verdict = iota
	// Drop means that the message is deleted and not delivered.
	Drop
	// Quarantine means that the message that Result.Open returns is quarantined.
	Quarantine
)

// Result is the result of Filter.Run for a message. It must be closed.
type Result struct {
	// Verdict is what is to become of the message.
	Verdict Verdict
	// Warning says, for a person, why the message is delivered unfiltered, and what to do.
	// It is empty if nothing went wrong.
	Warning string

	spool   *spool.Dir
	files   []durable.File // to be removed by Close
	message file           // what Open returns
}

// file is a file of the spool that has a message of size octets.
type file struct {
	durable.File
	size int64
}

// Open returns a reader of the message in wire form: the output of the program, or the
// original message. It can be called several times. The readers are invalid after Close.
func (r *Result) Open() io.Reader { return io.NewSectionReader(r.message, 0, r.message.size) }

// Close removes the message from the spool. If a file cannot be removed, Sweep removes it.
func (r *Result) Close() error {
	var err error
	for _, f := range r.files {
		err = errors.Join(err, f.Close(), r.spool.Remove(filepath.Base(f.Name())))
	}
	r.files = nil
	return err
}

// create creates a file that Close removes.
func (r *Result) create(account string) (durable.File, error) {
	f, err := r.spool.Create(account)
	if err == nil {
		r.files = append(r.files, f)
	}
	return f, err
}
