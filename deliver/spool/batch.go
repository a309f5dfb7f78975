package spool

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
)

// Batch is what the batches of those sinks have in common that keep their
// messages in the spool until Commit, most of them in one file, one behind the
// other. They embed it.
type Batch struct {
	dir    *Dir
	target string
	// File is open for reading and writing, and Name is what the Dir calls it;
	// nil and empty until there is a message.
	File durable.File
	Name string

	err      error // why the batch can only be aborted
	finished bool  // aborted, or given to Commit
}

// Batch returns an empty batch of the sink whose Profile.Target is target.
func (d *Dir) Batch(target string) Batch { return Batch{dir: d, target: target} }

// Check is the beginning of a step, as Stage is one. Its error is what broke
// the batch, or the end of ctx.
func (b *Batch) Check(ctx context.Context, step string) error {
	if b.err != nil {
		return b.err
	}
	if err := ctx.Err(); err != nil {
		return &deliver.Error{Fault: deliver.FaultTemporary, Target: b.target, Op: step, Err: err}
	}
	return nil
}

// Open creates the file, unless it is there.
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

// TruncateTo cuts off a message that begins at start and could not be kept. It
// returns why.
func (b *Batch) TruncateTo(start int64, why error) error {
	if err := b.File.Truncate(start); err != nil && b.err == nil {
		return b.Fail(errors.Join(why, b.dir.Error("truncate a batch", err)))
	}
	return why
}

// Fail remembers and returns why the batch can only be aborted.
func (b *Batch) Fail(why error) error {
	b.err = why
	return why
}

// FailFile is Break for an error of a file, op being what failed: "write a batch".
func (b *Batch) FailFile(op string, err error) error { return b.Fail(b.dir.Error(op, err)) }

// BeginCommit is the beginning of Commit, from which on Abort does nothing. Its
// error is what broke the batch.
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

// Discard closes and removes the file.
func (b *Batch) Discard() error {
	if b.File == nil {
		return nil
	}
	_ = b.File.Close()
	return b.dir.Remove(b.Name)
}
