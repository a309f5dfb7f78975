package fetch

import (
	"bytes"
	"errors"
	"io"
	"os"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/envelope"
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

// maxHead is how much of a message is read for its envelope before it is streamed on.
const maxHead = 32 << 10

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

// drain reads the rest of the message, whatever its size. The error is nil if the
// message is complete.
func (b *body) drain() error {
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

// compose reads the head of a message. It returns what the sinks get: a description of the
// message, and a reader of all of it after the header fields that the account adds. dests
// are the sinks that it is for.
func (d *download) compose(w Want, b *body) (mail deliver.Mail, message io.Reader, dests []destination) {
	d.header = readHead(d.header[:0], b)
	env := envelope.Parse(d.header)
	now := d.opts.now()
	mail = deliver.Mail{
		Account: d.Name, User: d.User, UID: w.UID,
		Sender: env.Sender, Date: env.Date, Arrived: now,
		Content: func() []byte { sum := d.sums.contentSum(); return sum[:] },
	}
	if d.fixed == nil {
		dests = d.destinations(d.header)
	}
	for _, t := range d.fixed {
		dests = append(dests, destination{Target: t})
	}
	return mail, io.MultiReader(bytes.NewReader(d.traceHeader(env, now)), bytes.NewReader(d.header), b), dests
}

// traceHeader returns the header fields that the account adds before a message. They
// are cached: most messages get the same as the one before.
func (d *download) traceHeader(env envelope.Envelope, now time.Time) []byte {
	hop := envelope.Hop{DeliveredTo: d.Headers.DeliveredTo}
	if d.Headers.ReturnPath && !env.ReturnPath {
		hop.ReturnPath, hop.Sender = true, env.Sender
	}
	if d.Headers.Received {
		hop.Server, hop.Host, hop.Account, hop.For = d.Server.Host, d.opts.Host, d.Name, d.User
		hop.Time = now.Truncate(time.Second)
		_, hop.TLS = d.client.TLS()
	}
	if hop != d.traceHop {
		d.traceHop, d.traceFields = hop, envelope.Trace(hop)
	}
	return d.traceFields
}

// readHead appends the beginning of a message to buf: up to the end of the header or a
// little more, but at most maxHead. It returns no error, since b returns it again to
// whoever reads on.
func readHead(buf []byte, b *body) []byte {
	for searched := 0; len(buf) < maxHead; {
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, max(maxHead/4, 2*len(buf))), buf...)
		}
		n, err := b.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil || hasHeaderEnd(buf[searched:]) {
			break
		}
		searched = max(0, len(buf)-len("\n\r"))
	}
	return buf
}

// hasHeaderEnd reports whether p contains an empty line after another line.
func hasHeaderEnd(p []byte) bool {
	return bytes.Contains(p, []byte("\n\r\n")) || bytes.Contains(p, []byte("\n\n"))
}
