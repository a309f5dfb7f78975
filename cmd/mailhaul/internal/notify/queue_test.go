package notify_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/notify"
	"github.com/mailhaul/mailhaul/fetch"
)

// Alerts are sent in order, one after the other. While one hangs, Add does not. An
// alert that Close gives up on does not get to done.
func TestQueue(t *testing.T) {
	began := make(chan string)
	var sent []string
	q := notify.NewQueue(t.Context(), func(ctx context.Context, a notify.Alert) error {
		began <- a.Summary.Account
		if a.Summary.Account == "hangs" {
			<-ctx.Done()
		}
		return ctx.Err()
	}, func(a notify.Alert, err error) {
		sent = append(sent, a.Summary.Account)
		if err != nil {
			t.Error(err)
		}
	})
	for _, account := range []string{"a", "b", "hangs", "c"} {
		q.Add(notify.Alert{Summary: fetch.Summary{Account: account}})
	}
	for _, want := range []string{"a", "b", "hangs"} {
		if got := <-began; got != want {
			t.Errorf("%s is sent, want %s", got, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	q.Close(ctx)
	q.Add(notify.Alert{}) // after Close: ignored
	if diff := cmp.Diff([]string{"a", "b"}, sent); diff != "" {
		t.Error(diff)
	}
}

// Close waits until all alerts in the queue were sent.
func TestQueueClose(t *testing.T) {
	sent := 0
	failure := errors.New("no")
	q := notify.NewQueue(t.Context(), func(context.Context, notify.Alert) error { return failure },
		func(_ notify.Alert, err error) {
			if err == failure {
				sent++
			}
		})
	for range 100 {
		q.Add(notify.Alert{})
	}
	q.Close(t.Context())
	if sent != 100 {
		t.Errorf("%d of 100 alerts were sent", sent)
	}
}
