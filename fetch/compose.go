package fetch

import (
	"bytes"
	"io"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/envelope"
)

// maxHead is how much of a message is read for its envelope before it is streamed on.
const maxHead = 32 << 10

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
	if d.toQuarantine {
		dests = []destination{{Target: *d.Quarantine}}
	} else {
		dests = d.destinations(d.header)
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
