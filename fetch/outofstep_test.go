package fetch_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/filter"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// tooMany has the server send a refusal that answers no command, before its reply to a
// command; tooFew has it send no reply at all.
func tooMany(verb string) pop3test.Fault { return pop3test.Prepend(verb, "-ERR one line too much\r\n") }
func tooFew(verb string) pop3test.Fault {
	return pop3test.On(verb, func(x *pop3test.Exchange) { x.Reply = strings.NewReader("") })
}

// If replies are out of step with pipelined commands, messages come under the unique-ids
// of others. Each is delivered once all the same.
func TestOutOfStep(t *testing.T) {
	for name, fault := range map[string]pop3test.Fault{"one too many": tooMany("RETR"), "one too few": tooFew("RETR")} {
		for kept, keep := range map[string]fetch.Keep{"deleted": {}, "kept": {Forever: true}} {
			t.Run(name+", "+kept, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, pop3test.Behaviour{})
				impatient(r.account)
				r.account.Keep = keep
				want := r.fill(10)
				r.server.Order(fault.Nth(3).Session(1))
				for range 4 {
					r.poll()
					r.advance(day)
				}
				r.expectDelivered(want...)
				if keep == (fetch.Keep{}) {
					r.expectMaildropEmpty()
				}
			})
		}
	}
}

// whenLanded returns a channel that is closed once n messages have landed.
func (r *rig) whenLanded(n int) <-chan struct{} {
	landed := make(chan struct{})
	r.opts.Observer = func(e fetch.Event) {
		if _, ok := e.(fetch.Landed); ok {
			if n--; n == 0 {
				close(landed)
			}
		}
	}
	return landed
}

// A message that comes late makes an extra reply invisible until all messages are
// delivered. The client looks before it deletes.
func TestOutOfStepLate(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Deliver[0].Sink = oneByOne{r.account.Deliver[0].Sink}
	want := r.fill(10)
	landed := r.whenLanded(9)
	r.server.Order(tooMany("RETR").Nth(3).Session(1), pop3test.Hold("RETR", landed).Nth(10).Session(1))
	for range 3 {
		r.poll()
		r.advance(day)
	}
	r.expectDelivered(want...)
	r.expectMaildropEmpty()
}

// twice has the server send a whole reply to RETR twice.
var twice = pop3test.On("RETR", func(x *pop3test.Exchange) {
	x.Act()
	reply, _ := io.ReadAll(x.Reply)
	x.Reply = bytes.NewReader(slices.Concat(reply, reply))
})

// If a whole reply comes twice, and the last one late, no refusal shows it. The doubled
// message is delivered twice, and none is lost.
func TestOutOfStepDoubled(t *testing.T) {
	for name, keep := range map[string]fetch.Keep{"deleted": {}, "kept for a time": {For: 3 * day}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{})
			r.account.Keep = keep
			r.account.Deliver[0].Sink = oneByOne{r.account.Deliver[0].Sink}
			want := r.fill(10)
			landed := r.whenLanded(len(want))
			r.server.Order(twice.Nth(3).Session(1), pop3test.Hold("RETR", landed).Nth(10).Session(1))
			for range 6 {
				r.poll()
				r.advance(day)
			}
			r.expectDelivered(append(want, want[2])...)
			r.expectMaildropEmpty()
		})
	}
}

// No message is lost after a doubled reply if the connection breaks, or the process is
// killed, before the client could ask how many messages there are: the sizes show it.
func TestOutOfStepDoubledAndEnded(t *testing.T) {
	ended := func(t *testing.T, left int) (killed bool) {
		r := newRig(t, pop3test.Behaviour{})
		want := r.fill(30)
		r.server.Order(twice.Nth(3).Session(1), pop3test.CutIn("RETR", 40, pop3test.HangUp).Nth(20).Session(1))
		process := &killedAfterWrites{State: r.store, left: left}
		r.opts.State = process
		r.poll()
		r.opts.State = r.store
		for range 4 {
			r.advance(day)
			r.poll()
		}
		r.expectMaildropEmpty()
		got := r.mail()
		if n := len(got); n != len(want) && n != len(want)+1 {
			t.Errorf("%d messages arrived as %d", len(want), n)
		}
		for _, w := range want {
			if !slices.Contains(got, w) {
				t.Errorf("lost %q", w)
			}
		}
		return process.left == 0
	}
	for left := 0; !t.Failed() && ended(t, left); left++ {
	}
}

// No message is lost whose reply is missing if the connection breaks later: those before
// the first whose size is wrong may be wrong, too.
func TestOutOfStepSeenLate(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fillSameSize(5)
	for i := range 5 {
		want = append(want, message(i))
		r.drop.Add(fmt.Sprint("of another size ", i), []byte(message(i)))
	}
	r.server.Order(tooFew("RETR").Nth(2).Session(1), pop3test.CutIn("RETR", 40, pop3test.HangUp).Nth(8).Session(1),
		pop3test.ReplyErr("TOP", "no"))
	for range 4 {
		r.poll()
		r.advance(day)
	}
	r.expectMaildropEmpty()
	for _, w := range want {
		if !slices.Contains(r.mail(), w) {
			t.Errorf("lost %q", w)
		}
	}
}

// No message is lost after a missing reply if a sink fails meanwhile, so that no more
// messages are wanted.
func TestOutOfStepBesideSink(t *testing.T) {
	for _, over := range []int{3, 6} {
		r := newRig(t, pop3test.Behaviour{})
		want := r.fillSameSize(10)
		home := r.account.Deliver[0].Sink
		staged, dropped := make(chan struct{}), make(chan struct{})
		begun := 0
		r.account.Deliver[0].Sink = wrapBatches(oneByOne{home}, func(b deliver.Batch) deliver.Batch {
			begun++
			return &failingInTurn{b, begun - over, staged, dropped}
		})
		r.server.Order(tooFew("RETR").Nth(3).Session(1), pop3test.On("RETR", func(x *pop3test.Exchange) {
			x.Wait(dropped)
			x.Reply = strings.NewReader("what?\r\n")
		}).Nth(over+4).Session(1))
		r.poll()
		r.account.Deliver[0].Sink = home
		for range 4 {
			r.advance(day)
			r.poll()
		}
		r.expectMaildropEmpty()
		for _, w := range want {
			if got := r.mail(); !slices.Contains(got, w) {
				t.Errorf("the sink failed over %d: lost %q", over, w)
			}
		}
	}
}

// fillSameSize is fill with messages that all have the same size.
func (r *rig) fillSameSize(n int) (want []string) {
	for i := range n {
		want = append(want, fmt.Sprintf("Message-ID: <%02d@example.net>\n\n", i))
		r.drop.Add(fmt.Sprint("u", i), []byte(want[i]))
	}
	return want
}

// failingInTurn is a batch of a sink that fails over the batch n == 0 and the next one. The next
// fails once the one after it has staged a message, which is dropped then.
type failingInTurn struct {
	deliver.Batch
	n               int
	staged, dropped chan struct{}
}

func (d *failingInTurn) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	if d.n == 2 {
		defer close(d.staged)
	}
	return d.Batch.Stage(ctx, mail, body)
}

func (d *failingInTurn) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	switch d.n {
	case 1:
		<-d.staged
		fallthrough
	case 0:
		return errCommit
	}
	return d.Batch.Commit(ctx, landed)
}

func (d *failingInTurn) Abort() error {
	if d.n == 2 {
		defer close(d.dropped)
	}
	return d.Batch.Abort()
}

// testKilledAtEachWrite polls the account that begin makes, and kills the poll before each
// of its writes to the state. begin also returns what must have been delivered some polls
// later.
func testKilledAtEachWrite(t *testing.T, begin func() (r *rig, want []string)) {
	killed := true
	for left := 0; killed; left++ {
		r, want := begin()
		r.server.Order(tooMany("RETR").Nth(1).Session(1))
		process := &killedAfterWrites{State: r.store, left: left}
		r.opts.State = process
		r.poll()
		killed = process.left == 0
		r.opts.State = r.store
		for range 4 {
			r.advance(day)
			r.poll()
		}
		r.expectDelivered(want...)
		r.expectMaildropEmpty()
		if t.Failed() {
			t.Fatalf("killed when %d things were noted", left)
		}
	}
}

// What landed behind a refusal that may have answered no command is in doubt, also if the
// process is killed before it could ask.
func TestOutOfStepKilled(t *testing.T) {
	testKilledAtEachWrite(t, func() (*rig, []string) {
		r := newRig(t, pop3test.Behaviour{})
		return r, r.fill(100)
	})
	testKilledAtEachWrite(t, func() (*rig, []string) {
		r := newRig(t, pop3test.Behaviour{})
		return r, r.fillSameSize(10)
	})
}

// A message that a filter dropped behind such a refusal is in doubt, too, since it counts
// as delivered.
func TestOutOfStepDroppedAndKilled(t *testing.T) {
	testKilledAtEachWrite(t, func() (*rig, []string) {
		r := newFilterRig(t, `case "$(tee /dev/fd/3)" in *"number 2"*) exit 99;; esac 3>&1`, filter.Options{AllowDrop: true})
		all := r.fill(4)
		return r, []string{all[0], all[2], all[3]}
	})
}

// A connection that only dies casts no doubt: nothing is looked at again.
func TestCutIsNotOutOfStep(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(30)
	r.server.Order(pop3test.CutIn("RETR", 40, pop3test.HangUp).Nth(20).Session(1))
	r.poll()
	r.advance(time.Hour)
	r.poll()
	r.expectDelivered(want...)
	r.expectMaildropEmpty()
	for _, line := range r.newCommands() {
		if strings.HasPrefix(line, "TOP") {
			t.Fatal("messages were looked at again")
		}
	}
	r.expectRetrieved(len(want) + 1)
}

// A server that answers STAT otherwise in the middle of a session is found out once, and
// not with each poll.
func TestChangingStatIsFoundOnce(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(5)
	n := 0
	r.server.Order(pop3test.On("STAT", func(x *pop3test.Exchange) {
		n++
		x.Reply = strings.NewReader(fmt.Sprintf("+OK 5 %d\r\n", 1000+n))
	}))
	r.poll()
	for i := range 3 {
		r.advance(time.Hour)
		r.drop.Add(fmt.Sprint("v", i), []byte(message(20+i)))
		want = append(want, message(20+i))
		if s := r.mustPoll(); s.Sessions != 1 {
			t.Errorf("poll %d: %d sessions", i, s.Sessions)
		}
	}
	r.expectDelivered(want...)
	r.expectMaildropEmpty()
}

// An extra refusal before the replies to DELE makes a deleted message look refused, and
// the other way round. New mail with such unique-ids is fetched.
func TestRefusalTooManyOfDeletion(t *testing.T) {
	for n := range 3 {
		r := newRig(t, pop3test.Behaviour{})
		want := r.fill(1 + n)
		r.server.Order(tooMany("DELE").Session(1))
		r.poll()
		for i := range want {
			r.drop.Add(fmt.Sprint("u", 1+i), []byte(message(11+i)))
			want = append(want, message(11+i))
		}
		for range 3 {
			r.advance(time.Hour)
			r.poll()
		}
		r.expectDelivered(want...)
		r.expectMaildropEmpty()
	}
}

// Replies may also get out of step while messages are compared, by their headers or as a
// whole. Each is still delivered once.
func TestOutOfStepComparing(t *testing.T) {
	for name, test := range map[string]struct {
		server pop3test.Behaviour
		verb   string
	}{
		"headers":  {verb: "TOP"},
		"contents": {pop3test.Behaviour{Without: []string{"TOP"}}, "RETR"},
	} {
		for many, fault := range map[string]pop3test.Fault{"too many": tooMany(test.verb), "too few": tooFew(test.verb)} {
			t.Run(name+", "+many, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, test.server)
				impatient(r.account)
				r.account.Keep = fetch.Keep{Forever: true}
				want := r.fill(7)
				r.mustPoll()
				want = append(want, message(14)) // it has the size of the last one
				r.drop.Add("u8", []byte(message(14)))
				r.drop.SetUIDs(func(i int, _ string) string { return fmt.Sprint("new", i) })
				r.server.Order(fault.Nth(3).Session(2))
				for range 4 {
					r.advance(time.Hour)
					r.poll()
				}
				r.expectDelivered(want...)
			})
		}
	}
}

// What was compared behind a refusal that may have answered no command is not believed,
// also if the connection dies before the client could ask: there may be new mail among it.
func TestOutOfStepComparingAndCut(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.account.Keep = fetch.Keep{Forever: true}
	want := r.fillSameSize(7)
	r.mustPoll()
	for i := 7; i < 9; i++ {
		want = append(want, fmt.Sprintf("Message-ID: <%02d@example.net>\n\n", i))
		r.drop.Add(fmt.Sprint("u", i), []byte(want[i]))
	}
	r.drop.SetUIDs(func(i int, _ string) string { return fmt.Sprint("new", i) })
	r.server.Order(tooMany("RETR").Nth(3).Session(2), pop3test.CutIn("RETR", 20, pop3test.HangUp).Nth(8).Session(2))
	for range 4 {
		r.advance(time.Hour)
		r.poll()
	}
	r.expectDelivered(want...)
}

// A message over which the server hangs is put behind all others, also if the maildrop is
// locked for a while then, and the poll does not count as fine.
func TestHungMessageComesLast(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	impatient(r.account)
	r.retryInUse = false
	want := r.fill(4)
	first := func(x *pop3test.Exchange) bool { return x.Args == "1" }
	r.server.Order(
		pop3test.Ignore("RETR", pop3test.Hang).When(first),
		pop3test.ReplyErr(pop3test.Login, "[IN-USE] locked").Session(2),
	)
	if s := r.poll(); s.Class != fetch.ClassRetry || !strings.Contains(s.Err.Error(), "no answer from server") {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
	r.advance(2 * time.Hour)
	r.poll()
	r.expectDelivered(want[1:]...)
	if left := r.left(); !slices.Equal(left, []string{"u1"}) {
		t.Errorf("left %q", left)
	}
}

// A server whose STAT is never the same is looked at with one command at a time, also by
// Check and Look.
func TestOutOfStepLooking(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.account.Keep = fetch.Keep{Forever: true}
	r.fill(3)
	r.mustPoll()
	r.renameUIDs()
	n := 0
	r.server.Order(pop3test.On("STAT", func(x *pop3test.Exchange) {
		n++
		x.Reply = strings.NewReader(fmt.Sprintf("+OK 3 %d\r\n", 1000+n))
	}))
	r.advance(time.Hour)
	if _, err := r.account.Check(t.Context(), r.opts); err != nil {
		t.Error("check:", err)
	}
	r.fates()
	r.mustPoll()
}

// Where the server never lists the right sizes, comparisons count only once all their
// replies have come. A connection that dies before that, time and again, does not have
// them repeated for ever.
func TestWrongSizesOverDyingConnection(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.retryInUse = true
	want := r.fill(40)
	r.server.Order(pop3test.WrongSizes(func(_ string, octets int64) int64 { return octets + 7 }))
	r.mustPoll()
	r.advance(day)
	r.drop.Restore()
	r.drop.Order(pop3test.ReplyErr("TOP", "no"))
	for i := range 40 {
		r.drop.Order(pop3test.CutIn("RETR", 0, pop3test.HangUp).Nth(15).Session(r.drop.Sessions() + 1 + i))
	}
	for range 4 {
		r.poll()
		r.advance(day)
	}
	r.expectDelivered(want...)
	r.expectMaildropEmpty()
}

// With pipelining, a missing CRLF before the final dot, or a line too many, moves all
// later replies by one message. No message gets another's bytes, and none is lost.
func TestRepliesOutOfStep(t *testing.T) {
	once := func(f pop3test.Fault, uid string) pop3test.Fault { return f.UID(uid).Session(1) }
	noCRLF := once(pop3test.NoFinalCRLF("RETR"), "u2")
	for name, faults := range map[string][]pop3test.Fault{
		"no CRLF before the dot": {noCRLF},
		"no CRLF, and a refusal": {noCRLF, once(pop3test.ReplyErr("RETR", "busy"), "u3")},
		"no CRLF, and a shout":   {noCRLF, once(pop3test.Prepend("RETR", "+ok "), "u3")},
		"a line too much":        {once(pop3test.Prepend("RETR", "+OK still here\r\n"), "u2")},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{})
			want := r.fill(5)
			r.drop.Order(faults...)
			s := r.mustPoll()
			r.expectDelivered(want...)
			if s.Deleted != 5 || s.Sessions != 2 {
				t.Errorf("deleted %d in %d sessions", s.Deleted, s.Sessions)
			}
		})
	}
}

// A message whose content only looks like replies out of step is fetched.
func TestLooksOutOfStep(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := append(r.fill(3), "Subject: x\n\nThe end.\n+OK then\n")
	r.drop.Add("x", []byte(want[3]))
	s := r.mustPoll()
	r.expectDelivered(want...)
	if s.Deleted != 4 {
		t.Errorf("deleted %d", s.Deleted)
	}
}
