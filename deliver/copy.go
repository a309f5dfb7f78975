package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// copyBuffers holds the buffers of Copy.
var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// Copy copies a message from body to dst until io.EOF, in writes of up to 32 KiB.
// It returns the number of octets written. If it stops earlier, exactly one of
// the errors is set: dstErr is the error of dst, unchanged; bodyErr comes from
// body or ctx and is what Stage has to return. target is the Profile.Target for
// that error.
func Copy(ctx context.Context, target string, dst io.Writer, body io.Reader) (n int64, bodyErr, dstErr error) {
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	for buffered := 0; ; {
		m, err := body.Read(buf[buffered:])
		buffered += m
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && len(buf)-buffered > 1 { // LFReader converts in place only with room for two bytes
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

// bodyError returns the error of Stage for a body whose reading failed with err.
func bodyError(ctx context.Context, target string, err error) error {
	// An *Error, so that the caller does not take the end of ctx for a fault of the message.
	if ended := ctx.Err(); ended != nil && errors.Is(err, ended) {
		return &Error{Fault: FaultTemporary, Target: target, Op: "stage", Err: err}
	}
	return fmt.Errorf("read the message: %w", err)
}
