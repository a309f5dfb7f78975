package pop3test

import (
	"bufio"
	"bytes"
	"io"
)

// ending is a reply that only ends the session.
type ending struct{ end End }

func (e ending) Read([]byte) (int, error) { return 0, e.end }

// chunks reads what next appends to an empty slice, until it appends nothing.
type chunks struct {
	next func([]byte) []byte
	buf  []byte
	rest []byte
}

func (c *chunks) Read(p []byte) (int, error) {
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

// cut ends the session after left bytes.
type cut struct {
	src  io.Reader
	left int64
	end  End
}

func (c *cut) Read(p []byte) (int, error) {
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

// trickle reads one byte a tick.
type trickle struct {
	src  io.Reader
	x    *Exchange
	tick <-chan struct{}
}

func (t *trickle) Read(p []byte) (int, error) {
	if !t.x.Wait(t.tick) {
		return 0, HangUp
	}
	return t.src.Read(p[:1])
}

// retail replaces the last bytes of a reply, if they are tail.
type retail struct {
	src         *bufio.Reader
	tail, other string
	end         *bytes.Reader // the new tail, once the old one was met
}

func newRetail(src io.Reader, tail, other string) *retail {
	return &retail{src: bufio.NewReader(src), tail: tail, other: other}
}

func (r *retail) Read(p []byte) (int, error) {
	if r.end != nil {
		return r.end.Read(p)
	}
	b, err := r.src.Peek(len(r.tail) + 1)
	if err == nil {
		safe := r.src.Buffered() - len(r.tail)
		return r.src.Read(p[:min(len(p), safe)])
	}
	if string(b) != r.tail {
		return r.src.Read(p)
	}
	r.end = bytes.NewReader([]byte(r.other))
	return r.end.Read(p)
}

// bareLF drops the CR of each CRLF.
type bareLF struct{ src *bufio.Reader }

func (b *bareLF) Read(p []byte) (n int, err error) {
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
			break // hand on what is there before src is made to wait
		}
	}
	return n, nil
}
