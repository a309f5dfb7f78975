package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// full is a sink without room for a batch that has a word in it, and says so at
// the last moment.
type full struct {
	deliver.Sink
	word string
	most int // messages in a batch
}

var errFull = &deliver.Error{Fault: deliver.FaultOperator, Target: "full", Op: "append", Err: errors.New("there is no room")}

func (f full) Profile() deliver.Profile {
	p := f.Sink.Profile()
	p.MaxMessages = f.most
	return p
}

func (f full) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := f.Sink.Begin(ctx)
	return &fullBatch{Batch: b, word: f.word}, err
}

func (f full) Settle(ctx context.Context, token string) (deliver.Verdict, error) {
	if token == "no room" {
		return deliver.NotLanded, nil
	}
	return f.Sink.Settle(ctx, token)
}

type fullBatch struct {
	deliver.Batch
	word  string
	full  bool
	count int
}

func (b *fullBatch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return 0, err
	}
	b.full = b.full || bytes.Contains(data, []byte(b.word))
	b.count++
	return b.Batch.Stage(ctx, mail, bytes.NewReader(data))
}

func (b *fullBatch) Prepare(ctx context.Context) ([]deliver.Promise, error) {
	if !b.full {
		return b.Batch.Prepare(ctx)
	}
	return slices.Repeat([]deliver.Promise{{Token: "no room"}}, b.count), b.Batch.Abort()
}

func (b *fullBatch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	if b.full {
		return errFull
	}
	return b.Batch.Commit(ctx, landed)
}

// A sink that is full is held against no message: once there is room, all of
// them arrive at once.
func TestFull(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	works := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = full{Sink: works, word: "body"}
	want := r.fill(200)
	for range 3 {
		s := r.poll()
		if s.Class != fetch.ClassOperator || !errors.Is(s.Err, errFull) || s.Refused != 0 || s.Fetched != 0 {
			t.Errorf("%v, fetched %d, refused %d: %v", s.Class, s.Fetched, s.Refused, s.Err)
		}
	}
	for _, row := range r.rows() {
		if row.Tries != 0 || row.NextTry != 0 {
			t.Fatalf("remembered: %+v", row)
		}
	}
	r.account.Deliver[0].Sink = works
	r.succeed()
	r.expect(want...)
}

// The message that there is no room for comes after those that there is.
func TestFullForOne(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	works := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = full{Sink: works, word: "number 1\r\n", most: 1}
	all := r.fill(20)
	for range 3 {
		if s := r.poll(); s.Class != fetch.ClassOperator || s.Refused != 0 {
			t.Errorf("%v, refused %d: %v", s.Class, s.Refused, s.Err)
		}
	}
	r.expect(all[1:]...)
	r.account.Deliver[0].Sink = works
	r.succeed()
	r.expect(all...)
}

// One of several sinks that is full holds up no other.
func TestOneOfSeveralFull(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	archive, archived := r.another("archive")
	works := archive.Sink
	archive.Sink = full{Sink: works, word: "body"}
	r.account.Deliver = append(r.account.Deliver, archive)
	want := r.fill(200)
	s := r.poll()
	if s.Class != fetch.ClassOperator || !strings.Contains(s.Err.Error(), "there is no room") {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
	r.expect(want...)
	if len(r.left()) != 200 {
		t.Errorf("%d messages are left", len(r.left()))
	}
	r.account.Deliver[1].Sink = works
	r.later(day)
	r.succeed()
	r.expect(want...)
	expectMail(t, "the archive", archived(), want...)
	if len(r.left()) != 0 {
		t.Errorf("left %q", r.left())
	}
}
