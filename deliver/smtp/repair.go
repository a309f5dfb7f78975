package smtp

import "io"

// repairer writes a message as SMTP can carry it, and counts what it writes.
type repairer struct {
	w    io.Writer
	size int64

	cr          bool // a CR was read, and not yet what follows it
	atLineStart bool // what was written ends with CRLF
	out         []byte
}

func (r *repairer) Write(p []byte) (int, error) {
	r.out = r.out[:0]
	for _, c := range p {
		if r.cr && c != '\n' {
			r.newline()
		}
		switch c {
		case 0:
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

func (r *repairer) newline() {
	r.out = append(r.out, '\r', '\n')
	r.cr, r.atLineStart = false, true
}

// finish ends the last line.
func (r *repairer) finish() error {
	r.out = r.out[:0]
	if r.cr || !r.atLineStart {
		r.newline()
	}
	return r.flush()
}

func (r *repairer) flush() error {
	n, err := r.w.Write(r.out)
	r.size += int64(n)
	return err
}
