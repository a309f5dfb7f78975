package fetch_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/filter"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// halting is a batch that stages one message, and hangs over the next until time runs out.
type halting struct {
	deliver.Batch
	staged int
}

func (b *halting) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	if b.staged++; b.staged == 1 {
		return b.Batch.Stage(ctx, mail, body)
	}
	<-ctx.Done()
	return 0, &deliver.Error{Fault: deliver.FaultTemporary, Target: "halting", Op: "stage", Err: ctx.Err()}
}

// If time runs out while the second of two sinks stages a message that the first one has,
// the messages before it have landed, and the second sink gets it with a later poll.
func TestTimeRunsOutBetweenSinks(t *testing.T) {
	for name, open := range map[string]func() *rig{
		"as it comes": func() *rig { return newRig(t, pop3test.Behaviour{}) },
		"filtered":    func() *rig { return newFilterRig(t, "cat", filter.Options{}) },
	} {
		for reached, budget := false, time.Second; !reached; budget *= 2 { // a slow machine may not get so far
			r := open()
			archive, archived := r.newMaildir("archive")
			up := archive.Sink
			var last *halting
			archive.Sink = wrapBatches(up, func(b deliver.Batch) deliver.Batch { last = &halting{Batch: b}; return last })
			r.account.Deliver = append(r.account.Deliver, archive)
			want := r.fill(3)
			r.account.Budget = budget
			r.poll()
			if reached = last != nil && last.staged > 1; !reached {
				continue
			}
			r.expectDelivered(want[:2]...)
			expectMail(t, "the archive", archived(), want[0])

			r.account.Budget = 0
			r.account.Deliver[1].Sink = up
			for range 2 {
				r.advance(day)
				r.mustPoll()
			}
			r.expectDelivered(want...)
			expectMail(t, "the archive", archived(), want...)
			if left := r.left(); len(left) != 0 {
				t.Errorf("%s: left %q", name, left)
			}
		}
	}
}

// A message that a sink has not read to its end has not landed.
func TestMessageReadInPartHasNotLanded(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	up := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = hooked(up, hooks{
		stage: func(ctx context.Context, b deliver.Batch, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
			return b.Stage(ctx, mail, io.LimitReader(body, 100))
		},
	})
	large := message(1) + strings.Repeat("more\n", 100_000)
	r.drop.Add("u1", []byte(large))
	if s := r.poll(); s.Err == nil || s.Fetched != 0 || s.Deleted != 0 {
		t.Errorf("%d fetched, %d deleted: %v", s.Fetched, s.Deleted, s.Err)
	}
	r.expectDelivered()
	r.account.Deliver[0].Sink = up
	r.mustPoll()
	r.expectDelivered(large)
}
