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

// poisonRefuser is a sink that refuses, for good, every message with the word "poison" in
// it. Its batches are one message.
type poisonRefuser struct {
	deliver.Sink
	late bool // refuse in Commit, as a mail server may, and not in Stage
}

type poisonRefuserBatch struct {
	deliver.Batch
	late   bool
	poison bool
}

var errPoison = &deliver.Error{Fault: deliver.FaultMessage, Target: "picky", Op: "deliver", Err: errors.New("it is poison")}

func (p poisonRefuser) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := p.Sink.Begin(ctx)
	return &poisonRefuserBatch{Batch: b, late: p.late}, err
}

func (p *poisonRefuserBatch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return 0, err
	}
	p.poison = bytes.Contains(data, []byte("poison"))
	if p.poison && !p.late {
		return 0, errPoison
	}
	return p.Batch.Stage(ctx, mail, bytes.NewReader(data))
}

// A batch is one message, which is poison or not.
func (p *poisonRefuserBatch) Prepare(ctx context.Context) ([]deliver.Promise, error) {
	if p.poison {
		return []deliver.Promise{{Token: "I will not keep it"}}, nil
	}
	return p.Batch.Prepare(ctx)
}

func (p *poisonRefuserBatch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	if p.poison {
		return landed(deliver.Receipt{Err: errPoison})
	}
	return p.Batch.Commit(ctx, landed)
}

func (p poisonRefuser) Profile() deliver.Profile {
	prof := p.Sink.Profile()
	prof.MaxMessages = 1
	return prof
}

// newPoisonRig returns a rig whose sink is a poisonRefuser, and whose maildrop holds three
// messages: u1 and u3, which are good, and u2, which is poison.
func newPoisonRig(t *testing.T, late bool) (r *rig, good []string, poison string) {
	r = newRig(t, pop3test.Behaviour{})
	r.account.Deliver[0].Sink = poisonRefuser{r.account.Deliver[0].Sink, late}
	good, poison = []string{message(1), message(3)}, "Subject: poison\n\npoison\n"
	for uid, raw := range map[string]string{"u1": good[0], "u3": good[1], "u2": poison} {
		r.drop.Add(uid, []byte(raw))
	}
	return r, good, poison
}

// acceptPoison has the account's first sink, a poisonRefuser, take every message from now
// on.
func (r *rig) acceptPoison() {
	r.account.Deliver[0].Sink = r.account.Deliver[0].Sink.(poisonRefuser).Sink
}

// A refused message without unique-id is known again by its header: its pause is kept, and
// Retry ends it.
func TestRefusedWithoutUID(t *testing.T) {
	for _, late := range []bool{false, true} {
		r, good, poison := newPoisonRig(t, late)
		r.drop.Behave(pop3test.Behaviour{Without: []string{"UIDL"}})
		poison = "Message-ID: <p@example.net>\n" + poison
		r.drop.Remove("u2")
		r.drop.Add("u2", []byte(poison))
		r.drop.Add("big", []byte("Message-ID: <b@example.net>\n\n"+strings.Repeat("x\n", 4000)))
		r.account.MaxSize = 4000
		for i := range 2 {
			for range 2 {
				r.poll()
				if n := len(r.rows()); n != 4 || r.drop.Retrieved("u2") != i+1 || r.drop.Retrieved("big") != 0 {
					t.Errorf("late %v: %d rows for four messages, %d downloads", late, n, r.drop.Retrieved("u2"))
				}
			}
			n, err := r.store.Retry(t.Context(), "work", r.opts.Now().Unix(), nil)
			check(t, err)
			if n != 1 {
				t.Errorf("late %v: %d pauses ended", late, n)
			}
		}
		r.acceptPoison()
		r.account.MaxSize = 0
		r.mustPoll()
		if got := r.mail(); len(got) != len(good)+2 {
			t.Errorf("late %v: %d messages", late, len(got))
		}
		r.expectMaildropEmpty()
	}
}

// A refused message without unique-id on a server without TOP is known again by its
// content: it is downloaded with each poll, but not given to its sink before the pause is
// over.
func TestRefusedWithoutUIDAndTOP(t *testing.T) {
	for _, late := range []bool{false, true} {
		r, good, _ := newPoisonRig(t, late)
		r.drop.Behave(pop3test.Behaviour{Without: []string{"UIDL", "TOP"}})
		for tries := 1; tries <= 2; tries++ {
			for range 2 {
				if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 {
					t.Errorf("late %v: %v, %d refused: %v", late, s.Class, s.Refused, s.Err)
				}
				refused := slices.DeleteFunc(r.rows(), func(row state.Row) bool { return row.Phase != state.Refused })
				if len(refused) != 1 || refused[0].Tries != tries {
					t.Errorf("late %v: refused are %+v, want one after %d tries", late, refused, tries)
				}
			}
			r.advance(day)
		}
		r.expectDelivered(good...)
	}
}

// expectPauses fails the test unless polls try the message uid when the n-th of waits is
// over, and not a second before.
func (r *rig) expectPauses(uid string, waits ...time.Duration) {
	r.t.Helper()
	for i, wait := range waits {
		before := r.drop.Retrieved(uid)
		r.advance(wait - time.Second)
		if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 || r.drop.Retrieved(uid) != before {
			r.t.Errorf("poll before pause %d is over: %v, %d refused, %d downloads", i+1, s.Class, s.Refused, r.drop.Retrieved(uid)-before)
		}
		r.advance(time.Second)
		if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 || r.drop.Retrieved(uid) != before+1 {
			r.t.Errorf("poll after pause %d: %v, %d refused, %d downloads", i+1, s.Class, s.Refused, r.drop.Retrieved(uid)-before)
		}
	}
	// Only the first refusal is reported as new.
	var again []bool
	for _, e := range r.events {
		if e, ok := e.(fetch.Refused); ok && e.UID == uid {
			again = append(again, e.Again)
		}
	}
	if want := append([]bool{false}, slices.Repeat([]bool{true}, len(waits))...); !slices.Equal(again, want) {
		r.t.Errorf("told of %s as of one refused again: %v, want %v", uid, again, want)
	}
}

// expectRefused fails the test unless the status names the message uid alone as refused,
// for that reason.
func (r *rig) expectRefused(uid, reason string) {
	r.t.Helper()
	st, err := r.store.Status(r.t.Context(), "work", 0)
	check(r.t, err)
	if len(st.Refused) != 1 || st.Refused[0].UID != uid || !strings.Contains(st.Refused[0].Reason, reason) {
		r.t.Errorf("status names %+v, want %s: %s", st.Refused, uid, reason)
	}
	if st.Last.Result != "refused" {
		r.t.Errorf("the result of the poll is %q", st.Last.Result)
	}
}

var growing = []time.Duration{15 * time.Minute, time.Hour, 4 * time.Hour, 12 * time.Hour, day, day}

// A message that its sink refuses waits for longer and longer, holds up no other, and is
// delivered once the sink takes it.
func TestRefusedBySink(t *testing.T) {
	for _, late := range []bool{false, true} {
		r, good, poison := newPoisonRig(t, late)
		if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 || s.Fetched != 2 || s.Deleted != 2 {
			t.Errorf("late %v: %v, %d refused, %d fetched, %d deleted: %v", late, s.Class, s.Refused, s.Fetched, s.Deleted, s.Err)
		}
		r.expectDelivered(good...)
		r.expectRefused("u2", "it is poison")
		r.expectPauses("u2", growing...)
		r.expectNothingStaged()

		// The sink takes the message now.
		r.acceptPoison()
		r.advance(day)
		r.mustPoll()
		r.expectDelivered(append(good, poison)...)
		if st, err := r.store.Status(t.Context(), "work", 0); err != nil || len(st.Refused) != 0 || len(r.left()) != 0 {
			t.Errorf("late %v: status still names %v, left %q, %v", late, st.Refused, r.left(), err)
		}
	}
}

// A message that the server does not give waits for longer and longer, holds up no other,
// and is delivered once the server gives it.
func TestRefusedByServer(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(3)
	// Act counts the refused RETR as a download.
	r.drop.Order(pop3test.On("RETR", func(x *pop3test.Exchange) {
		x.Act()
		x.Reply = strings.NewReader("-ERR cannot read it\r\n")
	}).UID("u2"))
	r.poll()
	r.expectDelivered(want[0], want[2])
	r.expectRefused("u2", `server refused RETR: "cannot read it"`)
	r.expectPauses("u2", growing...)
	r.drop.ClearFaults()
	r.advance(day)
	r.mustPoll()
	r.expectDelivered(want...)
}

// If the server refuses all messages with [SYS/TEMP], none of them is blamed, and all are
// fetched as soon as it gives them.
func TestServerInTrouble(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(3)
	r.drop.Order(pop3test.ReplyErr("RETR", "[SYS/TEMP] store down"))
	for _, wait := range []time.Duration{0, 15 * time.Minute, time.Hour} {
		r.advance(wait)
		s := r.poll()
		if s.Class != fetch.ClassRetry || s.Refused != 0 || !strings.Contains(r.reportText(s), "store down") || len(r.rows()) != 0 {
			t.Errorf("%v, %d refused, %d remembered: %v", s.Class, s.Refused, len(r.rows()), s.Err)
		}
	}
	r.drop.ClearFaults()
	r.mustPoll()
	r.expectDelivered(want...)
}

// A clock that was wrong during a poll keeps no mail back after it is set right.
func TestRefusedByAWrongClock(t *testing.T) {
	for _, wrong := range []time.Duration{3650 * day, -3650 * day} {
		r := newRig(t, pop3test.Behaviour{})
		want := r.fill(3)
		r.drop.Order(pop3test.ReplyErr("RETR", "no").UID("u2"), pop3test.ReplyErr("QUIT", "no").Session(1))
		r.advance(wrong)
		r.poll()
		r.drop.ClearFaults()
		r.advance(-wrong)
		r.mustPoll()
		r.expectDelivered(want...)
		r.expectMaildropEmpty()
	}
}

// If the server refuses all messages without a code, they wait an hour at most.
func TestServerInTroubleSaysNothing(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(3)
	r.drop.Order(pop3test.ReplyErr("RETR", "no"))
	for range 9 {
		if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 3 {
			t.Errorf("%v, %d refused: %v", s.Class, s.Refused, s.Err)
		}
		r.advance(time.Hour)
	}
	r.drop.ClearFaults()
	r.mustPoll()
	r.expectDelivered(want...)
}

// A message that the server always refuses with [SYS/TEMP] is reported as refused in the
// end, and at once if the server gives other messages.
func TestOneMessageRefusedWithSysTemp(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.drop.Add("u2", []byte(message(2)))
	r.drop.Order(pop3test.ReplyErr("RETR", "[SYS/TEMP] cannot read it").UID("u2"))
	for range 6 {
		if s := r.poll(); s.Class != fetch.ClassRetry {
			t.Errorf("%v: %v", s.Class, s.Err)
		}
	}
	if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
	r.expectRefused("u2", "cannot read it")

	other := newRig(t, pop3test.Behaviour{})
	want := other.fill(3)
	other.drop.Order(pop3test.ReplyErr("RETR", "[SYS/TEMP] cannot read it").UID("u1"))
	if s := other.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 || s.Deleted != 2 {
		t.Errorf("%v, %d deleted: %v", s.Class, s.Deleted, s.Err)
	}
	other.expectDelivered(want[1:]...)
	other.expectRefused("u1", "cannot read it")
}

// A message over max_size is left on the server, whether its size was listed or shows only
// while it comes. It is fetched once the limit is raised.
func TestTooLargeIsLeft(t *testing.T) {
	big := "Subject: big\n\n" + strings.Repeat("large\n", 100_000)
	honest := func(_ string, octets int64) int64 { return octets }
	small := func(string, int64) int64 { return 1 }
	for _, test := range []struct {
		name  string
		size  func(string, int64) int64
		says  string
		loads int // downloads in the first two polls
	}{
		{"by its listed size", honest, "max_size is 10000", 0},
		{"by what comes of it", small, "larger than max_size", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{})
			r.drop.Order(pop3test.WrongSizes(test.size))
			r.drop.Add("big", []byte(big))
			want := r.fill(2)
			r.account.MaxSize = 10_000
			r.poll()
			r.poll()
			r.expectDelivered(want...)
			r.expectNothingStaged()
			if got := r.left(); !slices.Equal(got, []string{"big"}) || r.drop.Retrieved("big") != test.loads {
				t.Errorf("left %q, %d downloads", got, r.drop.Retrieved("big"))
			}
			st, err := r.store.Status(t.Context(), "work", 0)
			check(t, err)
			if len(st.Refused) != 1 || !strings.Contains(st.Refused[0].Reason, test.says) {
				t.Errorf("status names %+v", st.Refused)
			}
			if s := r.poll(); s.Class != fetch.ClassFine && test.loads == 0 || s.TooLarge+s.Refused != 1 {
				t.Errorf("%v, %d too large, %d refused", s.Class, s.TooLarge, s.Refused)
			}

			if told := eventsOf[fetch.Refused](r); len(told) != 1 || told[0].UID != "big" || told[0].Again || !strings.Contains(told[0].Reason, test.says) {
				t.Errorf("told of %+v", told)
			}
			if test.loads == 0 {
				r.account.MaxSize--
				r.poll()
				if told := eventsOf[fetch.Refused](r); len(told) != 2 || !told[1].Again {
					t.Errorf("the limit is another now: told of %+v", told)
				}
			}

			// Raising the limit is enough.
			r.account.MaxSize = 1_000_000
			r.advance(15 * time.Minute)
			r.mustPoll()
			r.expectDelivered(append(want, big)...)
		})
	}
}

// Nothing is remembered of a message over max_size that cannot be known again.
func TestTooLargeWithoutUID(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL", "TOP"}})
	r.drop.Add("x", []byte("Subject: big\n\n"+strings.Repeat("large\n", 10_000)))
	r.account.MaxSize = 1000
	if s := r.poll(); s.TooLarge != 1 || r.phase("") == state.Refused {
		t.Errorf("%d too large, rows %+v", s.TooLarge, r.rows())
	}
}

// A message without unique-id over which the server hangs up holds up no other. It waits
// for the next poll.
func TestHangUpOverMessageWithoutUID(t *testing.T) {
	for _, without := range [][]string{{"UIDL"}, {"UIDL", "TOP"}, {"UIDL", "TOP", "PIPELINING"}} {
		for name, test := range map[string]struct {
			message func(int) string
			verb    string
		}{"own headers, RETR fails": {message, "RETR"}, "same headers, RETR fails": {sameHeader, "RETR"}, "same headers, TOP fails": {sameHeader, "TOP"}} {
			t.Run(fmt.Sprintf("%s, without %q", name, without), func(t *testing.T) {
				r := newRig(t, pop3test.Behaviour{Without: without})
				r.retryInUse = true
				var want []string
				for i := range 6 {
					r.drop.Add(fmt.Sprint("u", i), []byte(test.message(i)))
					want = append(want, test.message(i))
				}
				poison := want[2]
				others := slices.Delete(slices.Clone(want), 2, 3)
				for _, verb := range []string{test.verb, "RETR"} {
					r.drop.Order(pop3test.CutIn(verb, 20, pop3test.HangUp).UID("u2"))
				}
				for range 3 {
					if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 {
						t.Errorf("%v, %d refused: %v", s.Class, s.Refused, s.Err)
					}
					r.expectDelivered(others...)
					r.advance(day)
				}
				if left := r.left(); !slices.Equal(left, []string{"u2"}) {
					t.Errorf("left %q", left)
				}
				r.drop.ClearFaults()
				r.mustPoll()
				r.expectDelivered(append(others, poison)...)
				r.expectMaildropEmpty()
			})
		}
	}
}

// Several messages without unique-ids over which the server hangs up do not hold up the
// others.
func TestHangUpOverSeveralWithoutUID(t *testing.T) {
	for verb, without := range map[string][]string{"TOP": {"UIDL"}, "RETR": {"UIDL", "TOP"}} {
		t.Run(verb, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{Without: without})
			r.retryInUse = true
			want := r.fill(8)
			for _, uid := range []string{"u2", "u3", "u4"} {
				r.drop.Order(pop3test.CutIn(verb, 20, pop3test.HangUp).UID(uid))
			}
			if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 3 {
				t.Errorf("%v, %d refused: %v", s.Class, s.Refused, s.Err)
			}
			r.expectDelivered(slices.Delete(slices.Clone(want), 1, 4)...)
			r.drop.ClearFaults()
			r.advance(day)
			r.mustPoll()
			r.expectDelivered(want...)
			r.expectMaildropEmpty()
		})
	}
}

// A poll does not connect again and again over more such messages than it can pass over.
func TestHangUpOverManyWithoutUID(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL", "TOP"}})
	r.retryInUse = true
	r.fill(30)
	r.drop.Order(pop3test.CutIn("RETR", 20, pop3test.HangUp))
	if s := r.poll(); s.Class != fetch.ClassRetry || s.Sessions > 15 {
		t.Errorf("%v after %d sessions: %v", s.Class, s.Sessions, s.Err)
	}
}

// Messages that share a unique-id and over which the server hangs up do not hold up the
// others.
func TestHangUpOverSharedUID(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.retryInUse = true
	want := r.fill(6)
	r.drop.SetUIDs(func(i int, uid string) string {
		if i == 2 || i == 3 {
			return "same"
		}
		return uid
	})
	r.drop.Order(pop3test.CutIn("TOP", 20, pop3test.HangUp).UID("same"))
	r.poll()
	r.expectDelivered(slices.Delete(slices.Clone(want), 2, 4)...)
	r.drop.ClearFaults()
	r.advance(day)
	r.mustPoll()
	r.expectDelivered(want...)
	r.expectMaildropEmpty()
}
