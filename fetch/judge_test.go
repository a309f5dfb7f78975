package fetch_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// allergic is a sink that fails to commit whatever has POISON in it, as if it were
// its own trouble, and all else if it is down. It never takes a part of a batch.
type allergic struct {
	deliver.Sink
	down bool
	why  error // errAllergic if it is nil
	// commits counts the batches that it failed to commit.
	commits int
}

var errAllergic = &deliver.Error{Fault: deliver.FaultTemporary, Target: "allergic", Op: "commit", Err: errors.New("it hung up")}

func (a *allergic) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := a.Sink.Begin(ctx)
	return &allergicBatch{Batch: b, sink: a}, err
}

func (a *allergic) Settle(context.Context, string) (deliver.Verdict, error) {
	return deliver.NotLanded, nil
}

type allergicBatch struct {
	deliver.Batch
	sink *allergic
	ill  bool
}

func (b *allergicBatch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return 0, err
	}
	b.ill = b.ill || bytes.Contains(data, []byte("POISON"))
	return b.Batch.Stage(ctx, mail, bytes.NewReader(data))
}

func (b *allergicBatch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	if b.ill || b.sink.down {
		b.sink.commits++
		return cmp.Or(b.sink.why, error(errAllergic))
	}
	return b.Batch.Commit(ctx, landed)
}

// mixed fills the maildrop with messages, the first of which are poison, and
// returns the others.
func (r *rig) mixed(bad, good int) (want []string) {
	for i := range bad {
		r.drop.Add(fmt.Sprint("bad", i), fmt.Appendf(nil, "Subject: POISON\n\n%d\n", i))
	}
	for i := range good {
		want = append(want, message(i))
		r.drop.Add(fmt.Sprint("good", i), []byte(message(i)))
	}
	return want
}

// However many messages a sink fails over, and says of none of them that it is
// its fault, they hold up no others for good, and are told of in the end.
func TestPoisonForTheWholeSink(t *testing.T) {
	for bad := 1; bad <= 5; bad++ {
		for n := range 4 {
			several, why := n%2 > 0, *errAllergic
			why.Untaken = n >= 2
			r := newRig(t, pop3test.Behaviour{})
			r.account.Deliver[0].Sink = &allergic{Sink: r.account.Deliver[0].Sink, why: &why}
			archive, archived := r.another("archive")
			if several {
				r.account.Deliver = append(r.account.Deliver, archive)
			}
			want := r.mixed(bad, 3)
			// One poll to see it, one for each two that are tried by themselves, and
			// one for each new message.
			for i := range 2 + bad {
				r.poll()
				r.later(day)
				if i < 2 {
					text := fmt.Sprintf("Subject: new\n\n%d\n", i)
					r.drop.Add(fmt.Sprint("new", i), []byte(text))
					want = append(want, text)
				}
			}
			r.expect(want...)
			if got := len(archived()); several && got != len(want)+bad {
				t.Errorf("%d bad: the archive has %d messages, want %d", bad, got, len(want)+bad)
			}
			r.drop.Add("last", []byte("Subject: last\n\n"))
			for range bad {
				r.poll()
				r.later(day)
			}
			st, err := r.store.Status(t.Context(), "work", 0)
			check(t, err)
			if len(st.Refused)+st.Open != bad && !why.Untaken || why.Untaken && st.Open > 0 {
				t.Errorf("%d bad, several %v, untaken %v: status names %d, %d are open", bad, several, why.Untaken, len(st.Refused), st.Open)
			}
		}
	}
}

// Nor do they hold up what may have been delivered before, and has to be compared.
func TestPoisonHoldsUpNoComparison(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.account.Keep = fetch.Keep{Forever: true}
	r.account.Deliver[0].Sink = &allergic{Sink: r.account.Deliver[0].Sink}
	r.drop.Add("old", []byte(alike(1)))
	r.succeed()
	r.mixed(2, 0)
	r.poll()
	r.later(day)
	r.drop.SetUIDs(func(_ int, old string) string { return strings.Replace(old, "old", "renamed", 1) })
	r.drop.Add("new", []byte(alike(2)))
	r.poll()
	r.expect(alike(1), alike(2))
}

// Nor is it tried before others that the server has no names for, which are compared
// with it at each poll: also if a session compares no more than there are of it.
func TestPoisonWithoutNameHoldsUpNoOther(t *testing.T) {
	for _, without := range [][]string{{"UIDL"}, {"UIDL", "TOP"}} {
		for _, most := range []int{0, 1, 2} {
			r := newRig(t, pop3test.Behaviour{Without: without})
			r.account.MaxMessages = most
			r.account.Deliver[0].Sink = &allergic{Sink: r.account.Deliver[0].Sink}
			want := r.mixed(2, 0)
			for i := range 4 {
				r.poll()
				r.later(day)
				want = append(want, alike(i))
				r.drop.Add(fmt.Sprint("new", i), []byte(alike(i)))
			}
			r.poll()
			r.expect(want...)
			if left := r.left(); len(left) != 2 {
				t.Errorf("without %q, %d at a time: left %q", without, most, left)
			}
		}
	}
}

// A sink that is down is the fault of no message, however often it is tried, and
// is not tried with each of them.
func TestSinkDownBlamesNoMessage(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	sink := &allergic{Sink: r.account.Deliver[0].Sink, down: true}
	r.account.Deliver[0].Sink = sink
	want := r.mixed(0, 10)
	for range 12 {
		before := sink.commits
		if s := r.poll(); s.Class != fetch.ClassRetry || s.Refused != 0 {
			t.Errorf("%v, %d refused: %v", s.Class, s.Refused, s.Err)
		}
		if n := sink.commits - before; n < 1 || n > 2 {
			t.Errorf("it was tried %d times", n)
		}
		r.later(day)
	}
	sink.down = false
	r.succeed()
	r.expect(want...)
	r.expectEmpty()
}

// What one of several sinks had no room for is tried again by the next poll, each
// message by itself.
func TestUntakenIsTriedAgainSoon(t *testing.T) {
	for n := 1; n <= 3; n++ {
		r := newRig(t, pop3test.Behaviour{})
		why := *errAllergic
		why.Untaken = true
		sink := &allergic{Sink: r.account.Deliver[0].Sink, why: &why, down: true}
		r.account.Deliver[0].Sink = sink
		archive, archived := r.another("archive")
		r.account.Deliver = append(r.account.Deliver, archive)
		want := r.mixed(0, n)
		if s := r.poll(); s.Class != fetch.ClassRetry {
			t.Errorf("%v: %v", s.Class, s.Err)
		}
		sink.down = false
		r.succeed()
		r.expect(want...)
		expectMail(t, "the archive", archived(), want...)
		r.expectEmpty()
	}
}

// Where a sink says that it would have failed with any message, none is suspect:
// they come all at once again.
func TestBlamelessSink(t *testing.T) {
	for _, several := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{})
		why := *errAllergic
		why.Blameless = true
		sink := &allergic{Sink: r.account.Deliver[0].Sink, down: true, why: &why}
		r.account.Deliver[0].Sink = sink
		archive, archived := r.another("archive")
		if several {
			r.account.Deliver = append(r.account.Deliver, archive)
		}
		want := r.mixed(0, 10)
		for range 3 {
			before := sink.commits
			if s := r.poll(); s.Class != fetch.ClassRetry || !several && (s.Refused != 0 || len(r.rows()) != 0) {
				t.Errorf("%v, %d refused, %d rows: %v", s.Class, s.Refused, len(r.rows()), s.Err)
			}
			if n := sink.commits - before; n != 1 {
				t.Errorf("it was tried %d times", n)
			}
			r.later(time.Hour) // as long as a sink is waited for
		}
		st, err := r.store.Status(t.Context(), "work", 0)
		check(t, err)
		if st.Open != 0 {
			t.Errorf("%d are open", st.Open)
		}
		sink.down = false
		r.succeed()
		r.expect(want...)
		if several {
			expectMail(t, "the archive", archived(), want...)
		}
		r.expectEmpty()
	}
}

// later is a batch whose messages the sink refuses for now, one by one.
type later struct{ deliver.Batch }

func (l later) Commit(_ context.Context, landed func(deliver.Receipt) error) error {
	return landed(deliver.Receipt{Err: &deliver.Error{Fault: deliver.FaultTemporary, Target: "later", Op: "deliver", Err: errors.New("not now")}})
}

// one is a sink that takes one message at a time.
type one struct{ deliver.Sink }

func (o one) Profile() deliver.Profile {
	p := o.Sink.Profile()
	p.MaxMessages = 1
	return p
}

// That holds for messages that were refused before, too: one of them may be to
// blame, no more.
func TestSinkDownAfterRefusals(t *testing.T) {
	for _, several := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{})
		home := r.account.Deliver[0].Sink
		archive, _ := r.another("archive")
		if several {
			r.account.Deliver = append(r.account.Deliver, archive)
		}
		want := r.mixed(0, 10)
		r.account.Deliver[0].Sink = &batched{one{home}, func(b deliver.Batch) deliver.Batch { return later{b} }}
		if s := r.poll(); s.Refused != 10 {
			t.Fatalf("%d refused: %v", s.Refused, s.Err)
		}
		sink := &allergic{Sink: one{home}, down: true}
		r.account.Deliver[0].Sink = sink
		for range 8 {
			r.later(day)
			before := sink.commits
			if s := r.poll(); s.Class != fetch.ClassRetry || s.Err == nil || !several && s.Refused > 1 {
				t.Errorf("several %v: %v, %d refused: %v", several, s.Class, s.Refused, s.Err)
			}
			if n := sink.commits - before; n > 2 {
				t.Errorf("several %v: it was tried %d times", several, n)
			}
			for _, row := range r.rows() {
				if wait := row.NextTry - r.opts.Now().Unix(); wait > 60*60 {
					t.Errorf("several %v: %s is to wait for %d s", several, row.UID, wait)
				}
			}
		}
		sink.down = false
		r.later(day)
		r.succeed()
		r.expect(want...)
		r.expectEmpty()
	}
}

// A message over which two sinks fail is refused once.
func TestPoisonForTwoSinks(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	archive, archived := r.another("archive")
	r.account.Deliver[0].Sink = &allergic{Sink: one{r.account.Deliver[0].Sink}}
	r.account.Deliver = append(r.account.Deliver, fetch.Target{Name: "archive", Sink: &allergic{Sink: one{archive.Sink}}})
	want := r.mixed(1, 2)
	if s := r.poll(); s.Refused != 1 || s.Fetched != 2 {
		t.Errorf("%d refused, %d fetched: %v", s.Refused, s.Fetched, s.Err)
	}
	for _, row := range r.rows() {
		if row.UID == "bad0" && row.Tries != 1 {
			t.Errorf("%d tries", row.Tries)
		}
	}
	r.expect(want...)
	expectMail(t, "the archive", archived(), want...)
}

// What is compared with messages that a sink has yet to answer for is not compared
// over and over.
func TestUnansweredEndsThePoll(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.account.MaxMessages = 2
	r.account.Deliver[0].Sink = silent{r.account.Deliver[0].Sink}
	r.fill(4)
	for range 2 {
		r.poll()
		r.later(day)
	}
	r.drop.SetUIDs(func(_ int, old string) string { return "new-" + old })
	if s := r.poll(); s.Sessions > 2 {
		t.Errorf("%d sessions: %v", s.Sessions, s.Err)
	}
}

// A suspect stays one while a sink is down for no message's fault: it is tried
// alone after that, too.
func TestSuspectsOutliveAnOutage(t *testing.T) {
	for _, several := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{})
		why := *errAllergic
		why.Blameless = true
		sink := &allergic{Sink: r.account.Deliver[0].Sink}
		r.account.Deliver[0].Sink = sink
		archive, _ := r.another("archive")
		if several {
			r.account.Deliver = append(r.account.Deliver, archive)
		}
		want := r.mixed(1, 2)
		r.poll()
		sink.down, sink.why = true, &why
		for range 3 {
			r.later(time.Hour)
			r.poll()
		}
		sink.down, sink.why = false, nil
		r.later(time.Hour)
		want = append(want, "Subject: new\n\n")
		r.drop.Add("new", []byte(want[2]))
		r.poll()
		r.expect(want...)
	}
}

// reliant is a batch that is committed as commit has it.
type reliant struct {
	deliver.Batch
	commit func(landed func(deliver.Receipt) error) error
}

func (b reliant) Commit(_ context.Context, landed func(deliver.Receipt) error) error {
	return b.commit(landed)
}

// A sink that takes one message and goes down is the fault of one of the others, at
// most.
func TestSinkGoesDown(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	home := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = &allergic{Sink: home, down: true}
	r.mixed(0, 6)
	r.poll()
	r.later(day)
	taken := 0
	r.account.Deliver[0].Sink = &batched{&allergic{Sink: home}, func(b deliver.Batch) deliver.Batch {
		return reliant{b, func(landed func(deliver.Receipt) error) error {
			if taken++; taken > 1 {
				return errAllergic
			}
			return b.Commit(t.Context(), landed)
		}}
	}}
	if s := r.poll(); s.Class != fetch.ClassRetry || s.Fetched != 1 || s.Refused > 1 {
		t.Errorf("%v, %d fetched, %d refused: %v", s.Class, s.Fetched, s.Refused, s.Err)
	}
}

// A sink that takes the next message is well, whatever it failed over.
func TestSinkIsWell(t *testing.T) {
	for _, several := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{})
		r.account.Deliver[0].Sink = &allergic{Sink: r.account.Deliver[0].Sink}
		if archive, _ := r.another("archive"); several {
			r.account.Deliver = append(r.account.Deliver, archive)
		}
		want := r.mixed(1, 1)
		r.poll()
		r.later(day)
		if s := r.poll(); s.Err != nil || s.Class != fetch.ClassRefused || s.Refused != 1 {
			t.Errorf("several %v: %v, %d refused: %v", several, s.Class, s.Refused, s.Err)
		}
		r.expect(want...)
	}
}

// halfway tells of its first message alone that it has landed, and then of trouble.
type halfway struct{ deliver.Batch }

func (b halfway) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	told := 0
	err := b.Batch.Commit(ctx, func(rc deliver.Receipt) error {
		if told++; told > 1 {
			return nil
		}
		return landed(rc)
	})
	return errors.Join(err, errSilent)
}

// A sink's trouble is told although it took a message before.
func TestSinkFailsHalfway(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(3)
	home := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = &batched{home, func(b deliver.Batch) deliver.Batch { return halfway{b} }}
	if s := r.poll(); !errors.Is(s.Err, errSilent) || s.Deleted != 1 {
		t.Errorf("%d deleted: %v", s.Deleted, s.Err)
	}
	r.account.Deliver[0].Sink = home
	r.succeed()
	r.expect(want...)
	r.expectEmpty()
}
