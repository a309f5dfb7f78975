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

// firstRefusalFails is a state that cannot record the first refusal. It closes asked when
// it is to.
type firstRefusalFails struct {
	*state.Store
	asked  chan struct{} // closed when Refuse is called
	failed bool
}

func (u *firstRefusalFails) Refuse(ctx context.Context, account string, rs []state.Refusal) error {
	if u.failed {
		return u.Store.Refuse(ctx, account, rs)
	}
	u.failed = true
	close(u.asked)
	return &state.Error{Path: "db", Op: "note refusals", Err: errors.New("the disk is full")}
}

// newTooLargeRig returns a rig with n messages and one that proves to be larger than it
// was listed and than max_size, and a state that cannot record that.
func newTooLargeRig(t *testing.T, n int) (*rig, *firstRefusalFails) {
	r := newRig(t, pop3test.Behaviour{})
	r.fill(n)
	r.drop.AddFunc("large", 100, func() io.Reader {
		return strings.NewReader("Subject: large\n\n" + strings.Repeat("large\n", 1000))
	})
	r.account.MaxSize = 1000
	u := &firstRefusalFails{Store: r.store, asked: make(chan struct{})}
	r.opts.State = u
	return r, u
}

// expectStateFailed fails the test unless the poll ended after one session with an error
// of the state.
func (r *rig) expectStateFailed(s fetch.Summary) {
	r.t.Helper()
	if _, ok := errors.AsType[*state.Error](s.Err); !ok || s.Class != fetch.ClassOperator || s.Sessions != 1 {
		r.t.Errorf("%v after %d sessions: %v; want that of the state, after one", s.Class, s.Sessions, s.Err)
	}
}

// An error of the state over a message that is too large is not taken for a broken
// connection.
func TestStateFailsOverTooLarge(t *testing.T) {
	r, _ := newTooLargeRig(t, 0)
	r.expectStateFailed(r.poll())
}

// A temporary error of a sink does not hide an error of the state.
func TestStateFailsBesideSink(t *testing.T) {
	r, u := newTooLargeRig(t, 1)
	r.account.Deliver[0].Sink = &busy{r.account.Deliver[0].Sink, u.asked}
	r.expectStateFailed(r.poll())
}

// leaseFails is a state that cannot open its leases.
type leaseFails struct{ *state.Store }

func (l leaseFails) Lease(context.Context, string) (*state.Lease, error) {
	return nil, &state.Error{Path: "1.lock", Op: "open the lease", Err: fs.ErrPermission}
}

// A poll that fails over its lease is recorded. The schedule and the doubt of the last
// poll stay as they are.
func TestLeaseFailureIsRecorded(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.fill(2)
	r.account.Keep.Forever = true
	r.mustPoll()
	check(t, r.store.Delete(t.Context(), "work", 1, []string{"u1"})) // as a killed poll leaves it
	before, err := r.store.Standing(t.Context(), "work")
	check(t, err)
	r.opts.State = leaseFails{r.store}
	s := r.poll()
	last, err := r.store.Status(t.Context(), "work", 0)
	check(t, err)
	if s.Class != fetch.ClassOperator || last.Last.Result != s.Class.String() || last.Last.Error != s.Err.Error() {
		t.Errorf("%v: %v; recorded was %+v", s.Class, s.Err, last.Last)
	}
	after, err := r.store.Standing(t.Context(), "work")
	check(t, err)
	if !before.Unconfirmed || !after.Unconfirmed || after.Schedule != before.Schedule {
		t.Errorf("of %+v there is %+v", before, after)
	}
}

// busy is a sink with batches of one message that fails in Prepare, and not before come is
// closed.
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

// landFails is a state that cannot record landings.
type landFails struct{ *state.Store }

func (landFails) Land(context.Context, string, int64, []state.Landing) error {
	return &state.Error{Path: "db", Op: "journal landings", Err: errors.New("the disk is full")}
}

// A sink that took a part of a batch and failed over the rest does not hide an error of
// the state.
func TestStateFailsOverPart(t *testing.T) {
	for _, untaken := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{})
		r.opts.State = landFails{r.store}
		r.account.Deliver[0].Sink = hooked(r.account.Deliver[0].Sink, hooks{
			commit: func(_ context.Context, _ deliver.Batch, landed func(deliver.Receipt) error) error {
				err := *errCommit
				err.Untaken = untaken
				return errors.Join(landed(deliver.Receipt{Ticket: 0}), &err)
			},
		})
		r.fill(2)
		r.expectStateFailed(r.poll())
	}
}

// A refusal is recorded even if the next batch ends the poll.
func TestRefusalIsRecordedBeforePollEnds(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	commits := 0
	r.account.Deliver[0].Sink = hooked(oneByOne{r.account.Deliver[0].Sink}, hooks{
		commit: func(_ context.Context, _ deliver.Batch, landed func(deliver.Receipt) error) error {
			if commits++; commits == 1 {
				return landed(deliver.Receipt{Err: errPoison})
			}
			return &deliver.Error{Fault: deliver.FaultMachine, Target: "home", Op: "write", Err: errors.New("the disk is full")}
		},
	})
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
