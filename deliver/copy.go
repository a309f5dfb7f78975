package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// buffers are what messages pass through, whatever their size.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// Copy copies a message to dst until body ends in io.EOF, in as few pieces as may
// be, for a sink whose Profile.Target is target. n is how many octets dst took. It
// keeps apart whose fault an end before that was: dstErr is dst's own error, and
// bodyErr, that of body or of ctx, is what Stage is to return.
func Copy(ctx context.Context, target string, dst io.Writer, body io.Reader) (n int64, bodyErr, dstErr error) {
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	for full := 0; ; {
		m, err := body.Read(buf[full:])
		full += m
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && len(buf)-full > 1 { // LFReader wants two bytes of room
			continue
		}
		if full > 0 {
			m, err := dst.Write(buf[:full])
			if n += int64(m); err != nil {
				return n, nil, err
			}
			full = 0
		}
		switch err {
		case nil:
		case io.EOF:
			return n, nil, nil
		default:
			return n, unread(ctx, target, err), nil
		}
	}
}

// unread is the error of Stage for a message whose reading ended with err.
func unread(ctx context.Context, target string, err error) error {
	if ended := ctx.Err(); ended != nil && errors.Is(err, ended) { // or it would pass for the message's
		return &Error{Fault: FaultTemporary, Target: target, Op: "stage", Err: err}
	}
	return fmt.Errorf("read the message: %w", err)
}
