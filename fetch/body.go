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

// headSize is how much of a message is looked at for its envelope before it
// is streamed on.
const headSize = 64 << 10

// body is a message on its way from the server to a sink.
type body struct {
	r     io.Reader
	sums  *sums
	limit int64 // 0 is none
	err   error // how it ended: io.EOF if it came in whole
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
	b.err = err
	return n, err
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
	var aims []aim
	for _, t := range d.fixed {
		aims = append(aims, aim{Target: t})
	}
	if d.fixed == nil {
		aims = d.aims(head)
	}
	return mail, io.MultiReader(bytes.NewReader(trace), d.head), aims
}
