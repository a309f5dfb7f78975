package deliver

import (
	"bytes"
	"io"
)

// LFReader reads a message in wire form from r as a mail store keeps it: LF
// ends a line instead of CRLF. Only a CR directly before an LF is left out;
// any other CR or LF, NUL and 8-bit bytes are passed on, and so is r's error,
// after all that came before it.
func LFReader(r io.Reader) io.Reader { return &lfReader{r: r} }

type lfReader struct {
	r   io.Reader
	cr  bool // a CR was read whose next byte is not known
	err error
	// small and left serve reads too short to hold a CR and what follows it.
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

// read converts in p itself, which has room for two bytes or more.
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

// dropCR turns each CRLF in p into LF and returns the length of what is left.
func dropCR(p []byte) int {
	n, from := 0, 0 // p[:n] is done; p[from:] begins with what was not yet moved
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

// shift copies p[from:to] to p[n:], unless it is there, and returns its length.
func shift(p []byte, n, from, to int) int {
	if n == from {
		return to - from
	}
	return copy(p[n:], p[from:to])
}
