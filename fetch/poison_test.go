package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// picky is a sink that refuses for good every message with the word "poison"
// in it, early or late.
type picky struct {
	deliver.Sink
	late bool // at Commit, as a mail server may
}

type pickyBatch struct {
	deliver.Batch
	late   bool
	poison bool
}

var errPoison = &deliver.Error{Fault: deliver.FaultMessage, Target: "picky", Op: "deliver", Err: errors.New("it is poison")}

func (p picky) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := p.Sink.Begin(ctx)
	return &pickyBatch{Batch: b, late: p.late}, err
}

func (p *pickyBatch) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
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
func (p *pickyBatch) Prepare(ctx context.Context) ([]deliver.Promise, error) {
	if p.poison {
		return []deliver.Promise{{Token: "I will not keep it"}}, nil
	}
	return p.Batch.Prepare(ctx)
}

func (p *pickyBatch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	if p.poison {
		return landed(deliver.Receipt{Err: errPoison})
	}
	return p.Batch.Commit(ctx, landed)
}

func (p picky) Profile() deliver.Profile {
	prof := p.Sink.Profile()
	prof.MaxMessages = 1
	return prof
}

// poisoned returns a rig with three messages, of which the second is poison
// for its sink.
func poisoned(t *testing.T, late bool) (r *rig, good []string, poison string) {
	r = newRig(t, pop3test.Behaviour{})
	r.account.Deliver[0].Sink = picky{r.account.Deliver[0].Sink, late}
	good, poison = []string{message(1), message(3)}, "Subject: poison\n\npoison\n"
	for uid, raw := range map[string]string{"u1": good[0], "u3": good[1], "u2": poison} {
		r.drop.Add(uid, []byte(raw))
	}
	return r, good, poison
}

// A message that goes by its header is known again once it was refused.
func TestRefusedWithoutAName(t *testing.T) {
	for _, late := range []bool{false, true} {
		r, good, poison := poisoned(t, late)
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
		r.account.Deliver[0].Sink = r.account.Deliver[0].Sink.(picky).Sink
		r.account.MaxSize = 0
		r.succeed()
		if got := r.mail(); len(got) != len(good)+2 {
			t.Errorf("late %v: %d messages", late, len(got))
		}
		r.expectEmpty()
	}
}

// So is one that only its content tells: it is not given to its sink before its pause
// is over.
func TestRefusedWithoutAHeader(t *testing.T) {
	for _, late := range []bool{false, true} {
		r, good, _ := poisoned(t, late)
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
			r.later(day)
		}
		r.expect(good...)
	}
}

// expectPauses fails the test unless uid is tried when the n-th of waits is
// over, and not a second before.
func (r *rig) expectPauses(uid string, waits ...time.Duration) {
	r.t.Helper()
	for i, wait := range waits {
		before := r.drop.Retrieved(uid)
		r.later(wait - time.Second)
		if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 || r.drop.Retrieved(uid) != before {
			r.t.Errorf("poll before pause %d is over: %v, %d refused, %d downloads", i+1, s.Class, s.Refused, r.drop.Retrieved(uid)-before)
		}
		r.later(time.Second)
		if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 || r.drop.Retrieved(uid) != before+1 {
			r.t.Errorf("poll after pause %d: %v, %d refused, %d downloads", i+1, s.Class, s.Refused, r.drop.Retrieved(uid)-before)
		}
	}
	// Whoever was told the first time knows it.
	var told []bool
	for _, e := range r.events {
		if e, ok := e.(fetch.Refused); ok && e.UID == uid {
			told = append(told, e.Again)
		}
	}
	if want := append([]bool{false}, slices.Repeat([]bool{true}, len(waits))...); !slices.Equal(told, want) {
		r.t.Errorf("told of %s as of one refused again: %v, want %v", uid, told, want)
	}
}

// expectRefused fails the test unless status names that message alone, with
// a reason.
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

func TestRefusedBySink(t *testing.T) {
	for _, late := range []bool{false, true} {
		r, good, poison := poisoned(t, late)
		if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 || s.Fetched != 2 || s.Deleted != 2 {
			t.Errorf("late %v: %v, %d refused, %d fetched, %d deleted: %v", late, s.Class, s.Refused, s.Fetched, s.Deleted, s.Err)
		}
		r.expect(good...)
		r.expectRefused("u2", "it is poison")
		r.expectPauses("u2", growing...)
		r.expectNothingStaged()

		// The sink changes its mind.
		r.account.Deliver[0].Sink = r.account.Deliver[0].Sink.(picky).Sink
		r.later(day)
		r.succeed()
		r.expect(append(good, poison)...)
		if st, err := r.store.Status(t.Context(), "work", 0); err != nil || len(st.Refused) != 0 || len(r.left()) != 0 {
			t.Errorf("late %v: status still names %v, left %q, %v", late, st.Refused, r.left(), err)
		}
	}
}

func TestRefusedByServer(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(3)
	// The refusals count as downloads, though nothing comes.
	r.drop.Order(pop3test.On("RETR", func(x *pop3test.Exchange) {
		x.Act()
		x.Reply = strings.NewReader("-ERR cannot read it\r\n")
	}).UID("u2"))
	r.poll()
	r.expect(want[0], want[2])
	r.expectRefused("u2", `server refused RETR: "cannot read it"`)
	r.expectPauses("u2", growing...)
	r.drop.ClearFaults()
	r.later(day)
	r.succeed()
	r.expect(want...)
}

// A server that gives nothing, since it has trouble of its own, has no message
// left alone for long when it is well again.
func TestServerInTrouble(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(3)
	r.drop.Order(pop3test.ReplyErr("RETR", "[SYS/TEMP] store down"))
	for _, wait := range []time.Duration{0, 15 * time.Minute, time.Hour} {
		r.later(wait)
		s := r.poll()
		if s.Class != fetch.ClassRetry || s.Refused != 0 || !strings.Contains(r.said(s), "store down") || len(r.rows()) != 0 {
			t.Errorf("%v, %d refused, %d remembered: %v", s.Class, s.Refused, len(r.rows()), s.Err)
		}
	}
	r.drop.ClearFaults()
	r.succeed()
	r.expect(want...)
}

// A clock that was wrong for a poll keeps no mail back.
func TestRefusedByAWrongClock(t *testing.T) {
	for _, wrong := range []time.Duration{3650 * day, -3650 * day} {
		r := newRig(t, pop3test.Behaviour{})
		want := r.fill(3)
		r.drop.Order(pop3test.ReplyErr("RETR", "no").UID("u2"), pop3test.ReplyErr("QUIT", "no").Session(1))
		r.later(wrong)
		r.poll()
		r.drop.ClearFaults()
		r.later(-wrong)
		r.succeed()
		r.expect(want...)
		r.expectEmpty()
	}
}

// If it does not say so, they wait an hour at most.
func TestServerInTroubleSaysNothing(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(3)
	r.drop.Order(pop3test.ReplyErr("RETR", "no"))
	for range 9 {
		if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 3 {
			t.Errorf("%v, %d refused: %v", s.Class, s.Refused, s.Err)
		}
		r.later(time.Hour)
	}
	r.drop.ClearFaults()
	r.succeed()
	r.expect(want...)
}

// A message that the server will never give is named in the end, whatever the
// server says, and holds up no other.
func TestServerSaysItIsItsOwnTrouble(t *testing.T) {
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
	other.expect(want[1:]...)
	other.expectRefused("u1", "cannot read it")
}

// quarantine gives the account one and returns the rig of its Maildir.
func (r *rig) quarantine() *rig {
	q := &rig{t: r.t, dir: filepath.Join(r.t.TempDir(), "Quarantine")}
	sink, err := maildir.New(q.dir, maildir.Options{})
	check(r.t, err)
	r.account.Quarantine = &fetch.Target{Name: "quarantine", Sink: sink}
	return q
}

// expectBanished fails the test unless that message alone was told to be in the
// quarantine, with a reason.
func (r *rig) expectBanished(uid, reason string) {
	r.t.Helper()
	told := eventsOf[fetch.Refused](r)
	if len(told) != 1 || told[0].UID != uid || told[0].Quarantine != "quarantine" || !strings.Contains(told[0].Reason, reason) {
		r.t.Errorf("told of %+v, want %s in the quarantine: %s", told, uid, reason)
	}
}

// A quarantine that is broken keeps nothing but its own mail from being deleted,
// and that is not downloaded at every poll.
func TestBrokenQuarantine(t *testing.T) {
	r, good, poison := poisoned(t, false)
	r.account.MaxSize = 1000
	large := "Subject: large\n\n" + strings.Repeat("x\n", 1000)
	r.drop.Add("u4", []byte(large))
	q := r.quarantine()
	works := r.account.Quarantine.Sink
	r.account.Quarantine.Sink = unusable{works}
	for i := range 3 {
		s := r.poll()
		if s.Class != fetch.ClassOperator && i == 0 || s.Refused != 2 {
			t.Errorf("%v, %d refused: %v", s.Class, s.Refused, s.Err)
		}
		r.expect(good...)
		if left := r.left(); !slices.Equal(left, []string{"u2", "u4"}) {
			t.Errorf("left %q", left)
		}
	}
	if poison, large := r.drop.Retrieved("u2"), r.drop.Retrieved("u4"); poison != 1 || large != 0 {
		t.Errorf("the poison was downloaded %d times, the large one %d times", poison, large)
	}
	if rows := r.rows(); len(rows) != 4 || !strings.Contains(rows[1].Reason, "it is poison") || !strings.Contains(rows[1].Reason, "it is not there") {
		t.Errorf("remembered: %+v", rows)
	}
	r.account.Quarantine.Sink = works
	r.later(time.Hour)
	r.succeed()
	q.expect(poison, large)
	r.expectEmpty()
}

func TestQuarantine(t *testing.T) {
	for _, late := range []bool{false, true} {
		r, good, poison := poisoned(t, late)
		q := r.quarantine()
		s := r.succeed()
		r.expect(good...)
		q.expect(poison)
		if s.Refused != 0 || s.Fetched != 3 || s.Quarantined != 1 || s.Deleted != 3 || len(r.left()) != 0 {
			t.Errorf("late %v: %d refused, %d fetched, %d quarantined, %d deleted, left %q", late, s.Refused, s.Fetched, s.Quarantined, s.Deleted, r.left())
		}
		r.expectBanished("u2", "it is poison")
		r.succeed()
		q.expect(poison)
	}
}

// What was refused before there was a quarantine goes there when it is tried
// again.
func TestQuarantineLater(t *testing.T) {
	r, good, poison := poisoned(t, false)
	r.poll()
	q := r.quarantine()
	r.later(15 * time.Minute)
	r.succeed()
	r.expect(good...)
	q.expect(poison)
	r.expectEmpty()
}

func TestQuarantineRefusesToo(t *testing.T) {
	r, good, _ := poisoned(t, false)
	q := r.quarantine()
	r.account.Quarantine.Sink = picky{Sink: r.account.Quarantine.Sink}
	if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 || s.Deleted != 2 {
		t.Errorf("%v, %d refused, %d deleted: %v", s.Class, s.Refused, s.Deleted, s.Err)
	}
	r.expect(good...)
	q.expect()
	r.expectRefused("u2", "it is poison")
}

func TestTooLarge(t *testing.T) {
	big := "Subject: big\n\n" + strings.Repeat("large\n", 100_000)
	honest := func(_ string, octets int64) int64 { return octets }
	small := func(string, int64) int64 { return 1 }
	for _, test := range []struct {
		name  string
		size  func(string, int64) int64
		says  string
		loads int // downloads in the first two polls
	}{
		{"by LIST", honest, "max_size is 10000", 0},
		{"by what comes", small, "larger than max_size", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{})
			r.drop.Order(pop3test.WrongSizes(test.size))
			r.drop.Add("big", []byte(big))
			want := r.fill(2)
			r.account.MaxSize = 10_000
			r.poll()
			r.poll()
			r.expect(want...)
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
			r.later(15 * time.Minute)
			r.succeed()
			r.expect(append(want, big)...)
		})
	}
}

func TestTooLargeGoesToQuarantine(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	big := "Subject: big\n\n" + strings.Repeat("large\n", 10_000)
	r.drop.Add("big", []byte(big))
	want := r.fill(2)
	r.account.MaxSize = 1000
	q := r.quarantine()
	s := r.succeed()
	r.expect(want...)
	q.expect(big)
	if s.TooLarge != 0 || s.Deleted != 3 || len(r.left()) != 0 {
		t.Errorf("%d too large, %d deleted, left %q", s.TooLarge, s.Deleted, r.left())
	}
	r.expectBanished("big", "larger than max_size: the server says")
}

// A message over the limit that has no name is not remembered by none.
func TestTooLargeWithoutName(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL", "TOP"}})
	r.drop.Add("x", []byte("Subject: big\n\n"+strings.Repeat("large\n", 10_000)))
	r.account.MaxSize = 1000
	if s := r.poll(); s.TooLarge != 1 || r.phase("") == state.Refused {
		t.Errorf("%d too large, rows %+v", s.TooLarge, r.rows())
	}
}

// A message for a broken quarantine that the server does not give is refused
// once.
func TestUnreadForBrokenQuarantine(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.MaxSize = 1000
	for _, uid := range []string{"u1", "u2"} {
		r.drop.Add(uid, []byte("Subject: large\n\n"+strings.Repeat("x\n", 1000)))
	}
	r.drop.Order(pop3test.ReplyErr("RETR", "cannot read it").UID("u1"))
	r.quarantine()
	sink := r.account.Quarantine.Sink
	r.account.Quarantine.Sink = full{Sink: sink, word: "large"}
	if s := r.poll(); s.Refused != 2 {
		t.Errorf("%d refused: %v", s.Refused, s.Err)
	}
	for _, row := range r.rows() {
		if row.Tries != 1 {
			t.Errorf("%s was refused %d times", row.UID, row.Tries)
		}
	}
}

// A message over which the server hangs up holds up no other either if nothing tells it
// from others: it waits for the next poll.
func TestPoisonWithoutName(t *testing.T) {
	for _, without := range [][]string{{"UIDL"}, {"UIDL", "TOP"}, {"UIDL", "TOP", "PIPELINING"}} {
		for name, test := range map[string]struct {
			message func(int) string
			verb    string
		}{"headers tell": {message, "RETR"}, "headers do not": {alike, "RETR"}, "nor are they given": {alike, "TOP"}} {
			t.Run(fmt.Sprintf("%s, without %q", name, without), func(t *testing.T) {
				r := newRig(t, pop3test.Behaviour{Without: without})
				r.patient = true
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
					r.expect(others...)
					r.later(day)
				}
				if left := r.left(); !slices.Equal(left, []string{"u2"}) {
					t.Errorf("left %q", left)
				}
				r.drop.ClearFaults()
				r.succeed()
				r.expect(append(others, poison)...)
				r.expectEmpty()
			})
		}
	}
}

// Nor do several of them.
func TestPoisonsWithoutName(t *testing.T) {
	for verb, without := range map[string][]string{"TOP": {"UIDL"}, "RETR": {"UIDL", "TOP"}} {
		t.Run(verb, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{Without: without})
			r.patient = true
			want := r.fill(8)
			for _, uid := range []string{"u2", "u3", "u4"} {
				r.drop.Order(pop3test.CutIn(verb, 20, pop3test.HangUp).UID(uid))
			}
			if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 3 {
				t.Errorf("%v, %d refused: %v", s.Class, s.Refused, s.Err)
			}
			r.expect(slices.Delete(slices.Clone(want), 1, 4)...)
			r.drop.ClearFaults()
			r.later(day)
			r.succeed()
			r.expect(want...)
			r.expectEmpty()
		})
	}
}

// Nor does a poll connect again and again over more of them than it can pass over.
func TestManyPoisonsWithoutName(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL", "TOP"}})
	r.patient = true
	r.fill(30)
	r.drop.Order(pop3test.CutIn("RETR", 20, pop3test.HangUp))
	if s := r.poll(); s.Class != fetch.ClassRetry || s.Sessions > 15 {
		t.Errorf("%v after %d sessions: %v", s.Class, s.Sessions, s.Err)
	}
}

// A unique-id that several messages have is no name either.
func TestPoisonWithSharedName(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.patient = true
	want := r.fill(6)
	r.drop.SetUIDs(func(i int, uid string) string {
		if i == 2 || i == 3 {
			return "same"
		}
		return uid
	})
	r.drop.Order(pop3test.CutIn("TOP", 20, pop3test.HangUp).UID("same"))
	r.poll()
	r.expect(slices.Delete(slices.Clone(want), 2, 4)...)
	r.drop.ClearFaults()
	r.later(day)
	r.succeed()
	r.expect(want...)
	r.expectEmpty()
}
