package pop3proto

import (
	"bytes"
	"io"
)

// dot reads the body of a multi-line reply (RFC 1939 §3): it ends at a line
// that is a dot alone, and of every other line that begins with a dot that
// dot is taken away. All else passes untouched.
//
// A line begins after CRLF and nowhere else. Servers stuff dots by the same
// rule, so whoever took a bare LF for a line end would let a mail's author
// end its body early and forge the replies that follow. Only a server whose
// greeting ended in a bare LF, or behind STLS its first reply, has lines that
// end in LF.
type dot struct {
	w      *wire
	begin  bool  // the next byte begins a line
	err    error // how it ended, io.EOF or what broke the client
	octets int64
}

func newDot(w *wire) *dot { return &dot{w: w, begin: true} }

// next returns the next piece of the body, a part of the wire's buffer that
// is valid until the next call. It returns io.EOF at the end of the body, and
// only there.
func (d *dot) next() ([]byte, error) {
	if d.err != nil {
		return nil, d.err
	}
	var piece []byte
	piece, d.err = d.piece()
	d.octets += int64(len(piece))
	if d.err != nil {
		d.w.traceBody(d.octets, d.err)
	}
	return piece, d.err
}

func (d *dot) piece() ([]byte, error) {
	if d.begin {
		if err := d.unstuff(); err != nil {
			return nil, err
		}
	}
	eol := "\r\n"
	if d.w.ends == endLF {
		eol = "\n"
	}
	for {
		b := d.w.pending()
		n := len(b)
		if i := dotAfter(b, eol); i >= 0 {
			n = i
			d.begin = true
		} else if bytes.HasSuffix(b, []byte(eol)) {
			d.begin = true
		} else if bytes.HasSuffix(b, []byte("\r")) {
			n-- // it may be the half of a CRLF
		}
		if n > 0 {
			d.w.r += n
			return b[:n], nil
		}
		if err := d.w.fill(); err != nil {
			return nil, err
		}
	}
}

// unstuff looks at the beginning of a line. It returns io.EOF if the line
// ends the body.
func (d *dot) unstuff() error {
	const end = ".\r\n"
	for {
		b := d.w.pending()
		switch {
		case bytes.HasPrefix(b, []byte(end)):
			d.w.r += len(end)
			return io.EOF
		case d.w.ends == endLF && bytes.HasPrefix(b, []byte(".\n")):
			d.w.r += 2
			return io.EOF
		case len(b) < len(end) && string(b) == end[:len(b)]:
			if err := d.w.fill(); err != nil {
				return err
			}
			continue
		case b[0] == '.':
			d.w.r++
		}
		d.begin = false
		return nil
	}
}

// dotAfter returns the index of the first dot in b that follows an eol, -1 if
// there is none. Most mail has fewer dots than lines, so it looks for those;
// what is full of dots is not to be slow.
func dotAfter(b []byte, eol string) int {
	at := 0
	for dots := 0; dots <= len(b)/32; dots++ {
		i := bytes.IndexByte(b[at:], '.')
		if i < 0 {
			return -1
		}
		at += i
		if bytes.HasSuffix(b[:at], []byte(eol)) {
			return at
		}
		at++
	}
	if i := bytes.Index(b[at:], []byte(eol+".")); i >= 0 {
		return at + i + len(eol)
	}
	return -1
}
