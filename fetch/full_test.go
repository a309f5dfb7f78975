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

// fullSink is a sink that says in Commit that it has no room, for each batch with a
// message that contains word.
type fullSink struct {
	deliver.Sink
	word string
	most int // messages in a batch
}

var errFull = &deliver.Error{Fault: deliver.FaultOperator, Target: "full", Op: "append", Err: errors.New("there is no room")}

func (f fullSink) Profile() deliver.Profile {
	p := f.Sink.Profile()
	p.MaxMessages = f.most
	return p
}

func (f fullSink) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := f.Sink.Begin(ctx)
	return &fullBatch{Batch: b, word: f.word}, err
}

func (f fullSink) Settle(ctx context.Context, token string) (deliver.Verdict, error) {
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

// A full sink is held against no message: all of them arrive as soon as there is room.
func TestFullSinkBlamesNoMessage(t *testing.T) {
	for _, messages := range []int{1, 20, 200} {
		testFull(t, messages)
	}
}

func testFull(t *testing.T, messages int) {
	r := newRig(t, pop3test.Behaviour{})
	works := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = fullSink{Sink: works, word: "body"}
	want := r.fill(messages)
	for range 3 {
		s := r.poll()
		if s.Class != fetch.ClassOperator || !errors.Is(s.Err, errFull) || s.Refused != 0 || s.Fetched != 0 {
			t.Errorf("%v, fetched %d, refused %d: %v", s.Class, s.Fetched, s.Refused, s.Err)
		}
	}
	for _, row := range r.rows() {
		if row.Tries != 0 || row.NextTry > r.opts.Now().Unix() {
			t.Fatalf("remembered: %+v", row)
		}
	}
	r.account.Deliver[0].Sink = works
	r.mustPoll()
	r.expectDelivered(want...)
}

// A message for which the sink has no room is tried after all others and then waits alone.
// The others are delivered and deleted, and new mail is polled for at the usual interval.
func TestFullSinkForOneMessage(t *testing.T) {
	for name, most := range map[string]int{"one by one": 1, "all at once": 0} {
		t.Run(name, func(t *testing.T) { testFullForOne(t, most) })
	}
}

func testFullForOne(t *testing.T, most int) {
	r := newRig(t, pop3test.Behaviour{})
	works := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = fullSink{Sink: works, word: "number 1\r\n", most: most}
	all := r.fill(20)
	r.poll()
	r.poll()
	if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 || s.Schedule.Failures != 0 {
		t.Errorf("%v, refused %d: %v", s.Class, s.Refused, s.Err)
	}
	r.expectDelivered(all[1:]...)
	for range 3 {
		if left := r.left(); !slices.Equal(left, []string{"u1"}) {
			t.Errorf("left %q", left)
		}
		r.advance(day)
		// Nothing else is new, and the message is still refused.
		if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 || s.Schedule.Failures != 0 {
			t.Errorf("%v, refused %d: %v", s.Class, s.Refused, s.Err)
		}
		r.poll()
		r.expectRefused("u1", "there is no room")
	}
	r.account.Deliver[0].Sink = works
	r.advance(day)
	r.mustPoll()
	r.expectDelivered(all...)
}

// What has landed is deleted, though the sink takes no more after it.
func TestLandedIsDeletedThoughSinkIsFull(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Server.Window = 32
	works := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = fullSink{Sink: works, word: "number 100\r\n"}
	all := r.fill(300)
	s := r.poll()
	if s.Class != fetch.ClassOperator || !errors.Is(s.Err, errFull) || s.Fetched == 0 || s.Deleted != s.Fetched || s.Refused != 0 {
		t.Errorf("%v, fetched %d, deleted %d, refused %d: %v", s.Class, s.Fetched, s.Deleted, s.Refused, s.Err)
	}
	if n := len(r.left()); n != 300-s.Fetched {
		t.Errorf("fetched %d, %d are left", s.Fetched, n)
	}
	r.account.Deliver[0].Sink = works
	r.mustPoll()
	r.expectDelivered(all...)
}

// A full sink does not hold up the other sinks of the account.
func TestOneOfSeveralFull(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	archive, archived := r.newMaildir("archive")
	works := archive.Sink
	archive.Sink = fullSink{Sink: works, word: "body"}
	r.account.Deliver = append(r.account.Deliver, archive)
	want := r.fill(200)
	s := r.poll()
	if s.Class != fetch.ClassOperator || !strings.Contains(s.Err.Error(), "there is no room") {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
	r.expectDelivered(want...)
	if len(r.left()) != 200 {
		t.Errorf("%d messages are left", len(r.left()))
	}
	r.account.Deliver[1].Sink = works
	r.advance(day)
	r.mustPoll()
	r.expectDelivered(want...)
	expectMail(t, "the archive", archived(), want...)
	r.expectMaildropEmpty()
}
