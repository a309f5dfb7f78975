package fetch_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// unwilling is a state that cannot note the first refusal.
type unwilling struct {
	*state.Store
	asked  chan struct{} // closed when it was to
	failed bool
}

func (u *unwilling) Refuse(ctx context.Context, account string, rs []state.Refusal) error {
	if u.failed {
		return u.Store.Refuse(ctx, account, rs)
	}
	u.failed = true
	close(u.asked)
	return &state.Error{Path: "db", Op: "note refusals", Err: errors.New("the disk is full")}
}

// withLarge returns an account with n messages, and one that proves larger than the
// server says, and than the account takes; and a state that cannot note that.
func withLarge(t *testing.T, n int) (*rig, *unwilling) {
	r := newRig(t, pop3test.Behaviour{})
	r.fill(n)
	r.drop.AddFunc("large", 100, func() io.Reader {
		return strings.NewReader("Subject: large\n\n" + strings.Repeat("large\n", 1000))
	})
	r.account.MaxSize = 1000
	u := &unwilling{Store: r.store, asked: make(chan struct{})}
	r.opts.State = u
	return r, u
}

func (r *rig) expectStateFailed(s fetch.Summary) {
	r.t.Helper()
	if _, ok := errors.AsType[*state.Error](s.Err); !ok || s.Class != fetch.ClassOperator || s.Sessions != 1 {
		r.t.Errorf("%v after %d sessions: %v; want that of the state, after one", s.Class, s.Sessions, s.Err)
	}
}

// The state's trouble over a message that is too large is no broken connection.
func TestStateFailsOverTooLarge(t *testing.T) {
	r, _ := withLarge(t, 0)
	r.expectStateFailed(r.poll())
}

// A sink that will be well soon does not hide that the state is not.
func TestStateFailsBesideSink(t *testing.T) {
	r, u := withLarge(t, 1)
	r.account.Deliver[0].Sink = &busy{r.account.Deliver[0].Sink, u.asked}
	r.expectStateFailed(r.poll())
}

// leaseless is a state that cannot open its leases.
type leaseless struct{ *state.Store }

func (l leaseless) Lease(context.Context, string) (*state.Lease, error) {
	return nil, &state.Error{Path: "1.lock", Op: "open the lease", Err: fs.ErrPermission}
}

// A poll that fails over its lease is on record, as all that fail. What the last one
// has noted beside that stays.
func TestLeaseFails(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.fill(2)
	r.account.Keep.Forever = true
	r.succeed()
	check(t, r.store.Delete(t.Context(), "work", 1, []string{"u1"})) // and was killed
	before, err := r.store.Standing(t.Context(), "work")
	check(t, err)
	r.opts.State = leaseless{r.store}
	s := r.poll()
	last, err := r.store.Status(t.Context(), "work", 0)
	check(t, err)
	if s.Class != fetch.ClassOperator || last.Last.Result != s.Class.String() || last.Last.Error != s.Err.Error() {
		t.Errorf("%v: %v; recorded was %+v", s.Class, s.Err, last.Last)
	}
	after, err := r.store.Standing(t.Context(), "work")
	check(t, err)
	if !before.Doubt || !after.Doubt || after.Schedule != before.Schedule {
		t.Errorf("of %+v there is %+v", before, after)
	}
}

// busy is a sink with batches of one message, which it does not take, but only
// says so once another has come.
type busy struct {
	deliver.Sink
	come chan struct{}
}

func (b *busy) Profile() deliver.Profile {
	p := b.Sink.Profile()
	p.MaxMessages = 1
	return p
}

func (b *busy) Begin(ctx context.Context) (deliver.Batch, error) {
	batch, err := b.Sink.Begin(ctx)
	return busyBatch{batch, b.come}, err
}

type busyBatch struct {
	deliver.Batch
	come chan struct{}
}

func (b busyBatch) Prepare(context.Context) ([]deliver.Promise, error) {
	<-b.come
	return nil, &deliver.Error{Fault: deliver.FaultTemporary, Target: "home", Op: "lock", Err: errors.New("busy")}
}

// landless is a state that cannot note what has landed.
type landless struct{ *state.Store }

func (landless) Land(context.Context, string, int64, []state.Landing) error {
	return &state.Error{Path: "db", Op: "journal landings", Err: errors.New("the disk is full")}
}

// Nor does one hide it that took a part of a batch, and says of the rest that it did
// not, or nothing.
func TestStateFailsOverPart(t *testing.T) {
	for _, untaken := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{})
		r.opts.State = landless{r.store}
		r.account.Deliver[0].Sink = &batched{r.account.Deliver[0].Sink, func(b deliver.Batch) deliver.Batch {
			return reliant{b, func(landed func(deliver.Receipt) error) error {
				why := *errAllergic
				why.Untaken = untaken
				return errors.Join(landed(deliver.Receipt{Ticket: 0}), &why)
			}}
		}}
		r.fill(2)
		r.expectStateFailed(r.poll())
	}
}

// What a sink refuses is noted even if the next batch ends the poll.
func TestRefusedBeforeTheEnd(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Deliver[0].Sink = &batched{one{r.account.Deliver[0].Sink}, nil}
	committed := 0
	r.account.Deliver[0].Sink.(*batched).wrap = func(b deliver.Batch) deliver.Batch {
		return reliant{b, func(landed func(deliver.Receipt) error) error {
			if committed++; committed == 1 {
				return landed(deliver.Receipt{Err: errPoison})
			}
			return &deliver.Error{Fault: deliver.FaultMachine, Target: "home", Op: "write", Err: errors.New("the disk is full")}
		}}
	}
	r.fill(2)
	if s := r.poll(); s.Err == nil || s.Refused != 1 {
		t.Errorf("%d refused: %v", s.Refused, s.Err)
	}
	refused := 0
	for _, row := range r.rows() {
		refused += row.Tries
	}
	if refused != 1 {
		t.Errorf("%d refusals are noted, want 1", refused)
	}
}
