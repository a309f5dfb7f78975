package fetch_test

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/fetch"
)

// unending is a batch whose Commit does not end by itself.
type unending struct{ deliver.Batch }

func (unending) Commit(ctx context.Context, _ func(deliver.Receipt) error) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// A sink that is busy when time runs out may end what it does, but not hold the poll
// for ever.
func TestOvertimeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		sink, err := maildir.New(filepath.Join(t.TempDir(), "Maildir"), maildir.Options{})
		check(t, err)
		defer sink.Close()
		a := f.account("ada", "pop")
		a.Budget = time.Hour
		a.Deliver = []fetch.Target{{Name: "home", Sink: &batched{sink, func(b deliver.Batch) deliver.Batch { return unending{b} }}}}
		f.users["ada"].mail = 1
		begun := time.Now()
		s := a.Poll(t.Context(), newMemory().options())
		if took := time.Since(begun); s.Err == nil || took < time.Hour || took > 2*time.Hour {
			t.Errorf("%v after %v", s.Err, took)
		}
	})
}
