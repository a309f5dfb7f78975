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
	// maxLine limits a reply line. RFC 2449 §4 allows 512 octets; greetings
	// and unique-ids of real servers are longer.
	maxLine = 8 << 10
	// maxQuote limits what an error quotes of a line.
	maxQuote = 80
)

// lineEnding is how the server ends its lines.
type lineEnding byte

const (
	eolUnknown lineEnding = iota // until the first line, and again after STLS
	eolCRLF                      // RFC 1939 §3
	eolLF                        // some home-made servers
)

// wire is the connection: a buffered reader with limits and deadlines, and a
// writer that sends a batch of commands at once.
type wire struct {
	raw     net.Conn // the socket, for deadlines and Close
	conn    net.Conn // raw, or TLS over it
	timeout time.Duration
	tracer  Tracer

	ctx     context.Context // of the running command
	secrets mask.Set        // sent in this session, or passed to Client.Hide

	buf        []byte
	start, end int // buf[start:end] is received and not yet consumed
	eol        lineEnding
	out        []byte // commands for the next flush
	err        error  // a *brokenError once the client is broken
}

// bindContext makes reads and writes obey ctx until release is called.
func (w *wire) bindContext(ctx context.Context) (release func()) {
	w.ctx = ctx
	expired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(expired)
		w.raw.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		// If AfterFunc has started, wait: its deadline must not hit the next
		// command.
		if !stop() {
			<-expired
		}
		w.ctx = nil
	}
}

// fail breaks the client, unless it is broken already, and returns the error
// that broke it.
func (w *wire) fail(cause error) error {
	if w.err == nil {
		w.err = &brokenError{cause}
	}
	return w.err
}

// failIO breaks the client after a failed read or write. If err is a timeout,
// the error says whatTimedOut.
func (w *wire) failIO(err error, whatTimedOut string) error {
	switch {
	case w.ctx.Err() != nil:
		err = w.ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = &timeoutError{whatTimedOut, w.timeout}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("server closed the connection: %w", io.ErrUnexpectedEOF)
	}
	return w.fail(err)
}

// failSyntax breaks the client with a *ProtocolError.
func (w *wire) failSyntax(verb, want string, got []byte) error {
	return w.fail(w.protocolError(verb, want, got))
}

func (w *wire) protocolError(verb, want string, got []byte) error {
	quote := w.secrets.Excerpt(string(got[:min(len(got), maxLine)]), maxQuote)
	return &ProtocolError{Verb: verb, Want: want, Got: quote}
}

// buffered returns what is received and not yet consumed. It is valid until the
// next fill.
func (w *wire) buffered() []byte { return w.buf[w.start:w.end] }

// fill waits for more bytes. It keeps those that are buffered, which must leave
// room in the buffer.
func (w *wire) fill() error {
	if w.err != nil {
		return w.err
	}
	if w.start > 0 {
		w.end = copy(w.buf, w.buffered())
		w.start = 0
	}
	for range 100 {
		// Set the deadline before checking ctx: in the other order, a ctx that
		// ends in between has its deadline overwritten. The deadline covers
		// writes too, since TLS may write while it reads.
		w.raw.SetDeadline(time.Now().Add(w.timeout))
		if err := w.ctx.Err(); err != nil {
			return w.fail(err)
		}
		n, err := w.conn.Read(w.buf[w.end:])
		w.end += n
		if n > 0 {
			return nil // the next read returns the error again
		}
		if err != nil {
			return w.failIO(err, "no answer from server")
		}
	}
	return w.fail(io.ErrNoProgress)
}

// readLine reads a reply line of at most limit octets and returns it without
// its line end, valid until the next read.
func (w *wire) readLine(verb string, limit int) ([]byte, error) {
	length, err := w.waitLine(verb, limit)
	if err != nil {
		return nil, err
	}
	line, hasCR := bytes.CutSuffix(w.buffered()[:length], []byte("\r"))
	switch {
	case w.eol == eolUnknown && hasCR:
		w.eol = eolCRLF
	case w.eol == eolUnknown:
		w.eol = eolLF
	case w.eol == eolCRLF && !hasCR:
		// A server that uses CRLF does not send a bare LF itself: it may come
		// from a mail, with a forged reply after it.
		return nil, w.failSyntax(verb, "a line that ends in CRLF", line)
	}
	w.start += length + len("\n")
	w.traceReply(line)
	return line, nil
}

// waitLine fills the buffer until it holds a line, and returns the line's length
// without the LF.
func (w *wire) waitLine(verb string, limit int) (length int, err error) {
	for {
		i := bytes.IndexByte(w.buffered()[length:], '\n')
		if i < 0 {
			length = len(w.buffered())
		} else {
			length += i
		}
		if length > limit {
			return 0, w.failSyntax(verb, fmt.Sprintf("a line of at most %d octets", limit), w.buffered())
		}
		if i >= 0 {
			return length, nil
		}
		if err := w.fill(); err != nil {
			return 0, err
		}
	}
}

// queue adds a command to those of the next flush.
func (w *wire) queue(line string) {
	w.out = append(append(w.out, line...), "\r\n"...)
	w.traceCommand(line)
}

// queueSecret queues line followed by secret, which is masked from now on.
func (w *wire) queueSecret(line, secret string) {
	w.secrets.Add(secret)
	w.queueUntraced(line, secret)
}

// queueUntraced queues line followed by hidden, which is left out of the trace.
func (w *wire) queueUntraced(line, hidden string) {
	w.out = append(append(append(w.out, line...), hidden...), "\r\n"...)
	w.traceCommand(line + mask.Replacement)
}

// flush sends the queued commands in one Write: some servers expect a command in
// one segment, and one system call is cheaper than many.
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
