package fetch

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// errTooLarge ends a body that outgrows Account.MaxSize, whatever size the server
// listed.
var errTooLarge = errors.New("larger than max_size")

// errOutOfStep ends a body that seems to contain a reply boundary: the end of one reply
// and the beginning of the next. Where commands are pipelined, a server that omits the
// CRLF before the final dot, or sends a line too many, shifts all that follows by one
// message.
var errOutOfStep = errors.New("what came for one message may be another's: the server's replies are out of step, or the message looks like it")

// boundaryOverlap is how many bytes of a reply boundary can end one read while the rest
// begins the next.
const boundaryOverlap = len(".\r\n-ERR") - 1

// body reads a message on its way from the server to a sink: it takes the sums,
// enforces the limit, and detects replies that are out of step.
type body struct {
	r     io.Reader
	sums  *sums
	meter *Meter // nil if what is read does not count
	limit int64  // in octets; 0 is none
	err   error  // how the message ended: io.EOF if it is complete

	pipelined bool   // other replies may follow: look for reply boundaries
	tail      []byte // the last bytes read, for a reply boundary between two reads
}

// newBody returns the body that r reads. pipelined says that the replies to other
// commands may follow it.
func newBody(r io.Reader, sums *sums, limit int64, pipelined bool) *body {
	b := &body{r: r, sums: sums, limit: limit, pipelined: pipelined}
	if pipelined {
		// If the server sent a line too many before, it is our first line.
		b.tail = append(make([]byte, 0, 2*boundaryOverlap), ".\r\n"...)
	}
	return b
}

// readToEnd reads the rest of the message, whatever its size. The error is nil if the
// message is complete.
func (b *body) readToEnd() error {
	if errors.Is(b.err, errTooLarge) {
		b.err, b.limit = nil, 0
	}
	_, err := io.Copy(io.Discard, b)
	return err
}

// isTorn reports whether the message broke off. One that is too large did not: its rest
// is still to come.
func (b *body) isTorn() bool {
	return b.err != nil && b.err != io.EOF && !errors.Is(b.err, errTooLarge)
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	b.sums.Write(p[:n])
	if b.meter != nil {
		b.meter.octets.Add(int64(n))
		if err == io.EOF {
			b.meter.messages.Add(1)
		}
	}
	if b.limit > 0 && b.sums.octets > b.limit {
		err = errTooLarge
	}
	if b.pipelined && b.hasReplyBoundary(p[:n]) {
		err = errOutOfStep
	}
	if b.pipelined && b.sums.octets == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		err = silentOutOfStep{err} // if a reply is missing, the +OK before this body answered a later command, STAT
	}
	b.err = err
	return n, err
}

// hasReplyBoundary reports whether p, the bytes read last, completes a reply boundary.
func (b *body) hasReplyBoundary(p []byte) bool {
	between := append(b.tail, p[:min(len(p), boundaryOverlap)]...)
	found := containsReplyBoundary(between) || containsReplyBoundary(p)
	if len(p) >= boundaryOverlap {
		between = p
	}
	b.tail = append(b.tail[:0], between[max(0, len(between)-boundaryOverlap):]...)
	return found
}

// containsReplyBoundary reports whether p has a line that ends in a dot and then a
// status: there a reply may begin, and the server has omitted the CRLF before the dot
// that ends the one before.
func containsReplyBoundary(p []byte) bool {
	for {
		_, after, found := bytes.Cut(p, []byte(".\r\n"))
		if !found {
			return false
		}
		if startsWithStatus(after) {
			return true
		}
		p = after
	}
}

// startsWithStatus reports whether p starts like a reply, in any case (RFC 1939 §3).
func startsWithStatus(p []byte) bool {
	return len(p) >= 3 && bytes.EqualFold(p[:3], []byte("+OK")) ||
		len(p) >= 4 && bytes.EqualFold(p[:4], []byte("-ERR"))
}
