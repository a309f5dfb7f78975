package fetch_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// cancelAt returns a context that is cancelled, as by a signal, when fault strikes.
func (r *rig) cancelAt(fault pop3test.Fault) context.Context {
	ctx, stop := context.WithCancelCause(r.t.Context())
	r.t.Cleanup(func() { stop(nil) })
	r.drop.Order(fault.When(func(*pop3test.Exchange) bool {
		stop(errors.New("terminated signal received"))
		return true
	}))
	return ctx
}

// A poll that is cancelled says so, whatever fails then. What it has done counts, and it
// is not a failure.
func TestCancelledPollIsCutShort(t *testing.T) {
	for name, calledOff := range map[string]func(*rig) context.Context{
		"in a batch": func(r *rig) context.Context {
			return r.cancelAt(pop3test.Ignore("RETR", pop3test.Hang).UID("u4"))
		},
		"waiting for the listing": func(r *rig) context.Context {
			return r.cancelAt(pop3test.Ignore("LIST", pop3test.Hang).Session(3))
		},
		"waiting for a secret": func(r *rig) context.Context {
			ctx, stop := context.WithCancel(r.t.Context())
			asked := 0
			r.account.Secret = func(ctx context.Context) (string, error) {
				if asked++; asked == 2 {
					stop()
					<-ctx.Done()
				}
				return secret, ctx.Err()
			}
			return ctx
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pop3test.Behaviour{})
			r.account.MaxMessages, r.retryInUse = 2, true
			want := r.fill(6)
			r.drop.Order(pop3test.ReplyErr("LIST", "[SYS/TEMP] no").Session(1), pop3test.ReplyErr("UIDL", "[SYS/TEMP] no").Session(1))
			if s := r.poll(); s.Schedule.Failures != 1 {
				t.Fatalf("%d failures: %v", s.Schedule.Failures, s.Err)
			}
			s := r.account.Poll(calledOff(r), r.opts)
			if !errors.Is(s.Err, fetch.ErrCutShort) || s.Class != fetch.ClassRetry || s.Fetched < 2 || s.Schedule.Failures != 1 {
				t.Errorf("%v: %v; %d fetched, %d failures", s.Class, s.Err, s.Fetched, s.Schedule.Failures)
			}
			if st, err := r.store.Status(t.Context(), "work", 0); err != nil || st.Last.Error != s.Err.Error() || st.Last.Fetched != s.Fetched {
				t.Errorf("recorded was %+v, %v", st.Last, err)
			}
			r.drop.ClearFaults()
			r.mustPoll()
			r.expectDelivered(want...)
		})
	}
}

// A poll that waits for its secret ends at once when it is drained.
func TestDrainWhileASecretIsAwaited(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	drain := make(chan struct{})
	r.opts.Drain = drain
	r.account.Secret = func(ctx context.Context) (string, error) {
		close(drain)
		<-ctx.Done()
		return "", ctx.Err()
	}
	if s := r.poll(); !errors.Is(s.Err, fetch.ErrCutShort) || s.Schedule.Failures != 0 {
		t.Errorf("%v; %d failures", s.Err, s.Schedule.Failures)
	}
}

// An error that calls for a person counts for more than the cancellation.
func TestCutShortBesideTrouble(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	ctx, stop := context.WithCancel(t.Context())
	r.account.Secret = func(context.Context) (string, error) {
		stop()
		return "", errors.New("the safe is locked")
	}
	if s := r.account.Poll(ctx, r.opts); s.Class != fetch.ClassOperator || errors.Is(s.Err, fetch.ErrCutShort) {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
}

// Check, Look, Adopt and a dry run that are cancelled say so, too.
func TestLookCutShort(t *testing.T) {
	for name, look := range map[string]func(*rig, context.Context) error{
		"check": func(r *rig, ctx context.Context) error {
			_, err := r.account.Check(ctx, r.opts)
			return err
		},
		"look": func(r *rig, ctx context.Context) error {
			_, err := r.account.Look(ctx, r.opts, nil)
			return err
		},
		"adopt": func(r *rig, ctx context.Context) error {
			return r.account.Adopt(ctx, r.opts, fetch.Old{}, func(fetch.Adoption) error { return nil })
		},
		"dry run": func(r *rig, ctx context.Context) error {
			r.opts.DryRun = true
			return r.account.Poll(ctx, r.opts).Err
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{})
			r.fill(1)
			err := look(r, r.cancelAt(pop3test.Ignore("UIDL", pop3test.Hang)))
			if !errors.Is(err, fetch.ErrCutShort) || fetch.Hint(err) != "" {
				t.Errorf("%v (hint: %s)", err, fetch.Hint(err))
			}
		})
	}
}

// newLoginDelayFarm returns a farm with an account whose server has n messages and a
// LOGIN-DELAY. Each message is fetched in a session of its own.
func newLoginDelayFarm(t *testing.T, n int, delay time.Duration) (*farm, *fetch.Account) {
	f := newFarm(t)
	sink, err := maildir.New(filepath.Join(t.TempDir(), "Maildir"), maildir.Options{})
	check(t, err)
	t.Cleanup(func() { sink.Close() })
	ada := f.account("ada", "pop")
	ada.MaxMessages = 1
	ada.Deliver = []fetch.Target{{Name: "home", Sink: sink}}
	f.users["ada"].mail, f.users["ada"].delay = n, delay
	return f, ada
}

// A poll that waits for its next login ends at once when it is cancelled or drained.
func TestStopBetweenLogins(t *testing.T) {
	for _, drained := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			_, ada := newLoginDelayFarm(t, 3, 50*time.Second)
			ctx, stop := context.WithCancel(t.Context())
			drain := make(chan struct{})
			if drained {
				stop = func() { close(drain) }
			}
			const after = 20 * time.Second
			time.AfterFunc(after, stop)
			o := newMemory().options()
			o.Drain = drain
			begun := time.Now()
			if s := ada.Poll(ctx, o); s.Fetched != 1 || s.Sessions != 1 || time.Since(begun) != after {
				t.Errorf("drained %v: %d fetched in %d sessions, in %v", drained, s.Fetched, s.Sessions, time.Since(begun))
			}
		})
	}
}

// If the LOGIN-DELAY is too long to wait for, the rest of a poll comes as soon as the
// server allows the next login.
func TestRemainderAfterLoginDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ada := newLoginDelayFarm(t, 3, 2*time.Minute)
		ada.Every = time.Hour
		_, stop := f.run(fetch.Setup{Accounts: []*fetch.Account{ada}, Options: newMemory().options()})
		time.Sleep(10 * time.Minute)
		stop()
		if n := f.users["ada"].mail; n > 0 {
			t.Errorf("%d messages are left after logins at %v", n, f.logins("ada"))
		}
	})
}

// A connection that died does not pass for fine because the poll has to wait for its next
// login.
func TestLoginDelayAfterCut(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{CapabilitiesAfter: []string{"UIDL", "TOP", "LOGIN-DELAY 120"}})
	r.fill(3)
	r.drop.Order(pop3test.CutIn("RETR", 20, pop3test.HangUp).Nth(2))
	if s := r.poll(); s.Class != fetch.ClassRetry || !s.Deferred || s.Sessions != 1 || s.Fetched != 1 {
		t.Errorf("%v, deferred %v, %d sessions, %d fetched: %v", s.Class, s.Deferred, s.Sessions, s.Fetched, s.Err)
	}
}

// A poll that is drained does not connect again after a connection that died or got out of
// step.
func TestNoNewConnectionWhileDraining(t *testing.T) {
	for name, fault := range map[string]pop3test.Fault{
		"died":        pop3test.CutIn("RETR", 20, pop3test.HangUp),
		"out of step": pop3test.On("RETR", func(x *pop3test.Exchange) { x.Reply = strings.NewReader("what?\r\n") }),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{})
			r.fill(3)
			drain := make(chan struct{})
			r.opts.Drain = drain
			r.drop.Order(fault.Nth(2).When(func(*pop3test.Exchange) bool { close(drain); return true }))
			if s := r.poll(); s.Sessions != 1 || s.Fetched != 1 || s.Class != fetch.ClassRetry {
				t.Errorf("%d sessions, %d fetched: %v: %v", s.Sessions, s.Fetched, s.Class, s.Err)
			}
		})
	}
}

// A daemon that is started again polls at once the account whose poll was cut short.
func TestRunGoesOnAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		ada := f.account("ada", "pop")
		ada.Every = time.Hour
		f.host("pop").latency = time.Minute / 2
		setup := fetch.Setup{Accounts: []*fetch.Account{ada}, Options: newMemory().options()}
		for range 2 {
			ctx, stop := context.WithCancel(t.Context())
			time.AfterFunc(3*time.Minute, stop)
			fetch.Run(ctx, setup, nil, nil)
		}
		if logins := f.logins("ada"); len(logins) != 2 {
			t.Errorf("logins at %v", logins)
		}
	})
}

// A daemon that is started again does not hurry with an account that had failed before its
// poll was cut short.
func TestRunWaitsAfterFailureAndStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		ada := f.account("ada", "pop")
		ada.Every = time.Hour
		f.users["ada"].refuse = "[SYS/TEMP] later"
		setup := fetch.Setup{Accounts: []*fetch.Account{ada}, Options: newMemory().options()}
		for n := range 3 {
			ctx, stop := context.WithCancel(t.Context())
			if n == 1 { // the second time, during a poll
				f.locked(func() { f.host("pop").connect = func(context.Context) error { stop(); return nil } })
			} else {
				time.AfterFunc(30*time.Minute, stop)
			}
			fetch.Run(ctx, setup, nil, nil)
			f.locked(func() { f.host("pop").connect = nil })
		}
		for _, gap := range gaps(f.dials(f.host("pop"))) {
			if gap < 50*time.Minute {
				t.Errorf("polled again after %v", gap)
			}
		}
	})
}
