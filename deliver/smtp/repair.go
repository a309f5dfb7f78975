package smtp

import "io"

// repairer writes a message in the form that SMTP can carry, as the doc of the package says.
type repairer struct {
	w    io.Writer
	size int64 // octets that were written to w

	cr          bool   // the last octet was a CR, for which no line end was written yet
	atLineStart bool   // what was written ends with CRLF
	out         []byte // what is written next; kept to reuse its memory
}

// Write writes p to w, repaired.
func (r *repairer) Write(p []byte) (int, error) {
	r.out = r.out[:0]
	for _, c := range p {
		if r.cr && c != '\n' {
			r.newline()
		}
		switch c {
		case 0: // is left out
		case '\r':
			r.cr = true
		case '\n':
			r.newline()
		default:
			r.out = append(r.out, c)
			r.atLineStart = false
		}
	}
	return len(p), r.flush()
}

// newline appends a line end to out.
func (r *repairer) newline() {
	r.out = append(r.out, '\r', '\n')
	r.cr, r.atLineStart = false, true
}

// finish ends the last line, if it has no line end or the message is empty.
func (r *repairer) finish() error {
	r.out = r.out[:0]
	if r.cr || !r.atLineStart {
		r.newline()
	}
	return r.flush()
}

// flush writes out to w.
func (r *repairer) flush() error {
	n, err := r.w.Write(r.out)
	r.size += int64(n)
	return err
}
