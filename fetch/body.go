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

// errTooLarge ends a body that outgrows Account.MaxSize, whatever size the
// server announced.
var errTooLarge = errors.New("larger than max_size")

// errSeam ends a body in which the reply to another command may stand. Where
// commands are pipelined, a server that forgets a CRLF before the final dot,
// or says a line too much, moves all that follows by one message.
var errOutOfStep = errors.New("what came for one message may be another's: the server's replies are out of step, or the message looks like it")

// longestSeam is the length of the longest seam less one: as many bytes of
// one read can begin a seam that the next one ends.
const longestSeam = len(".\r\n-ERR") - 1

// headSize is how much of a message is looked at for its envelope before it
// is streamed on.
const headSize = 32 << 10

// body is a message on its way from the server to a sink.
type body struct {
	r     io.Reader
	sums  *sums
	meter *Meter // nil for what is no message of the poll
	limit int64  // 0 is none
	err   error  // how it ended: io.EOF if it came in whole

	pipelined bool   // look for seams
	tail      []byte // the last bytes read, for a seam between two reads
}

// newBody returns the body of a message; pipelined says that replies to other
// commands may follow it.
func newBody(r io.Reader, sums *sums, limit int64, pipelined bool) *body {
	b := &body{r: r, sums: sums, limit: limit, pipelined: pipelined}
	if pipelined {
		// A line too much before a message becomes its first.
		b.tail = append(make([]byte, 0, 2*longestSeam), ".\r\n"...)
	}
	return b
}

// drain reads what the sinks left of the message. The error is nil if it came
// in whole.
func (b *body) drain() error {
	if errors.Is(b.err, errTooLarge) {
		b.err, b.limit = nil, 0
	}
	_, err := io.Copy(io.Discard, b)
	return err
}

// isTorn reports whether the message broke off. One that is too large did not: the
// server still has to send the rest of it.
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
	if b.pipelined && b.hasSeam(p[:n]) {
		err = errOutOfStep
	}
	if b.pipelined && b.sums.octets == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		err = silentOutOfStep{err} // where a reply is missing, that to the last STAT began it
	}
	b.err = err
	return n, err
}

// hasSeam looks for a seam that ends in the bytes that were read last.
func (b *body) hasSeam(p []byte) bool {
	between := append(b.tail, p[:min(len(p), longestSeam)]...)
	found := containsSeam(between) || containsSeam(p)
	if len(p) >= longestSeam {
		between = p
	}
	b.tail = append(b.tail[:0], between[max(0, len(between)-longestSeam):]...)
	return found
}

// containsSeam reports whether two replies meet in p without a CRLF before the final
// dot of the first: a line that ends in a dot, and then a status.
func containsSeam(p []byte) bool {
	for {
		_, after, found := bytes.Cut(p, []byte(".\r\n"))
		if !found {
			break
		}
		if startsWithStatus(after) {
			return true
		}
		p = after
	}
	return false
}

// startsWithStatus reports whether p begins as a reply does, in any case (RFC 1939 §3).
func startsWithStatus(p []byte) bool {
	return len(p) >= 3 && bytes.EqualFold(p[:3], []byte("+OK")) ||
		len(p) >= 4 && bytes.EqualFold(p[:4], []byte("-ERR"))
}

// compose returns what the sinks are told of a message, the message with the
// header fields that the account wants before it, and the sinks it is for.
func (d *download) compose(w Want, b *body) (deliver.Mail, io.Reader, []aim) {
	d.header = readHead(d.header[:0], b)
	env := envelope.Parse(d.header)
	now := d.opts.now()
	mail := deliver.Mail{
		Account: d.Name, User: d.User, UID: w.UID,
		Sender: env.Sender, Date: env.Date, Arrived: now,
		Content: func() []byte { sum := d.sums.contentSum(); return sum[:] },
	}
	var aims []aim
	for _, t := range d.fixed {
		aims = append(aims, aim{Target: t})
	}
	if d.fixed == nil {
		aims = d.aims(d.header)
	}
	return mail, io.MultiReader(bytes.NewReader(d.traceHeader(env, now)), bytes.NewReader(d.header), b), aims
}

// traceHeader returns the fields that the account wants before a message. It keeps them,
// since most messages have the same as the one before.
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

// readHead reads the beginning of a message into buf, which grows if it must: up
// to the end of the header or a little more, but no more than headSize. An error
// is one that b has again for whoever reads on.
func readHead(buf []byte, b *body) []byte {
	for looked := 0; len(buf) < headSize; {
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, max(headSize/4, 2*len(buf))), buf...)
		}
		n, err := b.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil || hasHeaderEnd(buf[looked:]) {
			break
		}
		looked = max(0, len(buf)-len("\n\r"))
	}
	return buf
}

// hasHeaderEnd reports whether there is an empty line after another line.
func hasHeaderEnd(p []byte) bool {
	return bytes.Contains(p, []byte("\n\r\n")) || bytes.Contains(p, []byte("\n\n"))
}
