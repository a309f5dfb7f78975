package pop3proto

import (
	"bytes"
	"io"
)

// dotReader reads the body of a multi-line reply (RFC 1939 §3). It ends at a
// line that holds a single dot, and removes the first dot of any other line that
// begins with one. All other bytes pass unchanged.
//
// Only CRLF ends a line. Servers stuff dots by the same rule, so accepting a
// bare LF would let the author of a mail end its body early and forge the
// replies that follow. The exception is a server whose first line, in the clear
// or after STLS, ended in a bare LF.
type dotReader struct {
	w           *wire
	atLineStart bool  // the next byte begins a line
	err         error // io.EOF, or what broke the client
	octets      int64 // returned so far
}

func newDotReader(w *wire) *dotReader { return &dotReader{w: w, atLineStart: true} }

// next returns the next piece of the body. The piece is part of the wire's
// buffer and valid until the next call. next returns io.EOF only at the end of
// the body.
func (d *dotReader) next() ([]byte, error) {
	if d.err != nil {
		return nil, d.err
	}
	var piece []byte
	piece, d.err = d.readPiece()
	d.octets += int64(len(piece))
	if d.err != nil {
		d.w.traceBody(d.octets, d.err)
	}
	return piece, d.err
}

// readPiece returns the buffered bytes up to the next dot that begins a line.
func (d *dotReader) readPiece() ([]byte, error) {
	if d.atLineStart {
		if err := d.startLine(); err != nil {
			return nil, err
		}
	}
	eol := "\r\n"
	if d.w.eol == eolLF {
		eol = "\n"
	}
	for {
		b := d.w.buffered()
		n := len(b)
		if i := indexLineDot(b, eol); i >= 0 {
			n = i
			d.atLineStart = true
		} else if bytes.HasSuffix(b, []byte(eol)) {
			d.atLineStart = true
		} else if bytes.HasSuffix(b, []byte("\r")) {
			n-- // it may be the first half of a CRLF
		}
		if n > 0 {
			d.w.start += n
			return b[:n], nil
		}
		if err := d.w.fill(); err != nil {
			return nil, err
		}
	}
}

// startLine consumes the dot that begins a stuffed line. It returns io.EOF if
// the line ends the body.
func (d *dotReader) startLine() error {
	const terminator = ".\r\n"
	for {
		b := d.w.buffered()
		switch {
		case bytes.HasPrefix(b, []byte(terminator)):
			d.w.start += len(terminator)
			return io.EOF
		case d.w.eol == eolLF && bytes.HasPrefix(b, []byte(".\n")):
			d.w.start += len(".\n")
			return io.EOF
		case len(b) < len(terminator) && string(b) == terminator[:len(b)]:
			if err := d.w.fill(); err != nil {
				return err
			}
			continue
		case b[0] == '.':
			d.w.start++
		}
		d.atLineStart = false
		return nil
	}
}

// indexLineDot returns the index of the first dot in b that follows an eol, or
// -1. Most mail has fewer dots than lines, so it searches for dots first; in
// text with many dots it searches for eol and dot together.
func indexLineDot(b []byte, eol string) int {
	offset := 0
	for dots := 0; dots <= len(b)/32; dots++ {
		i := bytes.IndexByte(b[offset:], '.')
		if i < 0 {
			return -1
		}
		offset += i
		if bytes.HasSuffix(b[:offset], []byte(eol)) {
			return offset
		}
		offset++
	}
	if i := bytes.Index(b[offset:], []byte(eol+".")); i >= 0 {
		return offset + i + len(eol)
	}
	return -1
}
