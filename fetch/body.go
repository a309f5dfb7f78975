package fetch

import (
	"bytes"
	"errors"
	"io"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/envelope"
)

// errTooLarge ends a body that outgrows Account.MaxSize, whatever size the
// server announced.
var errTooLarge = errors.New("larger than max_size")

// errSeam ends a body in which the reply to another command may stand. Where
// commands are pipelined, a server that forgets a CRLF before the final dot,
// or says a line too much, moves all that follows by one message.
var errSeam = errors.New("what came for one message may be another's: the server's replies are out of step, or the message looks like it")

// seam is what stands between two replies if the CRLF before the final dot of
// the first is missing.
var seam = []byte(".\r\n+OK")

// headSize is how much of a message is looked at for its envelope before it
// is streamed on.
const headSize = 64 << 10

// body is a message on its way from the server to a sink.
type body struct {
	r     io.Reader
	sums  *sums
	limit int64 // 0 is none
	err   error // how it ended: io.EOF if it came in whole

	seams bool   // look for seams
	tail  []byte // the last bytes read, for a seam between two reads
}

// newBody returns the body of a message; pipelined says that replies to other
// commands may follow it.
func newBody(r io.Reader, sums *sums, limit int64, pipelined bool) *body {
	b := &body{r: r, sums: sums, limit: limit, seams: pipelined}
	if pipelined {
		// A line too much before a message becomes its first.
		b.tail = append(make([]byte, 0, 2*len(seam)), ".\r\n"...)
	}
	return b
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	b.sums.Write(p[:n])
	if b.limit > 0 && b.sums.octets > b.limit {
		err = errTooLarge
	}
	if b.seams && b.hasSeam(p[:n]) {
		err = errSeam
	}
	b.err = err
	return n, err
}

// hasSeam looks for a seam that ends in the bytes that were read last.
func (b *body) hasSeam(p []byte) bool {
	if bytes.Contains(p, seam) {
		return true
	}
	between := append(b.tail, p[:min(len(p), len(seam)-1)]...)
	found := bytes.Contains(between, seam)
	if len(p) >= len(seam) {
		between = p[len(p)-len(seam)+1:]
	} else if len(between) >= len(seam) {
		between = between[len(between)-len(seam)+1:]
	}
	b.tail = append(b.tail[:0], between...)
	return found
}

// compose returns what the sinks are told of a message, the message with the
// header fields that the account wants before it, and the sinks it is for.
func (d *download) compose(w Want, b *body) (deliver.Mail, io.Reader, []aim) {
	d.head.Reset(b)
	head, _ := d.head.Peek(headSize) // short messages, and bad news, come later
	env := envelope.Parse(head)
	now := d.opts.now()
	mail := deliver.Mail{
		Account: d.Name, User: d.User, UID: w.UID, Size: w.Size,
		Sender: env.Sender, Date: env.Date, Arrived: now,
	}
	hop := envelope.Hop{
		DeliveredTo: d.Headers.DeliveredTo,
		ReturnPath:  d.Headers.ReturnPath && !env.ReturnPath,
		Sender:      env.Sender,
	}
	if d.Headers.Received {
		hop.Server, hop.Host, hop.Account, hop.For, hop.Time = d.Server.Host, d.opts.Host, d.Name, d.User, now
		_, hop.TLS = d.client.TLS()
	}
	trace := envelope.Trace(hop)
	mail.Added = len(trace)
	var aims []aim
	for _, t := range d.fixed {
		aims = append(aims, aim{Target: t})
	}
	if d.fixed == nil {
		aims = d.aims(head)
	}
	return mail, io.MultiReader(bytes.NewReader(trace), d.head), aims
}
