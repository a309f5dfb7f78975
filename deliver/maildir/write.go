package maildir

import (
	"bytes"
	"io"
)

// sizeWriter counts what is written to a file.
type sizeWriter struct {
	w    io.Writer
	size int64
	// lf and crlf count line ends; cr is set if the last byte was a CR.
	lf, crlf int64
	cr       bool
}

func (w *sizeWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err != nil {
		return n, err
	}
	w.size += int64(n)
	w.lf += int64(bytes.Count(p, []byte("\n")))
	w.crlf += int64(bytes.Count(p, []byte("\r\n")))
	if w.cr && p[0] == '\n' {
		w.crlf++
	}
	w.cr = p[n-1] == '\r'
	return n, nil
}

// wireSize is the size with a CR added to each LF that lacks one.
func (w *sizeWriter) wireSize() int64 { return w.size + w.lf - w.crlf }
