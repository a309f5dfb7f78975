package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Copy copies a message to dst until body ends in io.EOF, for a sink whose
// Profile.Target is target. n is how many octets dst took. It keeps apart
// whose fault an end before that was: dstErr is dst's own error, and bodyErr,
// that of body or of ctx, is what Stage is to return.
func Copy(ctx context.Context, target string, dst io.Writer, body io.Reader) (n int64, bodyErr, dstErr error) {
	for buf := make([]byte, 32<<10); ; {
		m, err := body.Read(buf)
		if m > 0 {
			m, err := dst.Write(buf[:m])
			if n += int64(m); err != nil {
				return n, nil, err
			}
		}
		if err == io.EOF {
			return n, nil, nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
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
