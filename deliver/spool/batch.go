package spool

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
)

// Batch is the common part of the batches of sinks that keep messages in the spool until
// Commit. These embed it. Most of them write all messages into File.
type Batch struct {
	dir    *Dir
	target string
	// File is open for reading and writing, and Name is its name in the Dir. They are
	// nil and empty until Open.
	File durable.File
	Name string

	err      error // why the batch can only be aborted
	finished bool  // Abort or BeginCommit was called
}

// Batch returns an empty batch of the sink whose Profile.Target is target.
func (d *Dir) Batch(target string) Batch { return Batch{dir: d, target: target} }

// Check is called at the beginning of a step: "stage", "prepare". It returns an error if
// the batch can only be aborted, or if ctx has ended.
func (b *Batch) Check(ctx context.Context, step string) error {
	if b.err != nil {
		return b.err
	}
	if err := ctx.Err(); err != nil {
		return &deliver.Error{Fault: deliver.FaultTemporary, Target: b.target, Op: step, Err: err}
	}
	return nil
}

// Open creates File, unless it exists.
func (b *Batch) Open(account string) error {
	if b.File != nil {
		return nil
	}
	file, err := b.dir.Create(account)
	if err != nil {
		return b.Fail(err)
	}
	b.File, b.Name = file, filepath.Base(file.Name())
	return nil
}

// TruncateTo removes a message that begins at start from the end of File, because of the
// error why. It returns that error, joined with its own if it fails.
func (b *Batch) TruncateTo(start int64, why error) error {
	if err := b.File.Truncate(start); err != nil && b.err == nil {
		return b.Fail(errors.Join(why, b.dir.Error("truncate a batch", err)))
	}
	return why
}

// Fail records and returns why the batch can only be aborted.
func (b *Batch) Fail(why error) error {
	b.err = why
	return why
}

// FailFile is Fail for an error of File. op says what failed: "write a batch".
func (b *Batch) FailFile(op string, err error) error { return b.Fail(b.dir.Error(op, err)) }

// BeginCommit is called at the beginning of Commit. After it, Abort does nothing. It
// returns an error if the batch can only be aborted.
func (b *Batch) BeginCommit() error {
	if b.err == nil {
		b.finished = true
	}
	return b.err
}

// Abort implements deliver.Batch.
func (b *Batch) Abort() error {
	if b.finished {
		return nil
	}
	b.finished = true
	if b.err == nil {
		b.err = errors.New("the batch was aborted")
	}
	return b.Discard()
}

// Discard closes and removes File.
func (b *Batch) Discard() error {
	if b.File == nil {
		return nil
	}
	_ = b.File.Close()
	return b.dir.Remove(b.Name)
}
