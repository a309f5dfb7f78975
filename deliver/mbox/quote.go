package mbox

import (
	"bytes"
	"io"
	"unicode"
)

const fromPrefix = "From "

// quoter quotes a message, whose lines end in LF, as mboxrd does: it adds a ">" to each
// line that begins with any number of ">" and then "From ". It holds back at most the
// octets of "From ".
type quoter struct {
	w io.Writer
	// matched is how many octets of "From " were read at the beginning of the line,
	// after any ">", and not written yet.
	matched int
	// passThrough says that the rest of the line needs no quoting.
	passThrough bool
	// midLine says that the last line written has no line end yet.
	midLine bool
}

// Write implements io.Writer. After an error the quoter is of no more use.
func (q *quoter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if q.passThrough {
			end := bytes.IndexByte(p, '\n') + 1
			if end == 0 {
				end = len(p)
			}
			if err := q.write(p[:end]); err != nil {
				return 0, err
			}
			q.passThrough = q.midLine
			p = p[end:]
			continue
		}
		switch c := p[0]; {
		case c == fromPrefix[q.matched]:
			q.matched++
			p = p[1:]
			if q.matched == len(fromPrefix) {
				q.matched, q.passThrough = 0, true
				if err := q.write([]byte(">" + fromPrefix)); err != nil {
					return 0, err
				}
			}
		case c == '>' && q.matched == 0:
			// The additional ">" may come after these.
			run := len(p) - len(bytes.TrimLeft(p, ">"))
			if err := q.write(p[:run]); err != nil {
				return 0, err
			}
			p = p[run:]
		default:
			if err := q.flush(); err != nil {
				return 0, err
			}
			q.passThrough = true
		}
	}
	return n, nil
}

// Finish ends the message: it adds a missing line end to the last line, and writes the
// empty line that separates the message from the next one.
func (q *quoter) Finish() error {
	if err := q.flush(); err != nil {
		return err
	}
	end := []byte("\n")
	if q.midLine {
		end = []byte("\n\n")
	}
	return q.write(end)
}

// flush writes what was held back.
func (q *quoter) flush() error {
	held := fromPrefix[:q.matched]
	q.matched = 0
	return q.write([]byte(held))
}

func (q *quoter) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	q.midLine = p[len(p)-1] != '\n'
	_, err := q.w.Write(p)
	return err
}

// breaksFromLine reports whether r would end or garble the sender's place in
// a From_ line.
func breaksFromLine(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
