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

// Settle implements deliver.Sink. Once it has locked the mbox, a message that
// was begun is there and marked. One that was not begun, it appends if the
// mbox still ends where the message belongs. If the mbox has changed, it looks
// for the message everywhere in it, and answers Unknown if it is not there. A
// token that it cannot read is Unknown too.
//
// Without its spool file, a message counts as landed if it is in its place.
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
		b, err = nil, nil // its directory is there, and it is not
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

// settleBySpool answers for message n of a batch. b is nil if the mbox is
// gone.
func (s *Sink) settleBySpool(ctx context.Context, b *box, p *preparedFile, n int) (deliver.Verdict, error) {
	switch {
	case p.marks[n] == markLanded:
		// A mark may be younger than the last sync.
		if err := p.file.Sync(); err != nil {
			return deliver.Unknown, s.spool.Error("sync a batch", err)
		}
		return deliver.Landed, nil
	case p.marks[n] == markGone:
		return deliver.Unknown, nil
	case b == nil:
		p.marks[n] = markGone
	case p.Inode == b.inode && p.spanOf(n).mbox == b.size:
		if err := b.land(ctx, p, n); err != nil {
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
		// Sweep removes the file: until then, whoever asks again is told the
		// same, wherever the owner has moved the mail.
		return deliver.Landed, nil
	}
	return deliver.Unknown, nil
}

// settleByToken answers when the spool file is gone: after Commit, if its
// caller did not journal what it was told.
func (b *box) settleByToken(t token) (deliver.Verdict, error) {
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
