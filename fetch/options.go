package fetch

import (
	"context"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// Options are what the polls of all accounts share.
type Options struct {
	// State is what all polls remember.
	State State
	// Sinks are all sinks by name, so that a promise of one that an account
	// no longer delivers to can still be settled. It may be nil.
	Sinks map[string]deliver.Sink
	// Scratch is the folder for copies of messages that go to several sinks;
	// empty is the system's folder for temporary files.
	Scratch string
	// Sweep, if not nil, removes what former sinks of the account have left on the
	// local disk. It is called while nothing of the account is staged or promised. Its
	// errors are those of a sink.
	Sweep func(account string) error
	// Observer may be nil.
	Observer Observer
	// Drain, once closed, ends polls early but cleanly: messages that the server
	// was asked for are still delivered, what landed is deleted, and sessions
	// end with QUIT. Cancelling the context of a poll hangs up instead.
	Drain <-chan struct{}
	// Insist polls an account even while its server wants a pause.
	Insist bool
	// KeepAll deletes nothing from any server this time.
	KeepAll bool
	// DryRun has polls log in, list and plan, and change nothing anywhere.
	DryRun bool
	// Host is this machine's name, for the Received field.
	Host string
	// Now is the clock; nil is time.Now.
	Now func() time.Time

	// Run and Once set what follows.

	regular     bool         // polls come at regular intervals, so that the next one is known (Run)
	servers     *sync.Map    // what servers can do before a login, see knownServer.shared (Once)
	sinkBackoff *sinkBackoff // leaves alone the sinks that do not answer
	// settling, if not nil, is called when a poll asks sinks about promises before it
	// connects (Run).
	settling func()
}

func (o *Options) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

func (o *Options) report(e Event) {
	if o.Observer != nil {
		o.Observer(e)
	}
}

func (o *Options) draining() bool { return closed(o.Drain) }

// untilDrain returns a context that ends with ctx, or when Drain is closed.
func (o *Options) untilDrain(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-o.Drain:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// State is what polls remember of their accounts. *state.Store is one, and
// says what each method does. Those that write return once what they wrote
// would survive a power cut, and those that read return nothing that a power
// cut could still undo: exactly-once delivery rests on both.
type State interface {
	// Lease takes the sole right to poll an account. If another poll has it,
	// the error is a *state.HeldError.
	Lease(ctx context.Context, account string) (*state.Lease, error)
	// Promises returns the open promises in the order they were made.
	Promises(ctx context.Context, account string) ([]state.Promise, error)
	// Standing returns how things stand with the account.
	Standing(ctx context.Context, account string) (state.Standing, error)
	// RowStates returns the outline of each row, in the order of UIDs.
	RowStates(ctx context.Context, account string) ([]state.RowState, error)
	// Rows returns what is remembered of each message, in the order of UIDs.
	Rows(ctx context.Context, account string) ([]state.Row, error)
	// Deliveries returns what the sinks have done with one message.
	Deliveries(ctx context.Context, account, uid string) ([]state.Delivery, error)
	// Landed returns the UIDs of the messages that landed in a sink.
	Landed(ctx context.Context, account, sink string) (map[string]bool, error)
	// Keep records what a listing taught about messages.
	Keep(ctx context.Context, account string, at int64, h state.Housekeeping) error
	// Delete records what the server is about to be asked to delete, Confirm that it
	// did, and Undelete that nobody knows.
	Delete(ctx context.Context, account string, at int64, uids []string) error
	Confirm(ctx context.Context, account string) error
	Undelete(ctx context.Context, account string) error
	// Refuse records failed attempts.
	Refuse(ctx context.Context, account string, rs []state.Refusal) error
	// SavePoll records how a poll went, and what the next one is to know.
	SavePoll(ctx context.Context, account string, p state.Poll) error

	// Promise records what a sink has staged, before it makes it visible.
	Promise(ctx context.Context, account string, ps []state.Promise) error
	// Land records what a sink has made visible.
	Land(ctx context.Context, account string, at int64, ls []state.Landing) error
	// Retract takes back promises that a sink will not keep.
	Retract(ctx context.Context, account string, ps []state.Promise) error
	// Suspect takes back promises that were not kept, of messages that may have made
	// the sink fail. They are due at the time at, or when an earlier pause ends, if
	// that is later.
	Suspect(ctx context.Context, account string, at int64, why string, ps []state.Promise) error
}

var _ State = (*state.Store)(nil)
