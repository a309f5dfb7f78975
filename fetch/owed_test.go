package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// What a sink refused is remembered by its content, too. That must never pass
// for a delivery, whatever becomes of its name.
func TestRefusedIsNotLanded(t *testing.T) {
	t.Run("no names at all", func(t *testing.T) {
		r, good, poison := poisoned(t, true)
		r.drop.Behave(pop3test.Behaviour{Without: []string{"UIDL", "TOP"}})
		archive, archived := r.another("archive")
		r.account.Deliver = append(r.account.Deliver, archive)
		for range 3 {
			r.poll()
			r.expect(good...)
			expectMail(t, "the archive", archived(), append(slices.Clone(good), poison)...)
			if len(r.left()) != 1 {
				t.Fatalf("left %q", r.left())
			}
			r.later(day)
		}
		if n := len(r.rows()); n != 3 {
			t.Errorf("%d rows for three messages", n)
		}
		r.account.Deliver[0].Sink = r.account.Deliver[0].Sink.(picky).Sink
		r.succeed()
		r.expect(append(good, poison)...)
		expectMail(t, "the archive", archived(), append(slices.Clone(good), poison)...)
	})
	t.Run("new names without TOP", func(t *testing.T) {
		r, good, poison := poisoned(t, true)
		r.drop.Behave(pop3test.Behaviour{Without: []string{"TOP"}})
		for range 2 {
			r.poll()
			r.later(day)
		}
		r.drop.SetUIDs(func(_ int, old string) string { return "new-" + old })
		r.poll()
		if len(r.left()) != 1 {
			t.Fatalf("left %q", r.left())
		}
		r.account.Deliver[0].Sink = r.account.Deliver[0].Sink.(picky).Sink
		r.later(day)
		r.succeed()
		r.expect(append(good, poison)...)
	})
}

// A sink that owes nothing is not given a message again because the server
// renamed it.
func TestOwedUnderAnotherName(t *testing.T) {
	r, good, poison := poisoned(t, true)
	poison = "Message-ID: <p@example.net>\n" + poison
	r.drop.Remove("u2")
	r.drop.Add("u2", []byte(poison))
	archive, archived := r.another("archive")
	r.account.Deliver = append(r.account.Deliver, archive)
	r.poll()
	r.drop.SetUIDs(func(_ int, old string) string { return "new-" + old })
	r.later(day)
	r.account.Deliver[0].Sink = r.account.Deliver[0].Sink.(picky).Sink
	r.succeed()
	r.expect(append(slices.Clone(good), poison)...)
	expectMail(t, "the archive", archived(), append(good, poison)...)
}

// Nor because the connection died over its new name.
func TestOwedMeetsBlank(t *testing.T) {
	for _, verb := range []string{"TOP", "RETR"} {
		t.Run(verb, func(t *testing.T) {
			r, good, _ := poisoned(t, true)
			poison := "Message-ID: <p@example.net>\nSubject: poison\n\npoison\n"
			r.drop.Remove("u2")
			r.drop.Add("u2", []byte(poison))
			if verb == "RETR" {
				r.drop.Behave(pop3test.Behaviour{Without: []string{"TOP"}})
			}
			archive, archived := r.another("archive")
			r.account.Deliver = append(r.account.Deliver, archive)
			r.poll()
			r.drop.SetUIDs(func(_ int, old string) string { return "new-" + old })
			r.later(day)
			r.drop.Order(pop3test.CutIn(verb, 10, pop3test.Reset).Session(2))
			r.poll()
			r.account.Deliver[0].Sink = r.account.Deliver[0].Sink.(picky).Sink
			r.later(day)
			r.succeed()
			want := append(slices.Clone(good), poison)
			r.expect(want...)
			expectMail(t, "the archive", archived(), want...)
			r.expectEmpty()
		})
	}
}

// What has the unique-id of a message that some sinks have goes to these as well.
func TestUIDReuseWhileOwed(t *testing.T) {
	for _, test := range []struct {
		name string
		mend func(r *rig)
		home bool // the message is wanted there
	}{
		{"the sink takes mail again", func(r *rig) { r.account.Deliver[0].Sink = r.account.Deliver[0].Sink.(picky).Sink }, true},
		{"the sink is not wanted any more", func(r *rig) { r.account.Deliver = r.account.Deliver[1:] }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, good, poison := poisoned(t, false)
			archive, archived := r.another("archive")
			r.account.Deliver = append(r.account.Deliver, archive)
			r.poll()
			r.drop.Remove("u2")
			r.drop.Add("u2", []byte(message(4)))
			test.mend(r)
			for range 3 {
				r.later(day)
				r.poll()
			}
			expectMail(t, "the archive", archived(), append(slices.Clone(good), poison, message(4))...)
			if test.home {
				good = append(good, message(4))
			}
			r.expect(good...)
			r.expectEmpty()
		})
	}
}

// A line that dies over the rest of a message that nobody wants is no reason
// to fall over, or to blame another message.
func TestCutInWhatIsNotWanted(t *testing.T) {
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
		r.later(day)
	}
	r.expectNothingStaged()
}

// A sink that is down keeps none of the mail from the others, and gets it when
// it is up again.
func TestOneOfSeveralIsDown(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	archive, archived := r.another("archive")
	up := archive.Sink
	archive.Sink = unusable{up}
	r.account.Deliver = append(r.account.Deliver, archive)
	want := r.fill(3)
	if s := r.poll(); s.Class != fetch.ClassOperator || s.Refused != 3 || s.Deleted != 0 {
		t.Errorf("%v, %d refused, %d deleted: %v", s.Class, s.Refused, s.Deleted, s.Err)
	}
	r.expect(want...)
	for range 6 {
		r.later(day)
		if s := r.poll(); s.Class != fetch.ClassOperator || s.Refused != 3 || s.Schedule.Failures != 0 {
			t.Errorf("%v, %d refused, %d failures: %v", s.Class, s.Refused, s.Schedule.Failures, s.Err)
		}
	}
	r.expectRetrieved(3) // nobody who is up wants any of it again
	r.account.Deliver[1].Sink = up
	r.later(time.Hour) // however long it was down
	r.succeed()
	r.expect(want...)
	expectMail(t, "the archive", archived(), want...)
	r.expectEmpty()
}

// silent is a sink that crashes in Commit and cannot answer for it.
type silent struct{ deliver.Sink }

func (s silent) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := s.Sink.Begin(ctx)
	return silentBatch{b}, err
}

func (silent) Settle(context.Context, string) (deliver.Verdict, error) { return 0, errSilent }

type silentBatch struct{ deliver.Batch }

func (silentBatch) Commit(context.Context, func(deliver.Receipt) error) error { return errSilent }

var errSilent = &deliver.Error{Fault: deliver.FaultTemporary, Target: "silent", Op: "answer", Err: errors.New("no answer")}

// A sink that cannot answer for its promises holds up the messages that it
// promised, and no others.
func TestSinkCannotSettle(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	home := r.account.Deliver[0]
	r.account.Deliver[0].Sink = silent{home.Sink}
	want := r.fill(1)
	if s := r.poll(); s.Class != fetch.ClassRetry {
		t.Errorf("%v: %v", s.Class, s.Err)
	}

	// The account delivers elsewhere now, and the old sink still says nothing.
	other, others := r.another("other")
	r.account.Deliver = []fetch.Target{other}
	r.opts.Sinks = map[string]deliver.Sink{home.Name: silent{home.Sink}}
	r.drop.Add("next", []byte("Subject: next\n\n"))
	if s := r.poll(); s.Class != fetch.ClassRetry || s.Fetched != 1 {
		t.Errorf("%v, fetched %d: %v", s.Class, s.Fetched, s.Err)
	}
	expectMail(t, "the other", others(), "Subject: next\n\n")

	r.opts.Sinks[home.Name] = home.Sink
	r.succeed()
	r.expect(want...)
	expectMail(t, "the other", others(), "Subject: next\n\n")
	r.expectEmpty()
}

// asking is silent, and counts how often it is asked.
type asking struct {
	silent
	times *int
}

func (a asking) Settle(ctx context.Context, token string) (deliver.Verdict, error) {
	*a.times++
	return a.silent.Settle(ctx, token)
}

// It is asked about one of them: each question may wait for its answer in vain.
func TestSinkCannotSettleIsAskedOnce(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	home := r.account.Deliver[0].Sink
	times := 0
	r.account.Deliver[0].Sink = asking{silent{home}, &times}
	want := r.fill(3)
	r.poll()
	if r.poll(); times != 1 {
		t.Errorf("asked %d times about three messages", times)
	}
	r.account.Deliver[0].Sink = home
	r.succeed()
	r.expect(want...)
	r.expectEmpty()
}

// clueless is a sink that never learns what became of its promises.
type clueless struct{ silent }

func (clueless) Settle(context.Context, string) (deliver.Verdict, error) { return deliver.Unknown, nil }

// That it cannot answer is told, also if another sink has an answer.
func TestOneOfSeveralCannotSettle(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	other, others := r.another("other")
	up := []fetch.Target{r.account.Deliver[0], other}
	home := up[0]
	home.Sink, other.Sink = silent{home.Sink}, clueless{silent{other.Sink}}
	r.account.Deliver = []fetch.Target{home, other}
	want := r.fill(1)
	r.poll()
	r.later(day)
	if s := r.poll(); s.Class != fetch.ClassRetry || !errors.Is(s.Err, errSilent) {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
	r.account.Deliver = up
	r.later(day)
	r.poll()
	r.succeed()
	r.expect(want...)
	expectMail(t, "the other", others(), want...)
	r.expectEmpty()
}

// faraway is a sink that is out of reach, and says so anew each time it is asked.
type faraway struct{ deliver.Sink }

func (faraway) Begin(context.Context) (deliver.Batch, error) { return nil, noRoute() }

func (faraway) Settle(context.Context, string) (deliver.Verdict, error) { return 0, noRoute() }

func noRoute() error {
	return &deliver.Error{Fault: deliver.FaultTemporary, Target: "far", Op: "connect", Err: errors.New("no route")}
}

// A sink that is out of reach says so once, though it is asked about its promises and
// then for a batch.
func TestOutOfReachIsSaidOnce(t *testing.T) {
	for _, several := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{})
		home := r.account.Deliver[0].Sink
		if several {
			archive, _ := r.another("archive")
			r.account.Deliver = append(r.account.Deliver, archive)
		}
		r.fill(2)
		r.account.Deliver[0].Sink = silent{home}
		r.poll()
		r.account.Deliver[0].Sink = faraway{home}
		r.drop.Add("next", []byte("Subject: next\n\n"))
		if s := r.poll(); s.Class != fetch.ClassRetry || strings.Count(fmt.Sprint(s.Err), "no route") != 1 {
			t.Errorf("several %v: %v: %v", several, s.Class, s.Err)
		}
	}
}

// batched is a sink whose batches are wrapped. Sinks are compared, which a func
// cannot be: it is used by its pointer.
type batched struct {
	deliver.Sink
	wrap func(deliver.Batch) deliver.Batch
}

func (s *batched) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := s.Sink.Begin(ctx)
	return s.wrap(b), err
}

// unprepared fails in Prepare, and counts how often.
type unprepared struct {
	deliver.Batch
	tries *int
}

func (u unprepared) Prepare(context.Context) ([]deliver.Promise, error) {
	*u.tries++
	return nil, errSilent
}

// A sink that waited in vain for a lock does not wait again in the same poll.
func TestOneOfSeveralIsPreparedOnce(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	archive, _ := r.another("archive")
	tries := 0
	archive.Sink = &batched{archive.Sink, func(b deliver.Batch) deliver.Batch { return unprepared{b, &tries} }}
	r.account.Deliver = append(r.account.Deliver, archive)
	r.account.MaxMessages = 150
	want := r.fill(200)
	if s := r.poll(); s.Class != fetch.ClassRetry || s.Deleted != 0 || tries != 1 {
		t.Errorf("%v after %d tries, %d deleted: %v", s.Class, tries, s.Deleted, s.Err)
	}
	r.expect(want...)
}

// once refuses the first message it is shown, and takes it later.
type once struct {
	deliver.Batch
	shown *bool
}

func (o once) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	if !*o.shown {
		*o.shown = true
		return 0, errPoison
	}
	return o.Batch.Stage(ctx, mail, body)
}

// mute is a sink that takes a batch of one message and cannot say so.
type mute struct{ deliver.Sink }

func (m mute) Profile() deliver.Profile {
	p := m.Sink.Profile()
	p.MaxMessages = 1
	return p
}

func (m mute) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := m.Sink.Begin(ctx)
	return muteBatch{b}, err
}

type muteBatch struct{ deliver.Batch }

func (m muteBatch) Commit(ctx context.Context, _ func(deliver.Receipt) error) error {
	return errors.Join(m.Batch.Commit(ctx, func(deliver.Receipt) error { return nil }), errSilent)
}

// What a sink may have taken in one session of a poll, the next session leaves
// alone.
func TestPromiseOpenInTheNextSession(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	shown := false
	r.account.Deliver[0].Sink = &batched{r.account.Deliver[0].Sink, func(b deliver.Batch) deliver.Batch { return once{b, &shown} }}
	archive, archived := r.another("archive")
	up := archive.Sink
	archive.Sink = mute{up}
	r.account.Deliver = append(r.account.Deliver, archive)
	r.account.MaxMessages = 3
	want := r.fill(6)
	if s := r.poll(); s.Sessions < 2 || s.Deleted != 0 {
		t.Fatalf("%d sessions, %d deleted: %v", s.Sessions, s.Deleted, s.Err)
	}
	expectMail(t, "the archive", archived(), want[:2]...) // what it failed over twice
	r.account.Deliver[1].Sink = up
	r.later(day)
	r.succeed()
	r.expect(want...)
	expectMail(t, "the archive", archived(), want...)
	r.expectEmpty()
}

// A message whose sink cannot answer may be missing for a time, too, and its
// unique-id be that of another after that.
func TestUIDReuseWhileUnanswered(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	home := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = mute{home}
	r.drop.Add("u", []byte(message(1)))
	r.poll()
	r.expect(message(1))
	r.account.Deliver[0].Sink = silent{home}
	r.drop.Remove("u")
	r.poll()
	r.drop.Add("u", []byte(message(2)))
	r.poll()
	r.account.Deliver[0].Sink = home
	r.succeed()
	r.expect(message(1), message(2))
	r.expectEmpty()
}

// What a poll left on its way is told as deliveries: a message has one for
// each sink.
func TestDeliveriesLeftOpen(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	archive, archived := r.another("archive")
	r.account.Deliver = append(r.account.Deliver, archive)
	r.drop.Add("u", []byte(message(1)))
	for _, to := range r.account.Deliver {
		check(t, r.store.Promise(t.Context(), r.account.Name, []state.Promise{{UID: "u", Sink: to.Name, Token: "nothing"}}))
	}
	r.succeed()
	want := "the last poll left 2 deliveries on their way: 0 had arrived, 2 are made again, 0 nobody can tell yet"
	if notes := eventsOf[fetch.Noticed](r); len(notes) != 1 || notes[0].Text != want {
		t.Errorf("told %+v, want %q", notes, want)
	}
	r.expect(message(1))
	expectMail(t, "the archive", archived(), message(1))
}

// What one of two sinks refused is known again by its content, whatever size the
// server says that it has.
func TestOwedOfAnotherSize(t *testing.T) {
	r, good, poison := poisoned(t, false)
	r.drop.Behave(pop3test.Behaviour{Without: []string{"UIDL", "TOP"}})
	archive, archived := r.another("archive")
	r.account.Deliver = append(r.account.Deliver, archive)
	r.poll()
	expectMail(t, "the archive", archived(), append(slices.Clone(good), poison)...)
	r.server.Order(pop3test.WrongSizes(func(string, int64) int64 { return 7 }))
	r.later(day)
	r.poll()
	expectMail(t, "the archive", archived(), append(slices.Clone(good), poison)...)
}

// So is it by its header, whatever the server writes into fields of its own.
func TestOwedWithAnotherStatus(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(1)
	archive, archived := r.another("archive")
	up, tries := archive.Sink, 0
	archive.Sink = &batched{up, func(b deliver.Batch) deliver.Batch { return unprepared{b, &tries} }}
	r.account.Deliver = append(r.account.Deliver, archive)
	r.poll()
	r.drop.Remove("u1")
	r.drop.Add("u1", []byte("Status: O\n"+want[0]))
	r.account.Deliver[1].Sink = up
	r.later(day)
	r.succeed()
	r.expect(want...)
	expectMail(t, "the archive", archived(), "Status: O\n"+want[0])
	r.expectEmpty()
}

// A message that is owed to one of its sinks is known again under the number of
// another, which has to wait under its old one.
func TestOwedUnderAnotherNumber(t *testing.T) {
	for _, wait := range []time.Duration{5 * time.Minute, day} {
		for name, text := range map[string]func(int) string{"told apart": message, "alike": alike} {
			r := newRig(t, pop3test.Behaviour{})
			second, seconds := r.another("second")
			up := second.Sink
			number := func() { r.drop.SetUIDs(func(i int, _ string) string { return strconv.Itoa(i + 1) }) }
			refused := strings.ReplaceAll(text(2), "\n", "\r\n")
			second.Sink = &batched{up, func(b deliver.Batch) deliver.Batch { return without{b, refused} }}
			r.account.Deliver = append(r.account.Deliver, second)
			var want []string
			for i := range 3 {
				if i == 2 { // the first is gone by then, and the second has its number
					r.poll()
					r.later(wait)
				}
				want = append(want, text(i+1))
				r.drop.Add("new", []byte(text(i+1)))
				number()
			}
			r.poll()
			r.account.Deliver[1].Sink = up
			for range 4 {
				r.later(day)
				number()
				r.poll()
			}
			expectMail(t, fmt.Sprint(name, ", after ", wait, ": the first"), r.mail(), want...)
			expectMail(t, fmt.Sprint(name, ", after ", wait, ": the second"), seconds(), want...)
		}
	}
}

// without is a batch that refuses one message for good.
type without struct {
	deliver.Batch
	text string
}

func (w without) Stage(ctx context.Context, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
	data, err := io.ReadAll(body)
	if err == nil && string(data) == w.text {
		err = errPoison
	}
	if err != nil {
		return 0, err
	}
	return w.Batch.Stage(ctx, mail, bytes.NewReader(data))
}
