package maildir

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/mailhaul/mailhaul/deliver"
)

// buffers are shared by all batches: a message passes through one of them,
// whatever its size.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// copyBody writes a message as a Maildir keeps it, in as few pieces as may be.
// Its error is the body's or the context's; that of the file is in out.
func copyBody(ctx context.Context, out *sizeWriter, body io.Reader) error {
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	message := &ctxReader{ctx, deliver.LFReader(body)}
	for n := 0; ; {
		m, err := message.Read(buf[n:])
		n += m
		if err == nil && len(buf)-n > 1 { // LFReader wants two bytes of room
			continue
		}
		if n > 0 {
			if _, err := out.Write(buf[:n]); err != nil {
				return err
			}
			n = 0
		}
		switch err {
		case nil:
		case io.EOF:
			return nil
		default:
			return fmt.Errorf("read the message: %w", err)
		}
	}
}

// ctxReader ends when its context does.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// sizeWriter counts what is written to a file, and keeps the first error.
type sizeWriter struct {
	w    io.Writer
	size int64
	// lf and crlf count line ends; cr is set if the last byte was a CR.
	lf, crlf int64
	cr       bool
	err      error
}

func (w *sizeWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err != nil {
		w.err = err
		return n, err
	}
	w.size += int64(n)
	w.lf += int64(bytes.Count(p, []byte("\n")))
	w.crlf += int64(bytes.Count(p, []byte("\r\n")))
	if w.cr && p[0] == '\n' {
		w.crlf++
	}
	w.cr = p[n-1] == '\r'
	return n, nil
}

// wireSize is the size with a CR added to each LF that lacks one.
func (w *sizeWriter) wireSize() int64 { return w.size + w.lf - w.crlf }
