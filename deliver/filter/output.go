package filter

import (
	"bufio"
	"bytes"
	"fmt"
)

// outputWriter writes the output of a program to the spool in wire form: an LF without a CR
// before it becomes CRLF.
type outputWriter struct {
	w       *bufio.Writer
	limit   int64 // how many octets the program may write
	read    int64 // octets that the program has written
	written int64 // octets that were written to w
	lastCR  bool  // the last octet was a CR
	err     error // the first error of w
}

// Write writes p to the spool. It returns an error of the spool, or one that says that the
// program has written too much.
func (o *outputWriter) Write(p []byte) (int, error) {
	o.read += int64(len(p))
	if o.read > o.limit {
		return 0, fmt.Errorf("it wrote more than %d octets", o.limit)
	}
	for rest := p; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		o.write(line)
		if len(line) > 0 {
			o.lastCR = line[len(line)-1] == '\r'
		}
		if ended {
			if !o.lastCR {
				o.write([]byte("\r"))
			}
			o.write([]byte("\n"))
			o.lastCR = false
		}
		rest = after
	}
	return len(p), o.err
}

// write writes p unchanged.
func (o *outputWriter) write(p []byte) {
	n, err := o.w.Write(p)
	o.written += int64(n)
	if o.err == nil {
		o.err = err
	}
}

// flush writes what is buffered, and returns the first error of the spool.
func (o *outputWriter) flush() error {
	if o.err == nil {
		o.err = o.w.Flush()
	}
	return o.err
}
