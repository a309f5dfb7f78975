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

// failingSink is a sink that fails to commit any batch with the word POISON in it, and
// every batch while it is down. It does not say which message is at fault, and takes no
// part of such a batch.
type failingSink struct {
	deliver.Sink
	down bool
	err  error // errCommit if it is nil
	// commits counts the batches that were not committed.
	commits int
}

var errCommit = &deliver.Error{Fault: deliver.FaultTemporary, Target: "failing", Op: "commit", Err: errors.New("it hung up")}

func (s *failingSink) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := s.Sink.Begin(ctx)
	return &failingBatch{Batch: b, sink: s}, err
}

func (s *failingSink) Settle(context.Context, string) (deliver.Verdict, error) {
	return deliver.NotLanded, nil
}

type failingBatch struct {
	deliver.Batch
	sink   *failingSink
	poison bool
}

func (b *failingBatch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return 0, err
	}
	b.poison = b.poison || bytes.Contains(data, []byte("POISON"))
	return b.Batch.Stage(ctx, mail, bytes.NewReader(data))
}

func (b *failingBatch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	if b.poison || b.sink.down {
		b.sink.commits++
		return cmp.Or(b.sink.err, error(errCommit))
	}
	return b.Batch.Commit(ctx, landed)
}

// fillMixed adds poison messages to the maildrop and good ones after them, and returns the
// good ones.
func (r *rig) fillMixed(bad, good int) (want []string) {
	for i := range bad {
		r.drop.Add(fmt.Sprint("bad", i), fmt.Appendf(nil, "Subject: POISON\n\n%d\n", i))
	}
	for i := range good {
		want = append(want, message(i))
		r.drop.Add(fmt.Sprint("good", i), []byte(message(i)))
	}
	return want
}

// Messages over which a sink fails without naming one do not hold up the others for good,
// however many there are. In the end they are named as refused, or are left open.
func TestPoisonFailsWholeBatch(t *testing.T) {
	for bad := 1; bad <= 5; bad++ {
		for _, several := range []bool{false, true} {
			for _, untaken := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d bad, several %v, untaken %v", bad, several, untaken), func(t *testing.T) {
					testPoisonFailsWholeBatch(t, bad, several, untaken)
				})
			}
		}
	}
}

func testPoisonFailsWholeBatch(t *testing.T, bad int, several, untaken bool) {
	r := newRig(t, pop3test.Behaviour{})
	err := *errCommit
	err.Untaken = untaken
	r.account.Deliver[0].Sink = &failingSink{Sink: r.account.Deliver[0].Sink, err: &err}
	archive, archived := r.newMaildir("archive")
	if several {
		r.account.Deliver = append(r.account.Deliver, archive)
	}
	want := r.fillMixed(bad, 3)
	// One poll meets the trouble, one is needed for each two messages that are
	// tried alone, and one for each new message.
	for i := range 2 + bad {
		r.poll()
		r.advance(day)
		if i < 2 {
			text := fmt.Sprintf("Subject: new\n\n%d\n", i)
			r.drop.Add(fmt.Sprint("new", i), []byte(text))
			want = append(want, text)
		}
	}
	r.expectDelivered(want...)
	if got := len(archived()); several && got != len(want)+bad {
		t.Errorf("the archive has %d messages, want %d", got, len(want)+bad)
	}
	r.drop.Add("last", []byte("Subject: last\n\n"))
	for range bad {
		r.poll()
		r.advance(day)
	}
	st, statusErr := r.store.Status(t.Context(), "work", 0)
	check(t, statusErr)
	if untaken && st.Open > 0 || !untaken && len(st.Refused)+st.Open != bad {
		t.Errorf("status names %d, %d are open", len(st.Refused), st.Open)
	}
}

// Messages over which a sink fails do not hold up those that may have landed before and
// have to be compared.
func TestPoisonHoldsUpNoComparison(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.account.Keep = fetch.Keep{Forever: true}
	r.account.Deliver[0].Sink = &failingSink{Sink: r.account.Deliver[0].Sink}
	r.drop.Add("old", []byte(sameHeader(1)))
	r.mustPoll()
	r.fillMixed(2, 0)
	r.poll()
	r.advance(day)
	r.drop.SetUIDs(func(_ int, old string) string { return strings.Replace(old, "old", "renamed", 1) })
	r.drop.Add("new", []byte(sameHeader(2)))
	r.poll()
	r.expectDelivered(sameHeader(1), sameHeader(2))
}

// Messages over which a sink fails do not hold up others where nothing has a unique-id and
// each poll compares them again, even if a session has room for no more messages than are
// poison.
func TestPoisonWithoutUIDHoldsUpNoOther(t *testing.T) {
	for _, without := range [][]string{{"UIDL"}, {"UIDL", "TOP"}} {
		for _, most := range []int{0, 1, 2} {
			r := newRig(t, pop3test.Behaviour{Without: without})
			r.account.MaxMessages = most
			r.account.Deliver[0].Sink = &failingSink{Sink: r.account.Deliver[0].Sink}
			want := r.fillMixed(2, 0)
			for i := range 4 {
				r.poll()
				r.advance(day)
				want = append(want, sameHeader(i))
				r.drop.Add(fmt.Sprint("new", i), []byte(sameHeader(i)))
			}
			r.poll()
			r.expectDelivered(want...)
			if left := r.left(); len(left) != 2 {
				t.Errorf("without %q, %d at a time: left %q", without, most, left)
			}
		}
	}
}

// A sink that is down is the fault of no message, however many polls fail over it, and a
// poll tries it at most twice.
func TestSinkDownBlamesNoMessage(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	sink := &failingSink{Sink: r.account.Deliver[0].Sink, down: true}
	r.account.Deliver[0].Sink = sink
	want := r.fillMixed(0, 10)
	for range 12 {
		before := sink.commits
		if s := r.poll(); s.Class != fetch.ClassRetry || s.Refused != 0 {
			t.Errorf("%v, %d refused: %v", s.Class, s.Refused, s.Err)
		}
		if n := sink.commits - before; n < 1 || n > 2 {
			t.Errorf("it was tried %d times", n)
		}
		r.advance(day)
	}
	sink.down = false
	r.mustPoll()
	r.expectDelivered(want...)
	r.expectMaildropEmpty()
}

// Messages that one of two sinks had no room for are tried again by the next poll, each in
// a batch of its own.
func TestUntakenIsTriedAgainSoon(t *testing.T) {
	for n := 1; n <= 3; n++ {
		r := newRig(t, pop3test.Behaviour{})
		why := *errCommit
		why.Untaken = true
		sink := &failingSink{Sink: r.account.Deliver[0].Sink, err: &why, down: true}
		r.account.Deliver[0].Sink = sink
		archived := r.addMaildir("archive")
		want := r.fillMixed(0, n)
		if s := r.poll(); s.Class != fetch.ClassRetry {
			t.Errorf("%v: %v", s.Class, s.Err)
		}
		sink.down = false
		r.mustPoll()
		r.expectDelivered(want...)
		expectMail(t, "the archive", archived(), want...)
		r.expectMaildropEmpty()
	}
}

// If a sink's error says that it would have failed with any message, none is suspected:
// all are tried together again.
func TestBlamelessErrorSuspectsNoMessage(t *testing.T) {
	for _, several := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{})
		why := *errCommit
		why.Blameless = true
		sink := &failingSink{Sink: r.account.Deliver[0].Sink, down: true, err: &why}
		r.account.Deliver[0].Sink = sink
		archive, archived := r.newMaildir("archive")
		if several {
			r.account.Deliver = append(r.account.Deliver, archive)
		}
		want := r.fillMixed(0, 10)
		for range 3 {
			before := sink.commits
			if s := r.poll(); s.Class != fetch.ClassRetry || !several && (s.Refused != 0 || len(r.rows()) != 0) {
				t.Errorf("%v, %d refused, %d rows: %v", s.Class, s.Refused, len(r.rows()), s.Err)
			}
			if n := sink.commits - before; n != 1 {
				t.Errorf("it was tried %d times", n)
			}
			r.advance(time.Hour) // the longest pause of a sink
		}
		st, err := r.store.Status(t.Context(), "work", 0)
		check(t, err)
		if st.Open != 0 {
			t.Errorf("%d are open", st.Open)
		}
		sink.down = false
		r.mustPoll()
		r.expectDelivered(want...)
		if several {
			expectMail(t, "the archive", archived(), want...)
		}
		r.expectMaildropEmpty()
	}
}

// Messages that were refused before are not refused again because the sink is down: at
// most one of them may be to blame.
func TestSinkDownAfterRefusals(t *testing.T) {
	for _, several := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{})
		home := r.account.Deliver[0].Sink
		archive, _ := r.newMaildir("archive")
		if several {
			r.account.Deliver = append(r.account.Deliver, archive)
		}
		want := r.fillMixed(0, 10)
		r.account.Deliver[0].Sink = hooked(oneByOne{home}, hooks{
			commit: func(_ context.Context, _ deliver.Batch, landed func(deliver.Receipt) error) error {
				return landed(deliver.Receipt{Err: &deliver.Error{Fault: deliver.FaultTemporary, Target: "later", Op: "deliver", Err: errors.New("not now")}})
			},
		})
		if s := r.poll(); s.Refused != 10 {
			t.Fatalf("%d refused: %v", s.Refused, s.Err)
		}
		sink := &failingSink{Sink: oneByOne{home}, down: true}
		r.account.Deliver[0].Sink = sink
		for range 8 {
			r.advance(day)
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
		r.advance(day)
		r.mustPoll()
		r.expectDelivered(want...)
		r.expectMaildropEmpty()
	}
}

// A message over which two sinks fail counts as refused once.
func TestPoisonForTwoSinks(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	archive, archived := r.newMaildir("archive")
	r.account.Deliver[0].Sink = &failingSink{Sink: oneByOne{r.account.Deliver[0].Sink}}
	r.account.Deliver = append(r.account.Deliver, fetch.Target{Name: "archive", Sink: &failingSink{Sink: oneByOne{archive.Sink}}})
	want := r.fillMixed(1, 2)
	if s := r.poll(); s.Refused != 1 || s.Fetched != 2 {
		t.Errorf("%d refused, %d fetched: %v", s.Refused, s.Fetched, s.Err)
	}
	for _, row := range r.rows() {
		if row.UID == "bad0" && row.Tries != 1 {
			t.Errorf("%d tries", row.Tries)
		}
	}
	r.expectDelivered(want...)
	expectMail(t, "the archive", archived(), want...)
}

// A message is not compared again and again with those that a sink has yet to settle: the
// poll ends after two sessions.
func TestUnsettledEndsThePoll(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.account.MaxMessages = 2
	r.account.Deliver[0].Sink = unanswering{r.account.Deliver[0].Sink}
	r.fill(4)
	for range 2 {
		r.poll()
		r.advance(day)
	}
	r.renameUIDs()
	if s := r.poll(); s.Sessions > 2 {
		t.Errorf("%d sessions: %v", s.Sessions, s.Err)
	}
}

// A suspected message is still tried alone after the sink was down for a reason of its
// own.
func TestSuspectsOutliveAnOutage(t *testing.T) {
	for _, several := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{})
		why := *errCommit
		why.Blameless = true
		sink := &failingSink{Sink: r.account.Deliver[0].Sink}
		r.account.Deliver[0].Sink = sink
		archive, _ := r.newMaildir("archive")
		if several {
			r.account.Deliver = append(r.account.Deliver, archive)
		}
		want := r.fillMixed(1, 2)
		r.poll()
		sink.down, sink.err = true, &why
		for range 3 {
			r.advance(time.Hour)
			r.poll()
		}
		sink.down, sink.err = false, nil
		r.advance(time.Hour)
		want = append(want, "Subject: new\n\n")
		r.drop.Add("new", []byte(want[2]))
		r.poll()
		r.expectDelivered(want...)
	}
}

// If a sink takes one message and then fails, one of the others is to blame at most.
func TestSinkDownAfterOneMessageBlamesOne(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	home := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = &failingSink{Sink: home, down: true}
	r.fillMixed(0, 6)
	r.poll()
	r.advance(day)
	taken := 0
	r.account.Deliver[0].Sink = hooked(&failingSink{Sink: home}, hooks{
		commit: func(ctx context.Context, b deliver.Batch, landed func(deliver.Receipt) error) error {
			if taken++; taken > 1 {
				return errCommit
			}
			return b.Commit(ctx, landed)
		},
	})
	if s := r.poll(); s.Class != fetch.ClassRetry || s.Fetched != 1 || s.Refused > 1 {
		t.Errorf("%v, %d fetched, %d refused: %v", s.Class, s.Fetched, s.Refused, s.Err)
	}
}

// A sink that fails over one message and takes the next is up: the first one is refused.
func TestSinkThatTakesNextIsUp(t *testing.T) {
	for _, several := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{})
		r.account.Deliver[0].Sink = &failingSink{Sink: r.account.Deliver[0].Sink}
		if archive, _ := r.newMaildir("archive"); several {
			r.account.Deliver = append(r.account.Deliver, archive)
		}
		want := r.fillMixed(1, 1)
		r.poll()
		r.advance(day)
		if s := r.poll(); s.Err != nil || s.Class != fetch.ClassRefused || s.Refused != 1 {
			t.Errorf("several %v: %v, %d refused: %v", several, s.Class, s.Refused, s.Err)
		}
		r.expectDelivered(want...)
	}
}

// reportFirst commits a batch, reports its first message alone, and then fails.
func reportFirst(ctx context.Context, b deliver.Batch, landed func(deliver.Receipt) error) error {
	reports := 0
	err := b.Commit(ctx, func(rc deliver.Receipt) error {
		if reports++; reports > 1 {
			return nil
		}
		return landed(rc)
	})
	return errors.Join(err, errNoAnswer)
}

// A sink's error is reported also if the sink took a message before it.
func TestSinkFailsHalfway(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(3)
	home := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = hooked(home, hooks{commit: reportFirst})
	if s := r.poll(); !errors.Is(s.Err, errNoAnswer) || s.Deleted != 1 {
		t.Errorf("%d deleted: %v", s.Deleted, s.Err)
	}
	r.account.Deliver[0].Sink = home
	r.mustPoll()
	r.expectDelivered(want...)
	r.expectMaildropEmpty()
}
