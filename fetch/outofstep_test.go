package fetch_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/filter"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// tooMany is a refusal that answers nothing, tooFew a command that gets no answer.
func tooMany(verb string) pop3test.Fault { return pop3test.Prepend(verb, "-ERR one line too much\r\n") }
func tooFew(verb string) pop3test.Fault {
	return pop3test.On(verb, func(x *pop3test.Exchange) { x.Reply = strings.NewReader("") })
}

// Replies that are out of step with pipelined commands bring messages under the
// names of others. Each arrives once all the same.
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
					r.later(day)
				}
				r.expect(want...)
				if keep == (fetch.Keep{}) {
					r.expectEmpty()
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

// A reply that comes late comes when nothing of it is seen before messages are
// deleted, unless somebody looks.
func TestOutOfStepLate(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Deliver[0].Sink = oneByOne{r.account.Deliver[0].Sink}
	want := r.fill(10)
	landed := r.whenLanded(9)
	r.server.Order(tooMany("RETR").Nth(3).Session(1), pop3test.Hold("RETR", landed).Nth(10).Session(1))
	for range 3 {
		r.poll()
		r.later(day)
	}
	r.expect(want...)
	r.expectEmpty()
}

// oneByOne is a sink with batches of one message.
type oneByOne struct{ deliver.Sink }

func (o oneByOne) Profile() deliver.Profile {
	p := o.Sink.Profile()
	p.MaxMessages = 1
	return p
}

// twice has a whole message come twice.
var twice = pop3test.On("RETR", func(x *pop3test.Exchange) {
	x.Act()
	reply, _ := io.ReadAll(x.Reply)
	x.Reply = bytes.NewReader(slices.Concat(reply, reply))
})

// A whole reply that comes twice, before one that comes late, is no refusal that
// would tell. The one message lands twice, as the server sent it; none is lost.
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
				r.later(day)
			}
			r.expect(append(want, want[2])...)
			r.expectEmpty()
		})
	}
}

// Nor is any lost if the connection breaks, or the process is killed, before the server
// could be asked how many messages it has: the sizes tell.
func TestOutOfStepDoubledAndEnded(t *testing.T) {
	ended := func(t *testing.T, left int) (killed bool) {
		r := newRig(t, pop3test.Behaviour{})
		want := r.fill(30)
		r.server.Order(twice.Nth(3).Session(1), pop3test.CutIn("RETR", 40, pop3test.HangUp).Nth(20).Session(1))
		doomed := &doomed{State: r.store, left: left}
		r.opts.State = doomed
		r.poll()
		r.opts.State = r.store
		for range 4 {
			r.later(day)
			r.poll()
		}
		r.expectEmpty()
		got := r.mail()
		if n := len(got); n != len(want) && n != len(want)+1 {
			t.Errorf("%d messages arrived as %d", len(want), n)
		}
		for _, w := range want {
			if !slices.Contains(got, w) {
				t.Errorf("lost %q", w)
			}
		}
		return doomed.left == 0
	}
	for left := 0; !t.Failed() && ended(t, left); left++ {
	}
}

// Nor is one that came under no name at all, if the connection breaks later: what came
// before the first that a size tells may be others', too. No headers tell that later.
func TestOutOfStepSeenLate(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fillAlike(5)
	for i := range 5 {
		want = append(want, message(i))
		r.drop.Add(fmt.Sprint("of another size ", i), []byte(message(i)))
	}
	r.server.Order(tooFew("RETR").Nth(2).Session(1), pop3test.CutIn("RETR", 40, pop3test.HangUp).Nth(8).Session(1),
		pop3test.ReplyErr("TOP", "no"))
	for range 4 {
		r.poll()
		r.later(day)
	}
	r.expectEmpty()
	for _, w := range want {
		if !slices.Contains(r.mail(), w) {
			t.Errorf("lost %q", w)
		}
	}
}

// Nor is any lost if a sink fails meanwhile, so that no more is wanted.
func TestOutOfStepBesideSink(t *testing.T) {
	for _, over := range []int{3, 6} {
		r := newRig(t, pop3test.Behaviour{})
		want := r.fillAlike(10)
		home := r.account.Deliver[0].Sink
		staged, dropped := make(chan struct{}), make(chan struct{})
		begun := 0
		r.account.Deliver[0].Sink = &batched{oneByOne{home}, func(b deliver.Batch) deliver.Batch {
			begun++
			return &dying{b, begun - over, staged, dropped}
		}}
		r.server.Order(tooFew("RETR").Nth(3).Session(1), pop3test.On("RETR", func(x *pop3test.Exchange) {
			x.Wait(dropped)
			x.Reply = strings.NewReader("what?\r\n")
		}).Nth(over+4).Session(1))
		r.poll()
		r.account.Deliver[0].Sink = home
		for range 4 {
			r.later(day)
			r.poll()
		}
		r.expectEmpty()
		for _, w := range want {
			if got := r.mail(); !slices.Contains(got, w) {
				t.Errorf("the sink failed over %d: lost %q", over, w)
			}
		}
	}
}

// fillAlike is fill with messages that their sizes do not tell.
func (r *rig) fillAlike(n int) (want []string) {
	for i := range n {
		want = append(want, fmt.Sprintf("Message-ID: <%02d@example.net>\n\n", i))
		r.drop.Add(fmt.Sprint("u", i), []byte(want[i]))
	}
	return want
}

// dying is the n-th batch, from 0, of a sink that fails over that, and over the next
// once a third is staged, which is dropped then.
type dying struct {
	deliver.Batch
	n               int
	staged, dropped chan struct{}
}

func (d *dying) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	if d.n == 2 {
		defer close(d.staged)
	}
	return d.Batch.Stage(ctx, mail, body)
}

func (d *dying) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	switch d.n {
	case 1:
		<-d.staged
		fallthrough
	case 0:
		return errAllergic
	}
	return d.Batch.Commit(ctx, landed)
}

func (d *dying) Abort() error {
	if d.n == 2 {
		defer close(d.dropped)
	}
	return d.Batch.Abort()
}

// doomed is the state of a process that is killed before so many things are noted.
type doomed struct {
	fetch.State
	left int
	mu   sync.Mutex
}

func (d *doomed) note(f func() error) error {
	d.mu.Lock()
	killed := d.left == 0
	if !killed {
		d.left--
	}
	d.mu.Unlock()
	if killed {
		return errForgot
	}
	return f()
}

func (d *doomed) Promise(ctx context.Context, account string, ps []state.Promise) error {
	return d.note(func() error { return d.State.Promise(ctx, account, ps) })
}

func (d *doomed) Land(ctx context.Context, account string, at int64, ls []state.Landing) error {
	return d.note(func() error { return d.State.Land(ctx, account, at, ls) })
}

func (d *doomed) Keep(ctx context.Context, account string, at int64, h state.Housekeeping) error {
	return d.note(func() error { return d.State.Keep(ctx, account, at, h) })
}

func (d *doomed) Refuse(ctx context.Context, account string, rs []state.Refusal) error {
	return d.note(func() error { return d.State.Refuse(ctx, account, rs) })
}

func (d *doomed) SavePoll(ctx context.Context, account string, p state.Poll) error {
	return d.note(func() error { return d.State.SavePoll(ctx, account, p) })
}

// killedAtAnything has a poll of the account that begin makes killed before each of
// the things that it notes. begin returns what is to have arrived some polls later.
func killedAtAnything(t *testing.T, begin func() (r *rig, want []string)) {
	killed := true
	for left := 0; killed; left++ {
		r, want := begin()
		r.server.Order(tooMany("RETR").Nth(1).Session(1))
		doomed := &doomed{State: r.store, left: left}
		r.opts.State = doomed
		r.poll()
		killed = doomed.left == 0
		r.opts.State = r.store
		for range 4 {
			r.later(day)
			r.poll()
		}
		r.expect(want...)
		r.expectEmpty()
		if t.Failed() {
			t.Fatalf("killed when %d things were noted", left)
		}
	}
}

// What landed behind a refusal that may answer nothing is in doubt, also if the
// process is killed before it could find out.
func TestOutOfStepKilled(t *testing.T) {
	killedAtAnything(t, func() (*rig, []string) {
		r := newRig(t, pop3test.Behaviour{})
		return r, r.fill(100)
	})
	killedAtAnything(t, func() (*rig, []string) {
		r := newRig(t, pop3test.Behaviour{})
		return r, r.fillAlike(10)
	})
}

// So is what a filter dropped there: it counts as delivered.
func TestOutOfStepDroppedAndKilled(t *testing.T) {
	killedAtAnything(t, func() (*rig, []string) {
		r := filtered(t, `case "$(tee /dev/fd/3)" in *"number 2"*) exit 99;; esac 3>&1`, filter.Options{AllowDrop: true})
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
	r.later(time.Hour)
	r.poll()
	r.expect(want...)
	r.expectEmpty()
	for _, line := range r.commands() {
		if strings.HasPrefix(line, "TOP") {
			t.Fatal("messages were looked at again")
		}
	}
	r.expectRetrieved(len(want) + 1)
}

// A server that counts otherwise in the middle of a session is found out once, and
// not in each poll; also where it wants a pause between two logins.
func TestStatChanges(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(5)
	n := 0
	r.server.Order(pop3test.On("STAT", func(x *pop3test.Exchange) {
		n++
		x.Reply = strings.NewReader(fmt.Sprintf("+OK 5 %d\r\n", 1000+n))
	}))
	r.poll()
	for i := range 3 {
		r.later(time.Hour)
		r.drop.Add(fmt.Sprint("v", i), []byte(message(20+i)))
		want = append(want, message(20+i))
		if s := r.succeed(); s.Sessions != 1 {
			t.Errorf("poll %d: %d sessions", i, s.Sessions)
		}
	}
	r.expect(want...)
	r.expectEmpty()
}

// A refusal too many before the replies to DELE makes those of the messages that
// were deleted pass for those of others. New mail may have their unique-ids.
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
			r.later(time.Hour)
			r.poll()
		}
		r.expect(want...)
		r.expectEmpty()
	}
}

// So it is where messages are looked at that may have been here before: by their
// headers, or as a whole.
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
				r.succeed()
				want = append(want, message(14)) // of the size of the last
				r.drop.Add("u8", []byte(message(14)))
				r.drop.SetUIDs(func(i int, _ string) string { return fmt.Sprint("new", i) })
				r.server.Order(fault.Nth(3).Session(2))
				for range 4 {
					r.later(time.Hour)
					r.poll()
				}
				r.expect(want...)
			})
		}
	}
}

// What was compared behind a refusal that may answer nothing is not believed, also if
// the line dies before the server could be asked: there may be new mail among it.
func TestOutOfStepComparingAndCut(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.account.Keep = fetch.Keep{Forever: true}
	want := r.fillAlike(7)
	r.succeed()
	for i := 7; i < 9; i++ {
		want = append(want, fmt.Sprintf("Message-ID: <%02d@example.net>\n\n", i))
		r.drop.Add(fmt.Sprint("u", i), []byte(want[i]))
	}
	r.drop.SetUIDs(func(i int, _ string) string { return fmt.Sprint("new", i) })
	r.server.Order(tooMany("RETR").Nth(3).Session(2), pop3test.CutIn("RETR", 20, pop3test.HangUp).Nth(8).Session(2))
	for range 4 {
		r.later(time.Hour)
		r.poll()
	}
	r.expect(want...)
}

// A message over which the server hangs is put behind all others, also if the
// maildrop is locked for a while after that; and the poll does not pass for fine.
func TestHungAndInUse(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	impatient(r.account)
	r.patient = false
	want := r.fill(4)
	first := func(x *pop3test.Exchange) bool { return x.Args == "1" }
	r.server.Order(
		pop3test.Ignore("RETR", pop3test.Hang).When(first),
		pop3test.ReplyErr(pop3test.Login, "[IN-USE] locked").Session(2),
	)
	if s := r.poll(); s.Class != fetch.ClassRetry || !strings.Contains(s.Err.Error(), "no answer from server") {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
	r.later(2 * time.Hour)
	r.poll()
	r.expect(want[1:]...)
	if left := r.left(); !slices.Equal(left, []string{"u1"}) {
		t.Errorf("left %q", left)
	}
}

// A server that says of the maildrop what it likes is looked at one command at a
// time, by who only looks, too.
func TestOutOfStepLooking(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.account.Keep = fetch.Keep{Forever: true}
	r.fill(3)
	r.succeed()
	r.drop.SetUIDs(func(_ int, old string) string { return "new-" + old })
	n := 0
	r.server.Order(pop3test.On("STAT", func(x *pop3test.Exchange) {
		n++
		x.Reply = strings.NewReader(fmt.Sprintf("+OK 3 %d\r\n", 1000+n))
	}))
	r.later(time.Hour)
	if _, err := r.account.Check(t.Context(), r.opts); err != nil {
		t.Error("check:", err)
	}
	r.outlook()
	r.succeed()
}

// Where a server never tells the right size, each comparison is dubious until the end of
// its flight. A line that dies before that each time does not have it done for ever.
func TestWrongSizesOverADyingLine(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.patient = true
	want := r.fill(40)
	r.server.Order(pop3test.WrongSizes(func(_ string, octets int64) int64 { return octets + 7 }))
	r.succeed()
	r.later(day)
	r.drop.Restore()
	r.drop.Order(pop3test.ReplyErr("TOP", "no"))
	for i := range 40 {
		r.drop.Order(pop3test.CutIn("RETR", 0, pop3test.HangUp).Nth(15).Session(r.drop.Sessions() + 1 + i))
	}
	for range 4 {
		r.poll()
		r.later(day)
	}
	r.expect(want...)
	r.expectEmpty()
}
