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

// cancelReader is an empty reader that cancels a context when it is read.
type cancelReader context.CancelFunc

func (c cancelReader) Read([]byte) (int, error) {
	c()
	return 0, io.EOF
}

// If the context is cancelled while a message is read, that is a temporary fault, not one
// of the message.
func TestStageCancelled(t *testing.T) {
	b, err := open(t, "/m", maildir.Options{FS: durabletest.New()}).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	ctx, cancel := context.WithCancel(t.Context())
	_, err = b.Stage(ctx, deliver.Mail{}, io.MultiReader(
		strings.NewReader("half\r\n"), cancelReader(cancel), strings.NewReader("a message\r\n")))
	e, ok := errors.AsType[*deliver.Error](err)
	if !ok || e.Fault != deliver.FaultTemporary || !errors.Is(err, context.Canceled) {
		t.Errorf("%#v", err)
	}
}
