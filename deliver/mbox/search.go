package mbox

import (
	"bytes"
	"context"
	"errors"
	"io"
)

// contains reports whether message n of a batch is anywhere in the mbox, octet
// for octet.
func (b *lockedMbox) contains(ctx context.Context, p *preparedFile, n int) (bool, error) {
	sp := p.textSpan(n) // another message may come before it now
	needle := make([]byte, min(1<<10, sp.size))
	if err := b.readSpool(p.file, needle, sp.spool); err != nil {
		return false, err
	}
	window := make([]byte, chunkSize)
	for at := int64(0); at+sp.size <= b.size; {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		got, err := b.file.ReadAt(window, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		for from := 0; ; from++ {
			i := bytes.Index(window[from:got], needle)
			if i < 0 {
				break
			}
			from += i
			if sp.mbox = at + int64(from); sp.mbox+sp.size > b.size {
				return false, nil
			}
			if same, err := b.compareSpan(p.file, sp, bytes.Equal); same || err != nil {
				return same, err
			}
		}
		if got < len(window) {
			return false, nil
		}
		at += int64(got - len(needle) + 1)
	}
	return false, nil
}
