package pop3test

import (
	"bufio"
	"bytes"
	"io"
)

// body is the content of a message. Many messages can share one.
type body struct {
	size int64
	data []byte
	wire func() io.Reader // dot-stuffed, without the final dot
}

func repairedBody(raw []byte) *body { return exactBody(repairLineEnds(raw)) }

func exactBody(raw []byte) *body {
	data := bytes.Clone(raw)
	if len(data) > 0 && !bytes.HasSuffix(data, []byte("\r\n")) {
		// The dot that ends a reply is a line of its own (RFC 1939 §3), so the last
		// line of a message must end in CRLF.
		data = append(data, "\r\n"...)
	}
	return &body{
		size: int64(len(data)),
		data: data,
		wire: func() io.Reader { return &stuffer{src: bytes.NewReader(data)} },
	}
}

// repairLineEnds returns raw with CRLF in place of every bare LF.
func repairLineEnds(raw []byte) []byte {
	lf := bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(lf, []byte("\n"), []byte("\r\n"))
}

// stuffer converts a message to its wire form: it doubles a dot that begins a line (RFC
// 1939 §3), and ends the last line in CRLF.
type stuffer struct {
	src     io.Reader
	repair  bool // replace bare LF with CRLF
	inLine  bool // in the middle of a line
	afterCR bool // the last byte was CR
	in      [8 << 10]byte
	buf     []byte
	out     []byte // of buf, what is still to be read
	ended   bool
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
			if s.inLine {
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
		if c == '.' && !s.inLine {
			out = append(out, '.')
		}
		if c == '\n' && s.repair && !s.afterCR {
			out = append(out, '\r')
			s.afterCR = true
		}
		out = append(out, c)
		s.inLine = c != '\n' || !s.afterCR
		s.afterCR = c == '\r'
	}
	return out
}

// topReader ends a message in wire form after some lines of its body (RFC 1939 §7, TOP).
type topReader struct {
	src     *bufio.Reader
	lines   int
	inLine  bool // in the middle of a line
	afterCR bool // the last byte was CR
	inBody  bool
	out     []byte
}

func (t *topReader) Read(p []byte) (int, error) {
	if len(t.out) == 0 {
		if t.inBody && t.lines == 0 {
			return 0, io.EOF
		}
		line, err := t.src.ReadSlice('\n')
		if len(line) == 0 {
			return 0, err
		}
		completeLine := bytes.HasSuffix(line, []byte("\r\n")) || t.afterCR && len(line) == 1 && line[0] == '\n'
		switch {
		case !t.inBody && !t.inLine && len(line) == 2 && completeLine:
			t.inBody = true
		case t.inBody && completeLine:
			t.lines--
		}
		t.inLine, t.afterCR = !completeLine, line[len(line)-1] == '\r'
		t.out = line
	}
	n := copy(p, t.out)
	t.out = t.out[n:]
	return n, nil
}
