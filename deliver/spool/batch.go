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

	broken error // why the batch can only be aborted
	done   bool  // aborted, or given to Commit
}

// Batch returns an empty batch of the sink whose Profile.Target is target.
func (d *Dir) Batch(target string) Batch { return Batch{dir: d, target: target} }

// Ready is the beginning of a step, as Stage is one. Its error is what broke
// the batch, or the end of ctx.
func (b *Batch) Ready(ctx context.Context, step string) error {
	if b.broken != nil {
		return b.broken
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
		return b.Break(err)
	}
	b.File, b.Name = file, filepath.Base(file.Name())
	return nil
}

// TakeBack cuts off a message that begins at start and could not be kept. It
// returns why.
func (b *Batch) TakeBack(start int64, why error) error {
	if err := b.File.Truncate(start); err != nil && b.broken == nil {
		return b.Break(errors.Join(why, b.dir.Error("truncate a batch", err)))
	}
	return why
}

// Break remembers and returns why the batch can only be aborted.
func (b *Batch) Break(why error) error {
	b.broken = why
	return why
}

// Fault is Break for an error of a file, op being what failed: "write a batch".
func (b *Batch) Fault(op string, err error) error { return b.Break(b.dir.Error(op, err)) }

// Commits is the beginning of Commit, from which on Abort does nothing. Its
// error is what broke the batch.
func (b *Batch) Commits() error {
	if b.broken == nil {
		b.done = true
	}
	return b.broken
}

// Abort implements deliver.Batch.
func (b *Batch) Abort() error {
	if b.done {
		return nil
	}
	b.done = true
	if b.broken == nil {
		b.broken = errors.New("the batch was aborted")
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
