package mbox

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

const chunkSize = 64 << 10

// writeSpan copies a span of a spool file to its place in the mbox. It does not
// sync. If it fails, the end of the mbox may be torn.
func (b *box) writeSpan(ctx context.Context, spool durable.File, sp span) error {
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

// sync makes what was written durable, and with it the end of the mbox whole.
func (b *box) sync() error {
	if err := b.file.Sync(); err != nil {
		return err
	}
	b.torn = false
	return nil
}

// undoWrite cuts the mbox off at the beginning of a span that could not be
// written or synced, unless it goes on behind the span: then that is not ours.
// Everything from there on must be known to be ours. What a failed sync leaves
// behind must not stay, since it looks right and may never reach the disk.
func (b *box) undoWrite(sp span) {
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

// matchesSpool reports whether what the mbox has of a span is as the spool has it. A
// NUL fits anything: a power cut leaves a hole where the size of a file had
// reached the disk and its content had not.
func (b *box) matchesSpool(spool durable.File, sp span) (bool, error) {
	if sp.size = min(sp.size, b.size-sp.mbox); sp.size < 0 {
		return false, nil
	}
	return b.comparePieces(spool, sp, func(ours, there []byte) bool {
		if bytes.Equal(ours, there) {
			return true
		}
		for i, c := range there {
			if c != 0 && c != ours[i] {
				return false
			}
		}
		return true
	})
}

// comparePieces reports whether each piece of a span in the spool is alike its piece
// in the mbox, which reaches that far.
func (b *box) comparePieces(spool durable.File, sp span, alike func(ours, there []byte) bool) (bool, error) {
	ours, there := make([]byte, min(chunkSize, sp.size)), make([]byte, min(chunkSize, sp.size))
	for at := int64(0); at < sp.size; at += int64(len(ours)) {
		n := min(int64(len(ours)), sp.size-at)
		ours, there = ours[:n], there[:n]
		if err := errors.Join(b.readSpool(spool, ours, sp.spool+at), readFull(b.file, there, sp.mbox+at)); err != nil {
			return false, err
		}
		if !alike(ours, there) {
			return false, nil
		}
	}
	return true, nil
}

// readSpool is readFull for a spool file.
func (b *box) readSpool(spool durable.File, p []byte, at int64) error {
	if err := readFull(spool, p, at); err != nil {
		return b.sink.spool.Error("read a batch", err)
	}
	return nil
}

// readFull reads all of p or returns an error.
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
