package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// copyBuffers are what messages pass through, whatever their size.
var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// Copy copies a message to dst until body ends in io.EOF, in as few pieces as may
// be, for a sink whose Profile.Target is target. n is how many octets dst took. It
// keeps apart whose fault an end before that was: dstErr is dst's own error, and
// bodyErr, that of body or of ctx, is what Stage is to return.
func Copy(ctx context.Context, target string, dst io.Writer, body io.Reader) (n int64, bodyErr, dstErr error) {
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	for buffered := 0; ; {
		m, err := body.Read(buf[buffered:])
		buffered += m
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && len(buf)-buffered > 1 { // LFReader wants two bytes of room
			continue
		}
		if buffered > 0 {
			m, err := dst.Write(buf[:buffered])
			if n += int64(m); err != nil {
				return n, nil, err
			}
			buffered = 0
		}
		switch err {
		case nil:
		case io.EOF:
			return n, nil, nil
		default:
			return n, bodyError(ctx, target, err), nil
		}
	}
}

// bodyError is the error of Stage for a message whose reading ended with err.
func bodyError(ctx context.Context, target string, err error) error {
	if ended := ctx.Err(); ended != nil && errors.Is(err, ended) { // or it would pass for the message's
		return &Error{Fault: FaultTemporary, Target: target, Op: "stage", Err: err}
	}
	return fmt.Errorf("read the message: %w", err)
}
