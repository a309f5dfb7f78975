package deliver

import (
	"bytes"
	"io"
)

// LFReader returns a reader that converts a message in wire form to the form of a
// mail store: it drops each CR directly before an LF. Every other byte is passed
// on unchanged, bare CR, bare LF and NUL included.
func LFReader(r io.Reader) io.Reader { return &lfReader{r: r} }

type lfReader struct {
	r   io.Reader
	cr  bool // the last byte read was a CR, which is held back
	err error
	// small serves reads of one byte, which cannot hold a CR and the byte after
	// it. left is the part of small not yet returned.
	small [16]byte
	left  []byte
}

func (r *lfReader) Read(p []byte) (int, error) {
	if len(r.left) == 0 && len(p) >= 2 {
		return r.read(p)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if len(r.left) == 0 {
		n, err := r.read(r.small[:])
		if n == 0 {
			return 0, err
		}
		r.left = r.small[:n]
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// read reads into p and converts it in place. p must have room for two bytes.
func (r *lfReader) read(p []byte) (int, error) {
	for r.err == nil {
		n := 0
		if r.cr {
			p[0] = '\r'
			n = 1
		}
		var m int
		m, r.err = r.r.Read(p[n:])
		n += m
		if r.cr = r.err == nil && n > 0 && p[n-1] == '\r'; r.cr {
			n--
		}
		if n = dropCR(p[:n]); n > 0 || m == 0 {
			return n, r.err
		}
	}
	return 0, r.err
}

// dropCR turns each CRLF in p into LF and returns the new length.
func dropCR(p []byte) int {
	n, from := 0, 0 // p[:n] is converted; p[from:] is not yet moved
	for at := 0; ; {
		i := bytes.IndexByte(p[at:], '\r')
		if i < 0 {
			break
		}
		at += i + 1
		if at < len(p) && p[at] == '\n' {
			n += shift(p, n, from, at-1)
			from = at
		}
	}
	return n + shift(p, n, from, len(p))
}

// shift moves p[from:to] to p[n:] and returns its length.
func shift(p []byte, n, from, to int) int {
	if n == from {
		return to - from
	}
	return copy(p[n:], p[from:to])
}
