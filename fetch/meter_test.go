package fetch_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// tapped is a sink that shows each piece of a message that it reads.
type tapped struct {
	deliver.Sink
	tap func()
}

type tappedBatch struct {
	deliver.Batch
	tap func()
}

func (s *tapped) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := s.Sink.Begin(ctx)
	return tappedBatch{b, s.tap}, err
}

func (b tappedBatch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	return b.Batch.Stage(ctx, mail, io.TeeReader(body, writer(b.tap)))
}

type writer func()

func (w writer) Write(p []byte) (int, error) { w(); return len(p), nil }

// The meter grows while a large message comes in, and in the end it has the
// octets of all.
func TestMeter(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.MaxMessages = 2
	r.fill(4)
	r.drop.Add("large", []byte("Subject: large\n\n"+strings.Repeat("all work and no play\n", 50_000)))
	var meter *fetch.Meter
	observe := r.opts.Observer
	r.opts.Observer = func(e fetch.Event) {
		if e, ok := e.(fetch.Started); ok {
			meter = e.Meter
		}
		observe(e)
	}
	var steps []int64
	r.account.Deliver[0].Sink = &tapped{r.account.Deliver[0].Sink, func() { steps = append(steps, meter.Octets()) }}
	s := r.succeed()

	if got := meter.Octets(); got != s.Bytes || meter.Messages() != 5 {
		t.Errorf("the meter says %d octets, %d messages; want %d, 5", got, meter.Messages(), s.Bytes)
	}
	if !slices.IsSorted(steps) || len(slices.Compact(steps)) < 10 {
		t.Errorf("the meter moved only so often: %v", steps)
	}
	// Each plan tells of all that is left.
	var left int
	var octets int64
	for i, p := range eventsOf[fetch.Planned](r) {
		if i == 0 {
			left, octets = 5, s.Bytes
		}
		if p.Fetch+p.More != left || p.FetchOctets+p.MoreOctets != octets {
			t.Errorf("session %d: %+v, want %d messages, %d octets", i+1, p, left, octets)
		}
		left, octets = p.More, p.MoreOctets
	}
	if left != 0 || octets != 0 {
		t.Errorf("the last plan leaves %d messages, %d octets", left, octets)
	}
}
