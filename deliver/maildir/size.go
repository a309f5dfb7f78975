package maildir

import (
	"bytes"
	"io"
)

// sizeWriter counts the octets and line ends that are written to w.
type sizeWriter struct {
	w      io.Writer
	size   int64
	lf     int64 // all LFs
	crlf   int64 // those after a CR
	lastCR bool  // the last octet was a CR
}

func (w *sizeWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err != nil {
		return n, err
	}
	w.size += int64(n)
	w.lf += int64(bytes.Count(p, []byte("\n")))
	w.crlf += int64(bytes.Count(p, []byte("\r\n")))
	if w.lastCR && p[0] == '\n' {
		w.crlf++
	}
	w.lastCR = p[n-1] == '\r'
	return n, nil
}

// wireSize returns the size with a CR before each LF.
func (w *sizeWriter) wireSize() int64 { return w.size + w.lf - w.crlf }
