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
	for _, messages := range []int{1, 20, 200} {
		testFull(t, messages)
	}
}

func testFull(t *testing.T, messages int) {
	r := newRig(t, pop3test.Behaviour{})
	works := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = full{Sink: works, word: "body"}
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
	r.succeed()
	r.expect(want...)
}

// The message that there is no room for comes after those that there is, and
// waits by itself then: what landed is deleted, and new mail is polled for as
// often as ever.
func TestFullForOne(t *testing.T) {
	for name, most := range map[string]int{"one by one": 1, "all at once": 0} {
		t.Run(name, func(t *testing.T) { testFullForOne(t, most) })
	}
}

func testFullForOne(t *testing.T, most int) {
	r := newRig(t, pop3test.Behaviour{})
	works := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = full{Sink: works, word: "number 1\r\n", most: most}
	all := r.fill(20)
	r.poll()
	r.poll()
	if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 || s.Schedule.Failures != 0 {
		t.Errorf("%v, refused %d: %v", s.Class, s.Refused, s.Err)
	}
	r.expect(all[1:]...)
	for range 3 {
		if left := r.left(); !slices.Equal(left, []string{"u1"}) {
			t.Errorf("left %q", left)
		}
		r.later(day)
		// Nothing else comes, and it is still the message that is refused.
		if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 || s.Schedule.Failures != 0 {
			t.Errorf("%v, refused %d: %v", s.Class, s.Refused, s.Err)
		}
		r.poll()
		r.expectRefused("u1", "there is no room")
	}
	r.account.Deliver[0].Sink = works
	r.later(day)
	r.succeed()
	r.expect(all...)
}

// What landed is deleted, though the sink then takes no more.
func TestFullInTheMiddle(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Server.Window = 32
	works := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = full{Sink: works, word: "number 100\r\n"}
	all := r.fill(300)
	s := r.poll()
	if s.Class != fetch.ClassOperator || !errors.Is(s.Err, errFull) || s.Fetched == 0 || s.Deleted != s.Fetched || s.Refused != 0 {
		t.Errorf("%v, fetched %d, deleted %d, refused %d: %v", s.Class, s.Fetched, s.Deleted, s.Refused, s.Err)
	}
	if n := len(r.left()); n != 300-s.Fetched {
		t.Errorf("fetched %d, %d are left", s.Fetched, n)
	}
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
	r.expectEmpty()
}

// What a quarantine has taken when it proves to be full is there, and not refused.
func TestQuarantineFull(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.MaxSize = 1000
	fits := "Subject: it fits\n\n" + strings.Repeat("x\n", 1000)
	r.drop.Add("u1", []byte(fits))
	r.drop.Add("u2", []byte("Subject: it does not\n\n"+strings.Repeat("x\n", 1000)))
	q := r.quarantine()
	r.account.Quarantine.Sink = full{Sink: r.account.Quarantine.Sink, word: "does not", most: 1}
	if s := r.poll(); s.Class != fetch.ClassOperator || s.Quarantined != 1 || s.Refused != 1 || s.Deleted != 1 {
		t.Errorf("%v, %d quarantined, %d refused, %d deleted: %v", s.Class, s.Quarantined, s.Refused, s.Deleted, s.Err)
	}
	q.expect(fits)
	for _, e := range eventsOf[fetch.Refused](r) {
		if kept := e.Quarantine != ""; kept != (e.UID == "u1") {
			t.Errorf("told of %+v", e)
		}
	}
	if left := r.left(); !slices.Equal(left, []string{"u2"}) {
		t.Errorf("left %q", left)
	}
}

// That this machine is in trouble ends the poll also if only the quarantine notices.
func TestQuarantineOnFullDisk(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.MaxSize = 1000
	r.drop.Add("u1", []byte("Subject: large\n\n"+strings.Repeat("x\n", 1000)))
	q := r.quarantine()
	sink := r.account.Quarantine.Sink
	r.account.Quarantine.Sink = &batched{sink, func(b deliver.Batch) deliver.Batch {
		return reliant{b, func(func(deliver.Receipt) error) error {
			return &deliver.Error{Fault: deliver.FaultMachine, Target: "quarantine", Op: "write", Err: errors.New("the disk is full")}
		}}
	}}
	if s := r.poll(); s.Class != fetch.ClassMachine || s.Deleted != 0 {
		t.Errorf("%v, deleted %d: %v", s.Class, s.Deleted, s.Err)
	}
	r.account.Quarantine.Sink = sink
	r.succeed()
	q.expect("Subject: large\n\n" + strings.Repeat("x\n", 1000))
	r.expectEmpty()
}
