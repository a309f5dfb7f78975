package mbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
)

// Settle implements deliver.Sink. Locking the mbox completes and marks a message of which
// a part was written. If nothing of it was written, Settle appends it, provided that the
// mbox still ends where the message belongs. If the mbox has changed, Settle searches all
// of it for the message, and returns Unknown if it does not find it. For a token that it
// cannot read, it returns Unknown.
//
// If the spool file is gone, the message has landed if it is at its offset in the mbox.
func (s *Sink) Settle(ctx context.Context, promise string) (deliver.Verdict, error) {
	if err := ctx.Err(); err != nil {
		return deliver.Unknown, s.osError("settle", err)
	}
	t, path, ok := parseToken(promise)
	if !ok {
		return deliver.Unknown, nil
	}
	b, err := s.lock(ctx, path, t.Spool, false)
	if errors.Is(err, fs.ErrNotExist) && s.checkPath(path) == nil {
		b, err = nil, nil // only the mbox is missing, not its directory
	}
	if err != nil {
		return deliver.Unknown, err
	}
	if b != nil {
		defer b.unlock()
	}

	p, err := s.openPrepared(t.Spool)
	if errors.Is(err, fs.ErrNotExist) || err == nil && t.N >= len(p.Ends) {
		if err == nil {
			_ = p.file.Close()
		}
		return b.settleByToken(t)
	}
	if err != nil {
		return deliver.Unknown, err
	}
	defer p.file.Close()
	return s.settleBySpool(ctx, b, p, t.N)
}

// Made implements deliver.Sink.
func (s *Sink) Made(promise string) bool {
	_, path, ok := parseToken(promise)
	return ok && path == durable.RealPath(s.path)
}

// settleBySpool settles message n of a batch. b is nil if the mbox does not exist.
func (s *Sink) settleBySpool(ctx context.Context, b *lockedMbox, p *preparedFile, n int) (deliver.Verdict, error) {
	switch {
	case p.marks[n] == markLanded:
		// The mark may not have been synced.
		if err := p.file.Sync(); err != nil {
			return deliver.Unknown, s.spool.Error("sync a batch", err)
		}
		return deliver.Landed, nil
	case p.marks[n] == markGone:
		return deliver.Unknown, nil
	case b == nil:
		p.marks[n] = markGone
	case p.Inode == b.inode && p.spanOf(n).mbox == b.size:
		if err := b.complete(ctx, p, n); err != nil {
			return deliver.Unknown, err
		}
	default:
		found, err := b.contains(ctx, p, n)
		if err == nil && found {
			err = b.sync()
		}
		if err != nil {
			return deliver.Unknown, s.osError("search", err)
		}
		p.marks[n] = markGone
		if found {
			p.marks[n] = markLanded
		}
	}
	if len(bytes.Trim(p.marks, string(markGone))) == 0 {
		return deliver.Unknown, s.spool.Remove(p.name)
	}
	if err := p.saveMarks(); err != nil {
		return deliver.Unknown, s.spool.Error("mark a message as settled", err)
	}
	if p.marks[n] == markLanded {
		// The file stays until Sweep, so that Settle returns the same again, even if
		// the owner moves the message.
		return deliver.Landed, nil
	}
	return deliver.Unknown, nil
}

// settleByToken settles a message whose spool file is gone, as it is after a Commit whose
// receipts the caller could not record. b is nil if the mbox does not exist.
func (b *lockedMbox) settleByToken(t token) (deliver.Verdict, error) {
	if b == nil {
		return deliver.Unknown, nil
	}
	sum := sha256.New()
	n, err := io.Copy(sum, io.NewSectionReader(b.file, t.Offset, t.Length))
	if err != nil {
		return deliver.Unknown, b.sink.osError("read", err)
	}
	if n != t.Length || hex.EncodeToString(sum.Sum(nil)) != t.Sum {
		return deliver.Unknown, nil
	}
	if err := b.sync(); err != nil {
		return deliver.Unknown, b.sink.osError("sync", err)
	}
	return deliver.Landed, nil
}
