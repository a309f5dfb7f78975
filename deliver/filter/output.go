package filter

import (
	"bufio"
	"bytes"
	"fmt"
)

// outputWriter keeps what a filter writes, in wire form: an LF that no CR
// precedes becomes CRLF.
type outputWriter struct {
	w     *bufio.Writer
	limit int64
	// read is what the filter wrote, written is what that became.
	read, written int64
	lastCR        bool  // the last octet was a CR
	err           error // of the spool
}

// Write returns an error if the filter has written too much, or the spool's.
func (o *outputWriter) Write(p []byte) (int, error) {
	if o.read += int64(len(p)); o.read > o.limit {
		return 0, fmt.Errorf("it wrote more than %d octets", o.limit)
	}
	for rest := p; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		o.write(line)
		if len(line) > 0 {
			o.lastCR = line[len(line)-1] == '\r'
		}
		if whole {
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

func (o *outputWriter) write(p []byte) {
	n, err := o.w.Write(p)
	o.written += int64(n)
	if o.err == nil {
		o.err = err
	}
}

func (o *outputWriter) flush() error {
	if o.err == nil {
		o.err = o.w.Flush()
	}
	return o.err
}
