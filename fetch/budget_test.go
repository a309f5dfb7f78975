package fetch_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// commitUntilDone is a Commit that does not end before its ctx is done.
func commitUntilDone(ctx context.Context, _ deliver.Batch, _ func(deliver.Receipt) error) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// A sink that is busy when the budget is spent may finish its batch, but not hold the poll
// for ever.
func TestBudgetEndsBusySink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		sink, err := maildir.New(filepath.Join(t.TempDir(), "Maildir"), maildir.Options{})
		check(t, err)
		defer sink.Close()
		a := f.account("ada", "pop")
		a.Budget = time.Hour
		a.Deliver = []fetch.Target{{Name: "home", Sink: hooked(sink, hooks{commit: commitUntilDone})}}
		f.users["ada"].mail = 1
		begun := time.Now()
		s := a.Poll(t.Context(), newMemory().options())
		if took := time.Since(begun); s.Err == nil || took < time.Hour || took > 2*time.Hour {
			t.Errorf("%v after %v", s.Err, took)
		}
	})
}

// endlessBody is the body of a message that never ends.
type endlessBody struct{}

func (endlessBody) Read(p []byte) (int, error) { return copy(p, strings.Repeat("drip\r\n", 10)), nil }

// A server that always sends one more byte is ended by the poll's budget. What came before
// is safe, and the message that took so long is refused then, so that it holds up the
// others once.
func TestBudgetEndsSlowMessage(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Server.Window = 1
	r.drop.AddFunc("slow", 100, func() io.Reader { return endlessBody{} })
	want := r.fill(3)

	// On a busy machine much time may pass before the message begins.
	for budget := 500 * time.Millisecond; !r.refused("slow"); budget *= 2 {
		r.account.Budget = budget
		s := r.poll()
		if s.Class != fetch.ClassRetry || !strings.Contains(s.Err.Error(), fmt.Sprintf("longer than time_limit (%v)", budget)) {
			t.Fatalf("%v: %v", s.Class, s.Err)
		}
		if !strings.Contains(fetch.Hint(s.Err), "time_limit") {
			t.Errorf("hint %q", fetch.Hint(s.Err))
		}
	}
	r.account.Budget = 0
	if s := r.poll(); s.Class != fetch.ClassRefused || s.Deleted != 3 {
		t.Errorf("%v, deleted %d: %v", s.Class, s.Deleted, s.Err)
	}
	r.expectDelivered(want...)
	r.expectNothingStaged()
}

// What has come in whole before the budget is spent is delivered.
func TestMailBeforeBudgetEndsIsDelivered(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Server.Window = 1
	r.fill(3)
	r.drop.AddFunc("slow", 100, func() io.Reader { return endlessBody{} })
	r.account.Budget = time.Second
	s := r.poll()
	if got, whole := len(r.mail()), r.retrievals()-1; got < whole { // the last one was still coming
		t.Errorf("%d messages arrived of %d: %v", got, whole, s.Err)
	}
}

// refused reports whether a poll has reported the message uid as refused.
func (r *rig) refused(uid string) bool {
	for _, e := range eventsOf[fetch.Refused](r) {
		if e.UID == uid {
			return true
		}
	}
	return false
}

// The budget also ends a poll that never gets beyond the greeting.
func TestBudgetEndsSlowGreeting(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	tick := make(chan struct{})
	r.server.Order(pop3test.Trickle(pop3test.Greeting, tick))
	r.account.Budget = time.Second
	done := make(chan fetch.Summary)
	go func() { done <- r.poll() }()
	var s fetch.Summary
	select {
	case tick <- struct{}{}: // one byte, and no other
		s = <-done
	case s = <-done: // the budget was spent before the first byte
	}
	if s.Class != fetch.ClassRetry || !strings.Contains(s.Err.Error(), "time_limit") {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
}

// The budget also ends Check, Look, Adopt and a dry run.
func TestBudgetEndsLook(t *testing.T) {
	for name, look := range map[string]func(*rig) error{
		"Check": func(r *rig) error {
			_, err := r.account.Check(t.Context(), r.opts)
			return err
		},
		"Look": func(r *rig) error {
			_, err := r.account.Look(t.Context(), r.opts, nil)
			return err
		},
		"Adopt": func(r *rig) error {
			return r.account.Adopt(t.Context(), r.opts, fetch.Old{}, func(fetch.Adoption) error { return nil })
		},
		"DryRun": func(r *rig) error {
			r.opts.DryRun = true
			return r.poll().Err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pop3test.Behaviour{})
			// Waiting for a connection takes time from the budget like a slow reply.
			r.account.Server.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			r.account.Budget = 10 * time.Millisecond
			err := look(r)
			if fetch.Classify(err) != fetch.ClassRetry || !strings.Contains(err.Error(), "longer than time_limit (10ms)") {
				t.Errorf("%v: %v", fetch.Classify(err), err)
			}
		})
	}
}
