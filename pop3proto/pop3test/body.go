package pop3test

import (
	"bufio"
	"bytes"
	"io"
)

// body is what messages hold; many can share one.
type body struct {
	size int64
	data []byte
	wire func() io.Reader // stuffed, without the final dot
}

func fixedBody(raw []byte) *body { return exactBody(crlf(raw)) }

func exactBody(raw []byte) *body {
	data := bytes.Clone(raw)
	if len(data) > 0 && !bytes.HasSuffix(data, []byte("\r\n")) {
		// The dot that ends a reply stands on a line of its own (RFC 1939
		// §3), so the last line of a message cannot but end in CRLF.
		data = append(data, "\r\n"...)
	}
	return &body{
		size: int64(len(data)),
		data: data,
		wire: func() io.Reader { return &stuffer{src: bytes.NewReader(data)} },
	}
}

// crlf returns raw with every bare LF turned into CRLF.
func crlf(raw []byte) []byte {
	lf := bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(lf, []byte("\n"), []byte("\r\n"))
}

// stuffer turns a message into its wire form: a dot that begins a line is
// doubled (RFC 1939 §3) and the last line ends in CRLF. With fix, a bare LF
// becomes CRLF.
type stuffer struct {
	src   io.Reader
	fix   bool
	mid   bool // in the middle of a line
	cr    bool // the last byte was CR
	in    [8 << 10]byte
	buf   []byte
	out   []byte // of buf, what is still to be read
	ended bool
}

func (s *stuffer) Read(p []byte) (int, error) {
	for len(s.out) == 0 {
		if s.ended {
			return 0, io.EOF
		}
		n, err := s.src.Read(s.in[:])
		s.buf = s.stuff(s.buf[:0], s.in[:n])
		if err == io.EOF {
			s.ended = true
			if s.mid {
				s.buf = append(s.buf, "\r\n"...)
			}
			if c, ok := s.src.(io.Closer); ok {
				c.Close()
			}
		} else if err != nil {
			return 0, err
		}
		s.out = s.buf
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
}

func (s *stuffer) stuff(out, in []byte) []byte {
	for _, c := range in {
		if c == '.' && !s.mid {
			out = append(out, '.')
		}
		if c == '\n' && s.fix && !s.cr {
			out = append(out, '\r')
			s.cr = true
		}
		out = append(out, c)
		s.mid = c != '\n' || !s.cr
		s.cr = c == '\r'
	}
	return out
}

// topReader cuts a message in wire form after n lines of its body (RFC 1939
// §7, TOP).
type topReader struct {
	src    *bufio.Reader
	n      int
	mid    bool // in the middle of a line
	cr     bool // the last byte was CR
	inBody bool
	out    []byte
}

func (t *topReader) Read(p []byte) (int, error) {
	if len(t.out) == 0 {
		if t.inBody && t.n == 0 {
			return 0, io.EOF
		}
		line, err := t.src.ReadSlice('\n')
		if len(line) == 0 {
			return 0, err
		}
		whole := bytes.HasSuffix(line, []byte("\r\n")) || t.cr && len(line) == 1 && line[0] == '\n'
		switch {
		case !t.inBody && !t.mid && len(line) == 2 && whole:
			t.inBody = true
		case t.inBody && whole:
			t.n--
		}
		t.mid, t.cr = !whole, line[len(line)-1] == '\r'
		t.out = line
	}
	n := copy(p, t.out)
	t.out = t.out[n:]
	return n, nil
}
