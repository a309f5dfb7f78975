package fetch_test

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// Each sink of an account gets each message, and then the message is deleted.
func TestEachSinkGetsEachMessage(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	archived := r.addMaildir("archive")
	want := r.fill(100)
	s := r.mustPoll()
	r.expectDelivered(want...)
	expectMail(t, "the archive", archived(), want...)
	if s.Fetched != 100 || s.Deleted != 100 || len(r.left()) != 0 {
		t.Errorf("fetched %d, deleted %d, %d left", s.Fetched, s.Deleted, len(r.left()))
	}
}

// A message that one sink refuses is delivered once to the other one, and stays on the
// server until both have it.
func TestOneOfSeveralRefuses(t *testing.T) {
	for _, late := range []bool{false, true} {
		r, good, poison := newPoisonRig(t, late)
		archived := r.addMaildir("archive")
		all := append(slices.Clone(good), poison)
		for range 3 {
			if s := r.poll(); s.Class != fetch.ClassRefused || s.Refused != 1 {
				t.Errorf("late %v: %v, %d refused: %v", late, s.Class, s.Refused, s.Err)
			}
			r.expectDelivered(good...)
			expectMail(t, "the archive", archived(), all...)
			if got := r.left(); !slices.Equal(got, []string{"u2"}) {
				t.Errorf("late %v: left %q", late, got)
			}
			r.expectRefused("u2", "it is poison")
			r.advance(day)
		}

		r.acceptPoison()
		r.mustPoll()
		r.expectDelivered(all...)
		expectMail(t, "the archive", archived(), all...)
		if len(r.left()) != 0 {
			t.Errorf("late %v: left %q", late, r.left())
		}
	}
}

// A Maildir whose disk fails to sync holds up no other sink, however many messages come.
func TestOneOfSeveralCannotSync(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	fsys, broken := durabletest.New(), true
	fsys.OnOp(func(op durabletest.Op) error {
		if broken && op.Verb == durabletest.Sync && strings.Contains(op.Path, "/tmp/") {
			return syscall.ESTALE
		}
		return nil
	})
	sick, err := maildir.New("/sick", maildir.Options{FS: fsys})
	check(t, err)
	r.account.Deliver = append(r.account.Deliver, fetch.Target{Name: "sick", Sink: sick})
	want := r.fill(100)
	if s := r.poll(); s.Class == fetch.ClassFine || s.Deleted != 0 {
		t.Errorf("%v, %d deleted", s.Class, s.Deleted)
	}
	r.expectDelivered(want...)
	broken = false
	r.advance(day)
	if s := r.mustPoll(); s.Deleted != 100 {
		t.Errorf("%d deleted", s.Deleted)
	}
	r.expectDelivered(want...)
	if entries, err := fsys.ReadDir("/sick/new"); len(entries) != 100 || err != nil {
		t.Errorf("the other one holds %d, %v", len(entries), err)
	}
}

// If a Maildir proves not to have what it promised, the promise is retracted before the
// next sink commits: an open promise of a Maildir counts as landed.
func TestBrokenPromiseIsRetractedFirst(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	var order []string
	last := r.account.Deliver[0]
	last.Name, last.Sink = "last", loggingSink{last.Sink, "last", false, &order}
	robbed, _ := r.newMaildir("robbed")
	robbed.Sink = loggingSink{hooked(robbed.Sink, hooks{
		commit: func(_ context.Context, _ deliver.Batch, landed func(deliver.Receipt) error) error {
			return landed(deliver.Receipt{Err: &deliver.Error{Fault: deliver.FaultTemporary, Err: fs.ErrNotExist}})
		},
	}), "robbed", false, &order}
	r.account.Deliver = []fetch.Target{last, robbed}
	r.fill(1)
	r.opts.State = retracting{r.opts.State, &order}
	r.poll()
	order = slices.DeleteFunc(order, func(what string) bool { return strings.HasPrefix(what, "prepare") })
	if want := []string{"commit robbed", "retract", "commit last"}; !slices.Equal(order, want) {
		t.Errorf("%q, want %q", order, want)
	}
}

// retracting is a state that logs when promises are retracted.
type retracting struct {
	fetch.State
	order *[]string
}

func (s retracting) Retract(ctx context.Context, account string, ps []state.Promise) error {
	*s.order = append(*s.order, "retract")
	return s.State.Retract(ctx, account, ps)
}

// A sink that refused a message and is removed from the account no longer keeps the
// message on the server.
func TestSinkRemoved(t *testing.T) {
	r, good, poison := newPoisonRig(t, false)
	archived := r.addMaildir("archive")
	r.poll()
	r.account.Deliver = r.account.Deliver[1:]
	r.advance(day)
	r.mustPoll()
	expectMail(t, "the archive", archived(), append(good, poison)...)
	r.expectMaildropEmpty()
}

// A removed sink keeps no message on the server even if one of the sinks that have it is
// down.
func TestSinkRemovedWhileAnotherIsDown(t *testing.T) {
	r, _, _ := newPoisonRig(t, false)
	archive, _ := r.newMaildir("archive")
	third, _ := r.newMaildir("third")
	r.account.Deliver = append(r.account.Deliver, archive, third)
	r.poll()
	r.account.Deliver = []fetch.Target{archive, {Name: "third", Sink: unusable{third.Sink}}}
	r.advance(day)
	r.poll()
	r.expectMaildropEmpty()
}

// loggingSink is a sink that logs when it is prepared and committed.
type loggingSink struct {
	deliver.Sink
	name  string
	locks bool
	log   *[]string
}

func (s loggingSink) Profile() deliver.Profile {
	p := s.Sink.Profile()
	p.Target, p.Locks = s.name, s.locks
	return p
}

func (s loggingSink) Begin(ctx context.Context) (deliver.Batch, error) {
	b, err := s.Sink.Begin(ctx)
	return timedBatch{b, s}, err
}

type timedBatch struct {
	deliver.Batch
	loggingSink
}

func (b timedBatch) Prepare(ctx context.Context) ([]deliver.Promise, error) {
	*b.log = append(*b.log, "prepare "+b.name)
	return b.Batch.Prepare(ctx)
}

func (b timedBatch) Commit(ctx context.Context, landed func(deliver.Receipt) error) error {
	*b.log = append(*b.log, "commit "+b.name)
	return b.Batch.Commit(ctx, landed)
}

// Sinks that lock are prepared last and committed first, and always in one order.
func TestLockOrder(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	var log []string
	r.account.Deliver = nil
	for _, s := range []loggingSink{{name: "c", locks: true}, {name: "b"}, {name: "a", locks: true}, {name: "d"}} {
		target, _ := r.newMaildir(s.name)
		s.Sink, s.log = target.Sink, &log
		r.account.Deliver = append(r.account.Deliver, fetch.Target{Name: s.name, Sink: s})
	}
	r.fill(1)
	r.mustPoll()
	want := []string{
		"prepare b", "prepare d", "prepare a", "prepare c", "commit c", "commit a", "commit d", "commit b",
	}
	if !slices.Equal(log, want) {
		t.Errorf("%q, want %q", log, want)
	}
}

// Landings of a sink that locks are recorded before Commit returns, which unlocks: the
// owner may move the mail then. So are those of a sink that cannot settle later.
func TestLandingsAreRecordedBeforeUnlock(t *testing.T) {
	for _, promised := range []deliver.Profile{
		{Guarantee: deliver.ExactlyOnce, Locks: true}, {Guarantee: deliver.AtLeastOnce},
	} {
		r := newRig(t, pop3test.Behaviour{})
		r.account.Deliver[0].Sink = hooked(profiled{r.account.Deliver[0].Sink, promised}, hooks{
			commit: func(ctx context.Context, b deliver.Batch, landed func(deliver.Receipt) error) error {
				err := b.Commit(ctx, landed)
				if open, _ := r.store.Promises(t.Context(), "work"); len(open) > 0 {
					t.Errorf("%v: %d are not journalled at the end of Commit", promised, len(open))
				}
				return err
			},
		})
		want := r.fill(3)
		r.mustPoll()
		r.expectDelivered(want...)
	}
}

// profiled is a sink with another profile.
type profiled struct {
	deliver.Sink
	profile deliver.Profile
}

func (p profiled) Profile() deliver.Profile { return p.profile }

// A failure to sweep what removed sinks have left is only a notice, unless this machine is
// in trouble.
func TestLeftoversCannotBeSwept(t *testing.T) {
	for fault, want := range map[deliver.Fault]fetch.Class{
		deliver.FaultOperator: fetch.ClassFine, deliver.FaultMachine: fetch.ClassMachine,
	} {
		r := newRig(t, pop3test.Behaviour{})
		r.fill(1)
		asked := ""
		r.opts.Sweep = func(account string) error {
			asked += account
			return &deliver.Error{Fault: fault, Target: "spool", Op: "list the folder", Err: errors.New("it is shut")}
		}
		s := r.poll()
		if s.Class != want || s.Fetched == 1 != (want == fetch.ClassFine) || asked != "work" {
			t.Errorf("%v, fetched %d, swept %q: %v", s.Class, s.Fetched, asked, s.Err)
		}
		notes := eventsOf[fetch.Noticed](r)
		told := slices.ContainsFunc(notes, func(n fetch.Noticed) bool { return strings.Contains(n.Text, "it is shut") })
		if told != (want == fetch.ClassFine) {
			t.Errorf("told: %+v", notes)
		}
	}
}

// Where no sink can be used, the server is not connected to.
func TestNoSinkCanBeSwept(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.fill(1)
	r.account.Deliver[0].Sink = unsweepable{r.account.Deliver[0].Sink}
	quarantine, _ := r.newMaildir("quarantine")
	r.account.Quarantine = &quarantine
	if s := r.poll(); s.Class != fetch.ClassOperator || s.Sessions != 0 {
		t.Errorf("%v after %d sessions: %v", s.Class, s.Sessions, s.Err)
	}
}

// Each of several broken sinks is reported once.
func TestEachBrokenSinkIsReportedOnce(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.fill(1)
	r.account.Deliver = nil
	for _, name := range []string{"r", "p"} {
		sink, err := maildir.New(filepath.Join(t.TempDir(), "none", name), maildir.Options{})
		check(t, err)
		r.account.Deliver = append(r.account.Deliver, fetch.Target{Name: name, Sink: sink})
	}
	s := r.poll()
	for _, name := range []string{"r", "p"} {
		if n := strings.Count(s.Err.Error(), "none/"+name+": create the Maildir"); n != 1 {
			t.Errorf("%s is told of %d times: %v", name, n, s.Err)
		}
	}
}
