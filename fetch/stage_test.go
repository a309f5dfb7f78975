package fetch_test

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/filter"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// halting stages one message and then nothing until time runs out.
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

// If time runs out while the second of two sinks is given a message that the
// first one has, the second is owed it.
func TestTimeRunsOutBetweenSinks(t *testing.T) {
	for name, r := range map[string]*rig{
		"as it comes": newRig(t, pop3test.Behaviour{}),
		"filtered":    filtered(t, "cat", filter.Options{}),
	} {
		archive, archived := r.another("archive")
		up := archive.Sink
		archive.Sink = &batched{up, func(b deliver.Batch) deliver.Batch { return &halting{Batch: b} }}
		r.account.Deliver = append(r.account.Deliver, archive)
		want := r.fill(3)
		r.account.Budget = time.Second
		r.poll()

		r.account.Budget = 0
		r.account.Deliver[1].Sink = up
		for range 2 {
			r.later(day)
			r.succeed()
		}
		r.expect(want...)
		expectMail(t, "the archive", archived(), want...)
		if left := r.left(); len(left) != 0 {
			t.Errorf("%s: left %q", name, left)
		}
	}
}
