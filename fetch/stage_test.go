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
// first one has, the second is owed it, and what came before it has landed.
func TestTimeRunsOutBetweenSinks(t *testing.T) {
	for name, open := range map[string]func() *rig{
		"as it comes": func() *rig { return newRig(t, pop3test.Behaviour{}) },
		"filtered":    func() *rig { return filtered(t, "cat", filter.Options{}) },
	} {
		for reached, budget := false, time.Second; !reached; budget *= 2 { // the machine may be slow
			r := open()
			archive, archived := r.another("archive")
			up := archive.Sink
			var last *halting
			archive.Sink = &batched{up, func(b deliver.Batch) deliver.Batch { last = &halting{Batch: b}; return last }}
			r.account.Deliver = append(r.account.Deliver, archive)
			want := r.fill(3)
			r.account.Budget = budget
			r.poll()
			if reached = last != nil && last.staged > 1; !reached {
				continue
			}
			r.expect(want[:2]...)
			expectMail(t, "the archive", archived(), want[0])

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
}

// skimming takes a message after a look at its beginning.
type skimming struct{ deliver.Batch }

func (b skimming) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	return b.Batch.Stage(ctx, mail, io.LimitReader(body, 100))
}

// What a sink did not read to its end has not landed.
func TestSinkReadsAPart(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	up := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = &batched{up, func(b deliver.Batch) deliver.Batch { return skimming{b} }}
	large := message(1) + strings.Repeat("more\n", 100_000)
	r.drop.Add("u1", []byte(large))
	if s := r.poll(); s.Err == nil || s.Fetched != 0 || s.Deleted != 0 {
		t.Errorf("%d fetched, %d deleted: %v", s.Fetched, s.Deleted, s.Err)
	}
	r.expect()
	r.account.Deliver[0].Sink = up
	r.succeed()
	r.expect(large)
}
