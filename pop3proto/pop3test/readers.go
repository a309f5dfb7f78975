package pop3test

import (
	"bufio"
	"io"
)

// endReader is an empty reply that ends the session.
type endReader struct{ end End }

func (e endReader) Read([]byte) (int, error) { return 0, e.end }

// chunkReader reads what next appends to an empty slice, until it appends nothing.
type chunkReader struct {
	next func([]byte) []byte
	buf  []byte
	rest []byte
}

func (c *chunkReader) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		c.buf = c.next(c.buf[:0])
		c.rest = c.buf
	}
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// cutReader ends the session after left bytes.
type cutReader struct {
	src  io.Reader
	left int64
	end  End
}

func (c *cutReader) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, c.end
	}
	n, err := c.src.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if c.left == 0 {
		err = c.end
	}
	return n, err
}

// trickleReader returns one byte for each tick.
type trickleReader struct {
	src  io.Reader
	x    *Exchange
	tick <-chan struct{}
}

func (t *trickleReader) Read(p []byte) (int, error) {
	if !t.x.Wait(t.tick) {
		return 0, HangUp
	}
	return t.src.Read(p[:1])
}

// noFinalCRLFReader omits the CRLF before the dot that ends a reply.
type noFinalCRLFReader struct{ src *bufio.Reader }

func (u *noFinalCRLFReader) Read(p []byte) (int, error) {
	const tail = "\r\n.\r\n"
	b, err := u.src.Peek(len(tail) + 1)
	if err == nil {
		safe := u.src.Buffered() - len(tail)
		return u.src.Read(p[:min(len(p), safe)])
	}
	if string(b) == tail {
		u.src.Discard(len("\r\n"))
	}
	return u.src.Read(p)
}

// bareLFReader drops the CR of each CRLF.
type bareLFReader struct{ src *bufio.Reader }

func (b *bareLFReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		c, err := b.src.ReadByte()
		if err != nil {
			return n, err
		}
		if c == '\r' {
			if next, _ := b.src.Peek(1); string(next) == "\n" {
				continue
			}
		}
		p[n] = c
		n++
		if b.src.Buffered() == 0 {
			break // return what there is before src has to wait
		}
	}
	return n, nil
}
