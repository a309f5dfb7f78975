package fetch_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// calledOff returns a context that ends, as by a signal, when fault strikes.
func (r *rig) calledOff(fault pop3test.Fault) context.Context {
	ctx, stop := context.WithCancelCause(r.t.Context())
	r.t.Cleanup(func() { stop(nil) })
	r.drop.Order(fault.When(func(*pop3test.Exchange) bool {
		stop(errors.New("terminated signal received"))
		return true
	}))
	return ctx
}

// A poll that is called off says so, whatever breaks over it. What it has done
// counts, and it is held against nobody.
func TestCutShort(t *testing.T) {
	for name, calledOff := range map[string]func(*rig) context.Context{
		"in a batch": func(r *rig) context.Context {
			return r.calledOff(pop3test.Ignore("RETR", pop3test.Hang).UID("u4"))
		},
		"waiting for the listing": func(r *rig) context.Context {
			return r.calledOff(pop3test.Ignore("LIST", pop3test.Hang).Session(3))
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
			r.account.MaxMessages, r.patient = 2, true
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
			r.succeed()
			r.expect(want...)
		})
	}
}

// Whoever waits for a secret has begun nothing, and does not wait on when polls are
// to end.
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

// What brings a person to it counts for more than that the poll was called off.
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

// So does whoever only looks.
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
			err := look(r, r.calledOff(pop3test.Ignore("UIDL", pop3test.Hang)))
			if !errors.Is(err, fetch.ErrCutShort) || fetch.Hint(err) != "" {
				t.Errorf("%v (hint: %s)", err, fetch.Hint(err))
			}
		})
	}
}

// A daemon that is started again goes on at once with what was cut short.
func TestRunGoesOnAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		ada := f.account("ada", "pop")
		ada.Every = time.Hour
		f.host("pop").pace = time.Minute / 2
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
