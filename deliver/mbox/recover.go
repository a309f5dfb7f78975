package mbox

import (
	"context"
	"errors"
	"io/fs"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// recoverAppends repairs the mbox after a process has died while it appended. It
// completes a message that is incomplete, and marks in the spool file which messages of
// that batch are in the mbox. After that, Settle knows of these even if another process
// appends to the mbox or the owner moves them.
//
// Messages of which the mbox contains no octet are left to Settle. Their promises may
// not be in the caller's journal, and then they are fetched again.
func (b *lockedMbox) recoverAppends(ctx context.Context) error {
	names, err := b.sink.spool.List(preparedSuffix(b.path))
	if err != nil {
		return err
	}
	for _, name := range names {
		p, err := b.sink.openPrepared(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = b.recoverBatch(ctx, p)
		_ = p.file.Close()
		if err != nil {
			return err
		}
	}
	b.torn = false
	return nil
}

// recoverBatch is recoverAppends for one batch, if it is for this mbox.
func (b *lockedMbox) recoverBatch(ctx context.Context, p *preparedFile) error {
	if p.Path != durable.EscapePath(b.path) || p.Inode != b.inode {
		return nil
	}
	changed := false
	for n, mark := range p.marks {
		sp := p.spanOf(n)
		if mark == markLanded || mark == markGone || sp.mbox >= b.size {
			continue
		}
		// Check ctx only here: complete would undo a write that ctx interrupts.
		if err := ctx.Err(); err != nil {
			return b.sink.osError("recover", err)
		}
		ok, err := b.matchesSpool(p.file, sp)
		if err != nil {
			return b.sink.osError("compare with the spool", err)
		}
		if !ok {
			continue
		}
		if err := b.complete(ctx, p, n); err != nil {
			return err
		}
		changed = true
	}
	if !changed {
		return nil
	}
	return b.saveMarks(p)
}

// complete writes message n of a batch to its place in the mbox, syncs it, and sets
// its mark. The caller knows that nothing else is there. It writes what is there
// already once more: after a failed sync that may be only in memory, and the kernel
// would not write it again. If complete fails, a message that was complete before
// stays: the caller may have been told that it landed.
func (b *lockedMbox) complete(ctx context.Context, p *preparedFile, n int) error {
	sp := p.spanOf(n)
	wasComplete := b.size >= sp.mbox+sp.size
	err := b.writeSpan(ctx, p.file, sp)
	if err == nil {
		err = b.sync()
	}
	if err != nil {
		if !wasComplete {
			b.undoWrite(sp)
		}
		return b.sink.osError("append", err)
	}
	p.marks[n] = markLanded
	return nil
}

func (b *lockedMbox) saveMarks(p *preparedFile) error {
	if err := p.saveMarks(); err != nil {
		return b.sink.spool.Error("mark a message as landed", err)
	}
	return nil
}
