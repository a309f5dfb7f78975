package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// The sum of a refused message is remembered, too. It never makes the message pass for a
// delivered one, whatever unique-id it has later.
func TestRefusedIsNotLanded(t *testing.T) {
	t.Run("no names at all", func(t *testing.T) {
		r, good, poison := newPoisonRig(t, true)
		r.drop.Behave(pop3test.Behaviour{Without: []string{"UIDL", "TOP"}})
		archived := r.addMaildir("archive")
		for range 3 {
			r.poll()
			r.expectDelivered(good...)
			expectMail(t, "the archive", archived(), append(slices.Clone(good), poison)...)
			if len(r.left()) != 1 {
				t.Fatalf("left %q", r.left())
			}
			r.advance(day)
		}
		if n := len(r.rows()); n != 3 {
			t.Errorf("%d rows for three messages", n)
		}
		r.acceptPoison()
		r.mustPoll()
		r.expectDelivered(append(good, poison)...)
		expectMail(t, "the archive", archived(), append(slices.Clone(good), poison)...)
	})
	t.Run("new names without TOP", func(t *testing.T) {
		r, good, poison := newPoisonRig(t, true)
		r.drop.Behave(pop3test.Behaviour{Without: []string{"TOP"}})
		for range 2 {
			r.poll()
			r.advance(day)
		}
		r.renameUIDs()
		r.poll()
		if len(r.left()) != 1 {
			t.Fatalf("left %q", r.left())
		}
		r.acceptPoison()
		r.advance(day)
		r.mustPoll()
		r.expectDelivered(append(good, poison)...)
	})
}

// A message that one of two sinks has goes only to the other one, though the server has
// renamed it meanwhile.
func TestPartlyDeliveredAndRenamed(t *testing.T) {
	r, good, poison := newPoisonRig(t, true)
	poison = "Message-ID: <p@example.net>\n" + poison
	r.drop.Remove("u2")
	r.drop.Add("u2", []byte(poison))
	archived := r.addMaildir("archive")
	r.poll()
	r.renameUIDs()
	r.advance(day)
	r.acceptPoison()
	r.mustPoll()
	r.expectDelivered(append(slices.Clone(good), poison)...)
	expectMail(t, "the archive", archived(), append(good, poison)...)
}

// A message that one of two sinks has goes only to the other one, though the connection
// died over its new unique-id.
func TestPartlyDeliveredRenamedAndCut(t *testing.T) {
	for _, verb := range []string{"TOP", "RETR"} {
		t.Run(verb, func(t *testing.T) {
			r, good, _ := newPoisonRig(t, true)
			poison := "Message-ID: <p@example.net>\nSubject: poison\n\npoison\n"
			r.drop.Remove("u2")
			r.drop.Add("u2", []byte(poison))
			if verb == "RETR" {
				r.drop.Behave(pop3test.Behaviour{Without: []string{"TOP"}})
			}
			archived := r.addMaildir("archive")
			r.poll()
			r.renameUIDs()
			r.advance(day)
			r.drop.Order(pop3test.CutIn(verb, 10, pop3test.Reset).Session(2))
			r.poll()
			r.acceptPoison()
			r.advance(day)
			r.mustPoll()
			want := append(slices.Clone(good), poison)
			r.expectDelivered(want...)
			expectMail(t, "the archive", archived(), want...)
			r.expectMaildropEmpty()
		})
	}
}

// A new message with the unique-id of one that only some sinks have goes to all sinks.
func TestUIDReuseWhilePartlyDelivered(t *testing.T) {
	for _, test := range []struct {
		name string
		mend func(r *rig)
		home bool // the first sink gets the message, too
	}{
		{"the sink takes mail again", func(r *rig) { r.acceptPoison() }, true},
		{"the sink is not wanted any more", func(r *rig) { r.account.Deliver = r.account.Deliver[1:] }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, good, poison := newPoisonRig(t, false)
			archived := r.addMaildir("archive")
			r.poll()
			r.drop.Remove("u2")
			r.drop.Add("u2", []byte(message(4)))
			test.mend(r)
			for range 3 {
				r.advance(day)
				r.poll()
			}
			expectMail(t, "the archive", archived(), append(slices.Clone(good), poison, message(4))...)
			if test.home {
				good = append(good, message(4))
			}
			r.expectDelivered(good...)
			r.expectMaildropEmpty()
		})
	}
}

// A connection that dies over the rest of a message that proved too large is no error of
// another message.
func TestCutBehindMaxSize(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.MaxSize = 2000
	r.drop.Add("big", []byte("Subject: big\n\n"+strings.Repeat("x\n", 1<<20)))
	r.drop.Order(
		pop3test.WrongSizes(func(string, int64) int64 { return 100 }),
		pop3test.CutIn("RETR", 1<<19, pop3test.HangUp).UID("big"),
	)
	for range 4 {
		if s := r.poll(); s.Fetched != 0 {
			t.Errorf("fetched %d", s.Fetched)
		}
		r.advance(day)
	}
	r.expectNothingStaged()
}

// A sink that is down keeps no mail from the others, and gets its mail once it is up.
// Until then nothing is downloaded again.
func TestOneOfSeveralIsDown(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	archive, archived := r.newMaildir("archive")
	up := archive.Sink
	archive.Sink = unusable{up}
	r.account.Deliver = append(r.account.Deliver, archive)
	want := r.fill(3)
	if s := r.poll(); s.Class != fetch.ClassOperator || s.Refused != 3 || s.Deleted != 0 {
		t.Errorf("%v, %d refused, %d deleted: %v", s.Class, s.Refused, s.Deleted, s.Err)
	}
	r.expectDelivered(want...)
	for range 6 {
		r.advance(day)
		if s := r.poll(); s.Class != fetch.ClassOperator || s.Refused != 3 || s.Schedule.Failures != 0 {
			t.Errorf("%v, %d refused, %d failures: %v", s.Class, s.Refused, s.Schedule.Failures, s.Err)
		}
	}
	r.expectRetrieved(3) // the sink that is up was sent nothing again
	r.account.Deliver[1].Sink = up
	r.advance(time.Hour) // a pause is never longer
	r.mustPoll()
	r.expectDelivered(want...)
	expectMail(t, "the archive", archived(), want...)
	r.expectMaildropEmpty()
}

// A sink that cannot settle its promises holds up the messages that it promised, and no
// others, also if the account delivers elsewhere by then.
func TestSinkCannotSettle(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	home := r.account.Deliver[0]
	r.account.Deliver[0].Sink = unanswering{home.Sink}
	want := r.fill(1)
	if s := r.poll(); s.Class != fetch.ClassRetry {
		t.Errorf("%v: %v", s.Class, s.Err)
	}

	// The account delivers to another sink now, and the first one still cannot settle.
	other, others := r.newMaildir("other")
	r.account.Deliver = []fetch.Target{other}
	r.opts.Sinks = map[string]deliver.Sink{home.Name: unanswering{home.Sink}}
	r.drop.Add("next", []byte("Subject: next\n\n"))
	if s := r.poll(); s.Class != fetch.ClassRetry || s.Fetched != 1 {
		t.Errorf("%v, fetched %d: %v", s.Class, s.Fetched, s.Err)
	}
	expectMail(t, "the other", others(), "Subject: next\n\n")

	r.opts.Sinks[home.Name] = home.Sink
	r.mustPoll()
	r.expectDelivered(want...)
	expectMail(t, "the other", others(), "Subject: next\n\n")
	r.expectMaildropEmpty()
}

// settleCounter is a sink that cannot settle its promises, and counts how often it is
// asked to.
type settleCounter struct {
	unanswering
	calls *int
}

func (s settleCounter) Settle(ctx context.Context, token string) (deliver.Verdict, error) {
	*s.calls++
	return s.unanswering.Settle(ctx, token)
}

// A sink that cannot settle is asked about one promise a poll: each question may wait for
// its answer in vain.
func TestSinkCannotSettleIsAskedOnce(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	home := r.account.Deliver[0].Sink
	times := 0
	r.account.Deliver[0].Sink = settleCounter{unanswering{home}, &times}
	want := r.fill(3)
	r.poll()
	if r.poll(); times != 1 {
		t.Errorf("asked %d times about three messages", times)
	}
	r.account.Deliver[0].Sink = home
	r.mustPoll()
	r.expectDelivered(want...)
	r.expectMaildropEmpty()
}

// unknowing is a sink that never learns what became of its promises.
type unknowing struct{ unanswering }

func (unknowing) Settle(context.Context, string) (deliver.Verdict, error) {
	return deliver.Unknown, nil
}

// The error of a sink that cannot settle is reported also if another sink can.
func TestOneOfSeveralCannotSettle(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	other, others := r.newMaildir("other")
	up := []fetch.Target{r.account.Deliver[0], other}
	home := up[0]
	home.Sink, other.Sink = unanswering{home.Sink}, unknowing{unanswering{other.Sink}}
	r.account.Deliver = []fetch.Target{home, other}
	want := r.fill(1)
	r.poll()
	r.advance(day)
	if s := r.poll(); s.Class != fetch.ClassRetry || !errors.Is(s.Err, errNoAnswer) {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
	r.account.Deliver = up
	r.advance(day)
	r.poll()
	r.mustPoll()
	r.expectDelivered(want...)
	expectMail(t, "the other", others(), want...)
	r.expectMaildropEmpty()
}

// An unreachable sink is reported once, though the poll asks it to settle and then for a
// batch.
func TestUnreachableSinkIsReportedOnce(t *testing.T) {
	for _, several := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{})
		home := r.account.Deliver[0].Sink
		if several {
			r.addMaildir("archive")
		}
		r.fill(2)
		r.account.Deliver[0].Sink = unanswering{home}
		r.poll()
		r.account.Deliver[0].Sink = unreachable{home}
		r.drop.Add("next", []byte("Subject: next\n\n"))
		if s := r.poll(); s.Class != fetch.ClassRetry || strings.Count(fmt.Sprint(s.Err), "no route") != 1 {
			t.Errorf("several %v: %v: %v", several, s.Class, s.Err)
		}
	}
}

// A sink that fails in Prepare, perhaps after a long wait for a lock, is not tried again
// in the same poll.
func TestOneOfSeveralIsPreparedOnce(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	archive, _ := r.newMaildir("archive")
	tries := 0
	archive.Sink = failPrepare(archive.Sink, &tries)
	r.account.Deliver = append(r.account.Deliver, archive)
	r.account.MaxMessages = 150
	want := r.fill(200)
	if s := r.poll(); s.Class != fetch.ClassRetry || s.Deleted != 0 || tries != 1 {
		t.Errorf("%v after %d tries, %d deleted: %v", s.Class, tries, s.Deleted, s.Err)
	}
	r.expectDelivered(want...)
}

// What a sink may have taken in one session of a poll is not sent to it again by the next
// session.
func TestPromiseOpenInTheNextSession(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	staged := 0
	r.account.Deliver[0].Sink = hooked(r.account.Deliver[0].Sink, hooks{
		stage: func(ctx context.Context, b deliver.Batch, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
			if staged++; staged == 1 {
				return 0, errPoison
			}
			return b.Stage(ctx, mail, body)
		},
	})
	archive, archived := r.newMaildir("archive")
	up := archive.Sink
	archive.Sink = unreported(oneByOne{up})
	r.account.Deliver = append(r.account.Deliver, archive)
	r.account.MaxMessages = 3
	want := r.fill(6)
	if s := r.poll(); s.Sessions < 2 || s.Deleted != 0 {
		t.Fatalf("%d sessions, %d deleted: %v", s.Sessions, s.Deleted, s.Err)
	}
	expectMail(t, "the archive", archived(), want[:2]...) // those that it took before it failed
	r.account.Deliver[1].Sink = up
	r.advance(day)
	r.mustPoll()
	r.expectDelivered(want...)
	expectMail(t, "the archive", archived(), want...)
	r.expectMaildropEmpty()
}

// A message whose delivery is not settled may vanish, and a new one get its unique-id. The
// new one is delivered.
func TestUIDReuseWhileUnsettled(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	home := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = unreported(oneByOne{home})
	r.drop.Add("u", []byte(message(1)))
	r.poll()
	r.expectDelivered(message(1))
	r.account.Deliver[0].Sink = unanswering{home}
	r.drop.Remove("u")
	r.poll()
	r.drop.Add("u", []byte(message(2)))
	r.poll()
	r.account.Deliver[0].Sink = home
	r.mustPoll()
	r.expectDelivered(message(1), message(2))
	r.expectMaildropEmpty()
}

// What a poll left open is reported as deliveries: a message counts once for each sink.
func TestOpenDeliveriesAreReported(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	archived := r.addMaildir("archive")
	r.drop.Add("u", []byte(message(1)))
	for _, to := range r.account.Deliver {
		check(t, r.store.Promise(t.Context(), r.account.Name, []state.Promise{{UID: "u", Sink: to.Name, Token: "nothing"}}))
	}
	r.mustPoll()
	want := "the last poll left 2 deliveries on their way: 0 had arrived, 2 are made again, 0 nobody can tell yet"
	if notes := eventsOf[fetch.Noticed](r); len(notes) != 1 || notes[0].Text != want {
		t.Errorf("told %+v, want %q", notes, want)
	}
	r.expectDelivered(message(1))
	expectMail(t, "the archive", archived(), message(1))
}

// A message without unique-id that one of two sinks refused is known again by its content,
// though the server says another size.
func TestPartlyDeliveredOfAnotherSize(t *testing.T) {
	r, good, poison := newPoisonRig(t, false)
	r.drop.Behave(pop3test.Behaviour{Without: []string{"UIDL", "TOP"}})
	archived := r.addMaildir("archive")
	r.poll()
	expectMail(t, "the archive", archived(), append(slices.Clone(good), poison)...)
	r.server.Order(pop3test.WrongSizes(func(string, int64) int64 { return 7 }))
	r.advance(day)
	r.poll()
	expectMail(t, "the archive", archived(), append(slices.Clone(good), poison)...)
}

// A message that one of two sinks refused is known again by its header, though the server
// has added a Status field.
func TestPartlyDeliveredWithStatusField(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(1)
	archive, archived := r.newMaildir("archive")
	up, tries := archive.Sink, 0
	archive.Sink = failPrepare(up, &tries)
	r.account.Deliver = append(r.account.Deliver, archive)
	r.poll()
	r.drop.Remove("u1")
	r.drop.Add("u1", []byte("Status: O\n"+want[0]))
	r.account.Deliver[1].Sink = up
	r.advance(day)
	r.mustPoll()
	r.expectDelivered(want...)
	expectMail(t, "the archive", archived(), "Status: O\n"+want[0])
	r.expectMaildropEmpty()
}

// Where unique-ids are message numbers, a message that one sink lacks may be listed under
// the number of another one that has to wait. Each arrives once in each sink.
func TestPartlyDeliveredUnderAnotherNumber(t *testing.T) {
	for _, wait := range []time.Duration{5 * time.Minute, day} {
		for name, text := range map[string]func(int) string{"told apart": message, "alike": sameHeader} {
			r := newRig(t, pop3test.Behaviour{})
			second, seconds := r.newMaildir("second")
			up := second.Sink
			number := func() { r.numberUIDs() }
			refused := strings.ReplaceAll(text(2), "\n", "\r\n")
			second.Sink = refuseText(up, refused)
			r.account.Deliver = append(r.account.Deliver, second)
			var want []string
			for i := range 3 {
				if i == 2 { // the first message is gone by then, and the second has its number
					r.poll()
					r.advance(wait)
				}
				want = append(want, text(i+1))
				r.drop.Add("new", []byte(text(i+1)))
				number()
			}
			r.poll()
			r.account.Deliver[1].Sink = up
			for range 4 {
				r.advance(day)
				number()
				r.poll()
			}
			expectMail(t, fmt.Sprint(name, ", after ", wait, ": the first"), r.mail(), want...)
			expectMail(t, fmt.Sprint(name, ", after ", wait, ": the second"), seconds(), want...)
		}
	}
}

// refuseText returns a sink that refuses, for good, the message with that text.
func refuseText(sink deliver.Sink, text string) deliver.Sink {
	return hooked(sink, hooks{
		stage: func(ctx context.Context, b deliver.Batch, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
			data, err := io.ReadAll(body)
			if err == nil && string(data) == text {
				err = errPoison
			}
			if err != nil {
				return 0, err
			}
			return b.Stage(ctx, mail, bytes.NewReader(data))
		},
	})
}
