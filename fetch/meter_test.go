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

// onWrite is a writer that calls itself with each Write.
type onWrite func()

func (f onWrite) Write(p []byte) (int, error) { f(); return len(p), nil }

// The meter moves while a large message comes in, and shows the octets and messages of the
// whole poll in the end. Each plan says how much is left.
func TestMeterMovesWithinMessage(t *testing.T) {
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
	r.account.Deliver[0].Sink = hooked(r.account.Deliver[0].Sink, hooks{
		stage: func(ctx context.Context, b deliver.Batch, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
			return b.Stage(ctx, mail, io.TeeReader(body, onWrite(func() { steps = append(steps, meter.Octets()) })))
		},
	})
	s := r.mustPoll()

	if got := meter.Octets(); got != s.Octets || meter.Messages() != 5 {
		t.Errorf("the meter says %d octets, %d messages; want %d, 5", got, meter.Messages(), s.Octets)
	}
	if !slices.IsSorted(steps) || len(slices.Compact(steps)) < 10 {
		t.Errorf("the meter moved only so often: %v", steps)
	}
	// Each plan says how much is left in all.
	var left int
	var octets int64
	for i, p := range eventsOf[fetch.Planned](r) {
		if i == 0 {
			left, octets = 5, s.Octets
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
