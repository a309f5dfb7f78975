package pop3proto

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto/mask"
)

const (
	// bufferSize holds two TLS records.
	bufferSize = 32 << 10
	// maxLine bounds a reply line. RFC 2449 §4 allows 512 octets; greetings
	// and unique-ids of real servers are longer.
	maxLine = 8 << 10
	// maxQuote bounds what an error quotes of a line.
	maxQuote = 80
)

// lineEnd is how the server ends its lines.
type lineEnd byte

const (
	endUnknown lineEnd = iota // the greeting decides, and after STLS the next reply
	endCRLF                   // RFC 1939 §3
	endLF                     // some home-made servers
)

// wire is the connection: a buffered reader with bounds and deadlines, and a
// writer that sends a whole flight of commands at once.
type wire struct {
	raw     net.Conn // the socket: deadlines and Close go here
	conn    net.Conn // raw, or TLS over it
	timeout time.Duration
	tracer  Tracer

	ctx     context.Context // of the running command
	secrets mask.Set        // that were sent so far, or that Client.Hide was told

	buf  []byte
	r, w int // buf[r:w] was received and not yet used
	ends lineEnd
	out  []byte // commands for the next flush
	err  error  // a *brokenError once the client is broken
}

// watch makes ctx the one that reads and writes obey until release is called.
func (w *wire) watch(ctx context.Context) (release func()) {
	w.ctx = ctx
	fired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(fired)
		w.raw.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		// A deadline that is being set must not hit the next command.
		if !stop() {
			<-fired
		}
		w.ctx = nil
	}
}

// fail breaks the client.
func (w *wire) fail(cause error) error {
	if w.err == nil {
		w.err = &brokenError{cause}
	}
	return w.err
}

// failIO breaks the client after a read or write that returned err. what
// names the server's fault if it was silence.
func (w *wire) failIO(err error, what string) error {
	switch {
	case w.ctx.Err() != nil:
		err = w.ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = &silenceError{what, w.timeout}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("server closed the connection: %w", io.ErrUnexpectedEOF)
	}
	return w.fail(err)
}

// failSyntax breaks the client with a ProtocolError.
func (w *wire) failSyntax(verb, want string, got []byte) error {
	return w.fail(w.protocolError(verb, want, got))
}

func (w *wire) protocolError(verb, want string, got []byte) error {
	// Mask before the cut, which could leave half a secret.
	quote := w.secrets.Text(string(got[:min(len(got), maxLine)]))
	if len(quote) > maxQuote {
		quote = quote[:maxQuote] + "..."
	}
	return &ProtocolError{Verb: verb, Want: want, Got: quote}
}

// pending returns what was received and not yet used. It is valid until the
// next fill.
func (w *wire) pending() []byte { return w.buf[w.r:w.w] }

// fill waits for more bytes. It keeps what is pending, which must be less
// than the buffer.
func (w *wire) fill() error {
	if w.err != nil {
		return w.err
	}
	if w.r > 0 {
		w.w = copy(w.buf, w.pending())
		w.r = 0
	}
	for range 100 {
		// First the deadline, then the look at ctx: the other way round, a
		// ctx that ends in between has its deadline overwritten. It is one of
		// writes, too: TLS writes while it reads.
		w.raw.SetDeadline(time.Now().Add(w.timeout))
		if err := w.ctx.Err(); err != nil {
			return w.fail(err)
		}
		n, err := w.conn.Read(w.buf[w.w:])
		w.w += n
		if n > 0 {
			return nil // the error, if any, comes again
		}
		if err != nil {
			return w.failIO(err, "no answer from server")
		}
	}
	return w.fail(io.ErrNoProgress)
}

// readLine reads a reply line of at most limit octets and returns it without
// its line end. It is valid until the next read.
func (w *wire) readLine(verb string, limit int) ([]byte, error) {
	for seen := 0; ; {
		i := bytes.IndexByte(w.pending()[seen:], '\n')
		if i < 0 {
			seen = w.w - w.r
		} else {
			seen += i
		}
		if seen > limit {
			return nil, w.failSyntax(verb, fmt.Sprintf("a line of at most %d octets", limit), w.pending())
		}
		if i < 0 {
			if err := w.fill(); err != nil {
				return nil, err
			}
			continue
		}
		line, cr := bytes.CutSuffix(w.pending()[:seen], []byte("\r"))
		if w.ends == endUnknown {
			w.ends = endCRLF
			if !cr {
				w.ends = endLF
			}
		}
		// An LF alone ends no line of a server that knows better: it may come
		// from a mail, with a forged reply behind it.
		if !cr && w.ends == endCRLF {
			return nil, w.failSyntax(verb, "a line that ends in CRLF", line)
		}
		w.r += seen + 1
		w.traceReply(line)
		return line, nil
	}
}

// put adds a command to the next flight.
func (w *wire) put(line string) {
	w.out = append(append(w.out, line...), "\r\n"...)
	w.traceCommand(line)
}

// putSecret adds a command whose end is a secret.
func (w *wire) putSecret(line, secret string) {
	w.secrets.Add(secret)
	w.putMessage(line, secret)
}

// putMessage adds a line whose end is not to be traced.
func (w *wire) putMessage(line, secret string) {
	w.out = append(append(append(w.out, line...), secret...), "\r\n"...)
	w.traceCommand(line + masked)
}

// flush sends the flight in one Write: some servers want a command in one
// segment, and one system call is cheaper than many.
func (w *wire) flush() error {
	if w.err != nil {
		return w.err
	}
	if len(w.out) == 0 {
		return nil
	}
	w.raw.SetWriteDeadline(time.Now().Add(w.timeout))
	if err := w.ctx.Err(); err != nil {
		return w.fail(err)
	}
	_, err := w.conn.Write(w.out)
	clear(w.out) // it may hold a password
	w.out = w.out[:0]
	if err != nil {
		return w.failIO(err, "server took no command")
	}
	return nil
}
