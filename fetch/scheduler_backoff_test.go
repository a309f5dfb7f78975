package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
)

// An account that fails is polled after pauses that double up to a bound, and at its
// interval again once it succeeds.
func TestRunBacksOff(t *testing.T) {
	const minute = time.Minute
	for _, test := range []struct {
		name   string
		every  time.Duration
		fail   func(*farm, *farmUser)
		pauses []time.Duration
	}{
		{
			"a password that never worked", 5 * minute, func(_ *farm, u *farmUser) { u.refuse = "[AUTH] no" },
			[]time.Duration{15 * minute, 30 * minute, 60 * minute, 120 * minute, 240 * minute, 360 * minute, 360 * minute},
		},
		{
			"temporary trouble of the server", 5 * minute, func(_ *farm, u *farmUser) { u.refuse = "[SYS/TEMP] later" },
			append([]time.Duration{5 * minute, 10 * minute, 20 * minute, 40 * minute}, slices.Repeat([]time.Duration{60 * minute}, 60)...),
		},
		{
			"a wrong password, polled once a day", 24 * 60 * minute, func(_ *farm, u *farmUser) { u.refuse = "[AUTH] no" },
			[]time.Duration{24 * 60 * minute, 24 * 60 * minute},
		},
		{
			"temporary trouble, polled once a day", 24 * 60 * minute, func(_ *farm, u *farmUser) { u.refuse = "[SYS/TEMP] later" },
			[]time.Duration{24 * 60 * minute, 24 * 60 * minute},
		},
		{
			"a mailbox in use", 5 * minute, func(_ *farm, u *farmUser) { u.refuse = "[IN-USE] locked" },
			[]time.Duration{minute, 2 * minute, 4 * minute, 8 * minute, 15 * minute, 15 * minute},
		},
		{
			"a login that came too early by an unknown time", 5 * minute, func(_ *farm, u *farmUser) { u.refuse = "[LOGIN-DELAY] wait" },
			[]time.Duration{minute, 2 * minute, 4 * minute, 8 * minute, 15 * minute, 15 * minute},
		},
		{
			"a host that is down", 5 * minute, func(f *farm, _ *farmUser) { f.host("pop").connect = down },
			[]time.Duration{5 * minute, 10 * minute, 15 * minute, 15 * minute, 15 * minute, 15 * minute},
		},
		{
			"a host name that does not exist", 5 * minute, func(f *farm, _ *farmUser) { f.host("pop").connect = unknown },
			[]time.Duration{15 * minute, 15 * minute, 15 * minute, 15 * minute, 15 * minute, 15 * minute},
		},
		{
			"a host that is down, polled once an hour", 60 * minute, func(f *farm, _ *farmUser) { f.host("pop").connect = down },
			[]time.Duration{60 * minute, 60 * minute},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarm(t)
				a := f.account("ada", "pop")
				a.Every = test.every
				u, h := f.users["ada"], f.host("pop")
				test.fail(f, u)
				_, stop := f.run(fetch.Setup{Accounts: []*fetch.Account{a}, Options: newMemory().options()})
				for len(f.dials(h)) <= len(test.pauses) {
					time.Sleep(minute)
				}
				for i, gap := range gaps(f.dials(h)) {
					if want := test.pauses[i]; gap < want*9/10 || gap > want*11/10+2*time.Second {
						t.Errorf("pause %d: %v, want %v", i, gap, want)
					}
				}
				f.locked(func() { u.refuse, h.connect = "", nil })
				for len(f.logins("ada")) < 3 {
					time.Sleep(minute)
				}
				stop()
				for _, gap := range gaps(u.logins) {
					if gap > test.every*11/10+2*time.Second {
						t.Errorf("%v between two polls that do well", gap)
					}
				}
			})
		})
	}
}

// sweepable is a sink that can be swept. A poll without mail asks nothing else of it.
type sweepable struct{ deliver.Sink }

func (sweepable) Sweep(context.Context, string) error { return nil }

func (sweepable) Profile() deliver.Profile { return deliver.Profile{} }

// If one sink of several is down, the account is still polled at its interval; if all are,
// it backs off.
func TestRunWithSinksDown(t *testing.T) {
	for name, test := range map[string]struct {
		sinks []deliver.Sink
		pause time.Duration
	}{
		"one of two": {[]deliver.Sink{sweepable{}, unsweepable{sweepable{}}}, 5 * time.Minute},
		"both":       {[]deliver.Sink{unsweepable{sweepable{}}, unsweepable{sweepable{}}}, 6 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarm(t)
				a := f.account("ada", "pop")
				for i, sink := range test.sinks {
					a.Deliver = append(a.Deliver, fetch.Target{Name: fmt.Sprint(i), Sink: sink})
				}
				var ended []time.Time
				o := newMemory().options()
				observe := o.Observer
				o.Observer = func(e fetch.Event) {
					observe(e)
					if e, ok := e.(fetch.Finished); ok {
						if e.Class != fetch.ClassOperator {
							t.Errorf("%v: %v", e.Class, e.Err)
						}
						f.locked(func() { ended = append(ended, time.Now()) })
					}
				}
				_, stop := f.run(fetch.Setup{Accounts: []*fetch.Account{a}, Options: o})
				time.Sleep(48 * time.Hour)
				stop()
				last := gaps(ended)
				if got := last[len(last)-1]; got < test.pause*9/10 || got > test.pause*11/10+2*time.Second {
					t.Errorf("the last pause is %v, want %v", got, test.pause)
				}
			})
		})
	}
}

// Where a login has worked before, a person is called only after the third refusal.
func TestRunDoubtsRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		a := f.account("ada", "pop")
		var classes []fetch.Class
		m := newMemory()
		_, stop := f.run(fetch.Setup{Accounts: []*fetch.Account{a}, Options: fetch.Options{
			State: m,
			Observer: func(e fetch.Event) {
				m.observe(e)
				if e, ok := e.(fetch.Finished); ok {
					classes = append(classes, e.Class)
					f.locked(func() {
						f.users["ada"].refuse = "[AUTH] no"
						if len(classes) == 4 || len(classes) == 6 {
							f.users["ada"].refuse = ""
						}
					})
				}
			},
		}})
		time.Sleep(4 * time.Hour)
		stop()
		want := []fetch.Class{
			fetch.ClassFine, fetch.ClassRetry, fetch.ClassRetry, fetch.ClassOperator,
			fetch.ClassFine, fetch.ClassRetry, fetch.ClassFine, fetch.ClassRetry,
		}
		if len(classes) < len(want) || !slices.Equal(classes[:len(want)], want) {
			t.Errorf("got %v, want %v", classes, want)
		}
	})
}

// With Insist an account is polled during a pause. Otherwise the poll is skipped and says
// until when it has to wait.
func TestInsistPollsDuringPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		a := f.account("ada", "pop")
		u := f.users["ada"]
		u.refuse = "[IN-USE] locked"
		m := newMemory()
		o := m.options()
		if s := a.Poll(t.Context(), o); s.Class != fetch.ClassRetry || s.Skipped {
			t.Fatalf("%+v", s)
		}
		u.refuse = ""
		s := a.Poll(t.Context(), o)
		early, ok := errors.AsType[*fetch.PauseError](s.Err)
		if !ok || !s.Skipped || s.Class != fetch.ClassFine || len(u.logins) != 0 {
			t.Fatalf("%+v", s)
		}
		o.Insist = true
		if s := a.Poll(t.Context(), o); s.Err != nil || len(u.logins) != 1 {
			t.Fatalf("%+v", s)
		}
		u.refuse = "[IN-USE] locked"
		a.Poll(t.Context(), o)
		u.refuse, o.Insist = "", false
		time.Sleep(time.Until(early.Until) + time.Second)
		if s := a.Poll(t.Context(), o); s.Err != nil || len(u.logins) != 2 {
			t.Fatalf("%+v", s)
		}
		if left := m.schedules[a.Name]; left.Pause != "" || left.NotBefore != 0 {
			t.Errorf("a pause that nobody asked for: %+v", left)
		}
	})
}

// A pause that was recorded by a wrong clock does not lock the account out.
func TestPauseByWrongClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		a := f.account("ada", "pop")
		f.users["ada"].refuse = "[IN-USE] locked"
		m := newMemory()
		ahead := m.options()
		ahead.Now = func() time.Time { return time.Now().Add(24 * time.Hour) }
		a.Poll(t.Context(), ahead)
		f.users["ada"].refuse = ""
		if s := a.Poll(t.Context(), m.options()); s.Err != nil {
			t.Errorf("%+v", s)
		}
	})
}
