package maildir_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
	"github.com/mailhaul/mailhaul/deliver/maildir"
)

// cancels is an empty body that ends a context.
type cancels context.CancelFunc

func (c cancels) Read([]byte) (int, error) {
	c()
	return 0, io.EOF
}

// A context that ends while a message is read is no fault of the message.
func TestStageCancelled(t *testing.T) {
	b, err := open(t, "/m", maildir.Options{FS: durabletest.New()}).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	ctx, cancel := context.WithCancel(t.Context())
	_, err = b.Stage(ctx, deliver.Mail{}, io.MultiReader(
		strings.NewReader("half\r\n"), cancels(cancel), strings.NewReader("a message\r\n")))
	e, ok := errors.AsType[*deliver.Error](err)
	if !ok || e.Fault != deliver.FaultTemporary || !errors.Is(err, context.Canceled) {
		t.Errorf("%#v", err)
	}
}
