package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

const defaultBudget = time.Hour

// withBudget returns a context for a poll, or a look, that ends when it has taken too
// long as a whole (Account.Budget): a server that says a little now and then could keep
// it for ever.
func (a *Account) withBudget(ctx context.Context) (context.Context, context.CancelFunc) {
	budget := cmp.Or(a.Budget, defaultBudget)
	return context.WithTimeoutCause(ctx, budget, budgetError(budget))
}

// budgetError is the error of a poll, or a look, that took too long as a whole.
type budgetError time.Duration

func (d budgetError) Error() string {
	return fmt.Sprintf("cut short: it took longer than time_limit (%v)", time.Duration(d))
}

// isOverBudget reports whether err means that a poll, or a look, took too long as a whole.
func isOverBudget(err error) bool {
	_, ok := errors.AsType[budgetError](err)
	return ok
}

// orOverBudget returns err, or the budgetError in its place if err says no more than that
// the time of a context from withBudget is over.
func orOverBudget(ctx context.Context, err error) error {
	if isOverBudget(context.Cause(ctx)) && errors.Is(err, context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	return err
}

// commitGrace is how long sinks may still take, once the budget is spent, for messages
// that were received completely. It is bounded because a server of a sink that says
// something now and then outlives any timeout of that sink.
const commitGrace = 10 * time.Minute

// outliveBudget returns a context that ends with ctx, or commitGrace later if ctx ends
// because the budget is spent.
func outliveBudget(ctx context.Context) (context.Context, func()) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if isOverBudget(context.Cause(ctx)) {
			select {
			case <-time.After(commitGrace):
			case <-longer.Done():
			}
		}
		cancel(context.Cause(ctx))
	})
	return longer, func() { stop(); cancel(nil) }
}
