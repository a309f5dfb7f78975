package mbox

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// chunkSize is how many octets are read or written at once.
const chunkSize = 64 << 10

// writeSpan copies a span of a spool file to its place in the mbox. It does not sync.
// From its beginning until the next sync, the end of the mbox counts as torn.
func (b *lockedMbox) writeSpan(ctx context.Context, spool durable.File, sp span) error {
	buf := make([]byte, min(chunkSize, sp.size))
	b.torn = true
	for sp.size > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:min(int64(len(buf)), sp.size)]
		if err := b.readSpool(spool, p, sp.spool); err != nil {
			return err
		}
		if _, err := b.file.WriteAt(p, sp.mbox); err != nil {
			return err
		}
		n := int64(len(p))
		sp = span{spool: sp.spool + n, mbox: sp.mbox + n, size: sp.size - n}
		b.size = max(b.size, sp.mbox)
	}
	return nil
}

// sync makes what was written durable. After that, the end of the mbox is not torn.
func (b *lockedMbox) sync() error {
	if err := b.file.Sync(); err != nil {
		return err
	}
	b.torn = false
	return nil
}

// undoWrite truncates the mbox to the beginning of a span that could not be written or
// synced. What a failed sync leaves must not stay, since it looks right and may never
// reach the disk. The caller knows that what follows the beginning of the span is ours.
// Only if the mbox is longer than the span, another program has written there, and
// undoWrite does nothing.
func (b *lockedMbox) undoWrite(sp span) {
	fi, err := b.file.Stat()
	if err != nil || fi.Size() > sp.mbox+sp.size {
		return
	}
	if fi.Size() > sp.mbox && b.file.Truncate(sp.mbox) != nil {
		return
	}
	if b.sync() == nil {
		b.size = sp.mbox
	}
}

// matchesSpool reports whether that part of a span which the mbox already contains is
// the same as in the spool file. A NUL in the mbox matches any octet, because a power
// cut leaves NULs where the size of a file has reached the disk and its content has not.
func (b *lockedMbox) matchesSpool(spool durable.File, sp span) (bool, error) {
	if sp.size = min(sp.size, b.size-sp.mbox); sp.size < 0 {
		return false, nil
	}
	return b.compareSpan(spool, sp, func(inSpool, inMbox []byte) bool {
		if bytes.Equal(inSpool, inMbox) {
			return true
		}
		for i, c := range inMbox {
			if c != 0 && c != inSpool[i] {
				return false
			}
		}
		return true
	})
}

// compareSpan reports whether equal returns true for all chunks of a span. The mbox
// must contain the whole span.
func (b *lockedMbox) compareSpan(spool durable.File, sp span, equal func(inSpool, inMbox []byte) bool) (bool, error) {
	inSpool, inMbox := make([]byte, min(chunkSize, sp.size)), make([]byte, min(chunkSize, sp.size))
	for at := int64(0); at < sp.size; at += int64(len(inSpool)) {
		n := min(int64(len(inSpool)), sp.size-at)
		inSpool, inMbox = inSpool[:n], inMbox[:n]
		err := errors.Join(b.readSpool(spool, inSpool, sp.spool+at), readFull(b.file, inMbox, sp.mbox+at))
		if err != nil {
			return false, err
		}
		if !equal(inSpool, inMbox) {
			return false, nil
		}
	}
	return true, nil
}

// readSpool is readFull for a spool file.
func (b *lockedMbox) readSpool(spool durable.File, p []byte, at int64) error {
	if err := readFull(spool, p, at); err != nil {
		return b.sink.spool.Error("read a batch", err)
	}
	return nil
}

// readFull reads len(p) octets at an offset, or returns an error.
func readFull(r io.ReaderAt, p []byte, at int64) error {
	n, err := r.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
