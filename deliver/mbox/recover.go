package mbox

import (
	"context"
	"errors"
	"io/fs"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// recoverAppends puts right what a process left that died while it appended: it
// completes a message that is half there, and notes which messages of that
// batch are there. From now on others can append behind them, and their owner
// can take them, without making Settle guess.
//
// Messages of which the mbox has not a byte are left to Settle: their
// promises may never have been journalled, and then nobody asks.
func (b *box) recoverAppends(ctx context.Context) error {
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

func (b *box) recoverBatch(ctx context.Context, p *preparedFile) error {
	if p.Path != durable.EscapePath(b.path) || p.Inode != b.inode {
		return nil
	}
	changed := false
	for n, mark := range p.marks {
		sp := p.spanOf(n)
		if mark == markLanded || mark == markGone || sp.mbox >= b.size {
			continue
		}
		// Not later: a write that is not finished is taken back.
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
		if err := b.land(ctx, p, n); err != nil {
			return err
		}
		changed = true
	}
	if !changed {
		return nil
	}
	return b.saveMarks(p)
}

// land writes a message that is known to fit and syncs it. What is there
// already is written once more: after a failed sync it may be in memory only,
// and would never be written again by itself. If that fails, what was there as a
// whole stays: the caller may have been told that it landed.
func (b *box) land(ctx context.Context, p *preparedFile, n int) error {
	sp := p.spanOf(n)
	whole := b.size >= sp.mbox+sp.size
	err := b.writeSpan(ctx, p.file, sp)
	if err == nil {
		err = b.sync()
	}
	if err != nil {
		if !whole {
			b.undoWrite(sp)
		}
		return b.sink.osError("append", err)
	}
	p.marks[n] = markLanded
	return nil
}

func (b *box) saveMarks(p *preparedFile) error {
	if err := p.saveMarks(); err != nil {
		return b.sink.spool.Error("mark a message as landed", err)
	}
	return nil
}
