package deliver_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/mailhaul/mailhaul/deliver"
)

// limited is a disk that has room for some octets.
type limited struct{ room int }

var errFull = errors.New("no space left")

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.room)
	if l.room -= n; n < len(p) {
		return n, errFull
	}
	return n, nil
}

func TestCopy(t *testing.T) {
	message := strings.Repeat("0123456789", 10_000)
	var out bytes.Buffer
	n, bodyErr, dstErr := deliver.Copy(t.Context(), "sink", &out, iotest.DataErrReader(strings.NewReader(message)))
	if n != int64(len(message)) || bodyErr != nil || dstErr != nil || out.String() != message {
		t.Errorf("%d octets, %v, %v", n, bodyErr, dstErr)
	}

	n, bodyErr, dstErr = deliver.Copy(t.Context(), "sink", &limited{40_000}, strings.NewReader(message))
	if n != 40_000 || bodyErr != nil || dstErr != errFull {
		t.Errorf("full disk: %d octets, %v, %v", n, bodyErr, dstErr)
	}

	lost := errors.New("lost")
	n, bodyErr, dstErr = deliver.Copy(t.Context(), "sink", io.Discard, io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(lost)))
	if _, ours := errors.AsType[*deliver.Error](bodyErr); n != 3 || !errors.Is(bodyErr, lost) || ours || dstErr != nil {
		t.Errorf("lost connection: %d octets, %v, %v", n, bodyErr, dstErr)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, body := range map[string]io.Reader{
		"between two reads": iotest.OneByteReader(strings.NewReader("abc")),
		"in a read":         iotest.ErrReader(errors.Join(lost, ctx.Err())),
	} {
		_, bodyErr, dstErr = deliver.Copy(ctx, "sink", io.Discard, body)
		e, ok := errors.AsType[*deliver.Error](bodyErr)
		if !ok || e.Fault != deliver.FaultTemporary || e.Target != "sink" || !errors.Is(e, context.Canceled) || dstErr != nil {
			t.Errorf("%s: %v, %v", name, bodyErr, dstErr)
		}
		if name == "in a read" && !errors.Is(bodyErr, lost) {
			t.Errorf("%v does not say what the body did", bodyErr)
		}
	}
}
