package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/fetch"
)

// down is what a host answers that is not there; hung says nothing at all.
func down(context.Context) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

// unknown is what comes of its name while that of a host is not to be had.
func unknown(context.Context) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Name: "pop", IsNotFound: true}}
}

func hung(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// gaps returns the times between successive moments.
func gaps(times []time.Time) (all []time.Duration) {
	for i := 1; i < len(times); i++ {
		all = append(all, times[i].Sub(times[i-1]))
	}
	return all
}

// Two hundred accounts on twenty hosts, of which one hangs, one is down and
// one is slow: every other one is polled at its interval, within all bounds.
func TestRunIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every, parallel, perHost = 5 * time.Minute, 8, 2
		f := newFarm(t)
		f.host("pop0").connect = hung
		f.host("pop1").connect = down
		f.host("pop2").pace = 2 * time.Second
		var accounts []*fetch.Account
		for i := range 200 {
			a := f.account(fmt.Sprint("account", i), fmt.Sprint("pop", i%20))
			a.Every = every
			accounts = append(accounts, a)
		}
		orders, stop := f.run(fetch.Setup{
			Accounts: accounts, Options: newMemory().options(), Parallel: parallel, PerHost: perHost,
		})
		orders <- fetch.PollNow{} // all at once, which they must not stay
		const long = 3 * time.Hour
		time.Sleep(long)
		stop()

		if f.most > parallel {
			t.Errorf("%d connections at once", f.most)
		}
		for name, h := range f.hosts {
			most := perHost
			if h.connect != nil {
				most = 1 // what has not answered costs one slot
			}
			if h.most > most {
				t.Errorf("%s: %d connections at once", name, h.most)
			}
		}
		var last []time.Time
		for i, a := range accounts {
			logins := f.logins(a.Name)
			if i%20 < 2 {
				if len(logins) > 0 {
					t.Errorf("%s logged in", a.Name)
				}
				continue
			}
			// One poll may wait for a slot; on the slow host, for nine others.
			slack := 20 * time.Second
			if i%20 == 2 {
				slack = 3 * time.Minute
			}
			for j, gap := range gaps(logins) {
				if gap < every*9/10 && j > 0 || gap > every*11/10+slack {
					t.Errorf("%s: %v between two polls", a.Name, gap)
				}
			}
			if n := len(logins); n < int(long/(every*11/10+slack)) {
				t.Errorf("%s: polled %d times", a.Name, n)
			}
			last = append(last, logins[len(logins)-1])
		}
		// Out of step: the last polls lie all over the interval.
		slices.SortFunc(last, time.Time.Compare)
		for i := range last {
			n := 0
			for n < len(last)-i && last[i+n].Sub(last[i]) < every/10 {
				n++
			}
			if n > len(last)*3/10 {
				t.Errorf("%d of %d accounts were polled within %v", n, len(last), every/10)
				break
			}
		}
	})
}

// Where there is more to do than there are slots, everyone gets the same.
func TestRunStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		var accounts []*fetch.Account
		for i := range 60 {
			a := f.account(fmt.Sprint("account", i), fmt.Sprint("pop", i%7))
			a.Every = 10 * time.Second
			accounts = append(accounts, a)
		}
		_, stop := f.run(fetch.Setup{
			Accounts: accounts, Options: newMemory().options(), Parallel: 2,
		})
		time.Sleep(15 * time.Minute)
		stop()
		least, most := len(f.logins("account0")), 0
		for _, a := range accounts {
			n := len(f.logins(a.Name))
			least, most = min(least, n), max(most, n)
		}
		if least < most*9/10 || most > 75 {
			t.Errorf("some were polled %d times, some %d", least, most)
		}
	})
}

// Without anything that says otherwise, accounts begin one after the other.
func TestRunBeginsGently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		var accounts []*fetch.Account
		for i := range 100 {
			accounts = append(accounts, f.account(fmt.Sprint("account", i), fmt.Sprint("pop", i)))
		}
		_, stop := f.run(fetch.Setup{Accounts: accounts, Options: newMemory().options()})
		time.Sleep(50 * time.Second)
		stop()
		for _, a := range accounts {
			if n := len(f.logins(a.Name)); n != 1 {
				t.Errorf("%s: polled %d times", a.Name, n)
			}
		}
		if f.most > 3 {
			t.Errorf("%d connections at once", f.most)
		}
	})
}

// What fails is polled after pauses that double up to a bound, and at its
// interval again once it does well.
func TestRunBacksOff(t *testing.T) {
	const minute = time.Minute
	for _, test := range []struct {
		name   string
		every  time.Duration
		fail   func(*farm, *farmUser)
		pauses []time.Duration
	}{
		{
			"a password that was never right", 5 * minute, func(_ *farm, u *farmUser) { u.refuse = "[AUTH] no" },
			[]time.Duration{15 * minute, 30 * minute, 60 * minute, 120 * minute, 240 * minute, 360 * minute, 360 * minute},
		},
		{
			"trouble of the server", 5 * minute, func(_ *farm, u *farmUser) { u.refuse = "[SYS/TEMP] later" },
			append([]time.Duration{5 * minute, 10 * minute, 20 * minute, 40 * minute}, slices.Repeat([]time.Duration{60 * minute}, 60)...),
		},
		{
			"a wrong password, polled once a day", 24 * 60 * minute, func(_ *farm, u *farmUser) { u.refuse = "[AUTH] no" },
			[]time.Duration{24 * 60 * minute, 24 * 60 * minute},
		},
		{
			"trouble, polled once a day", 24 * 60 * minute, func(_ *farm, u *farmUser) { u.refuse = "[SYS/TEMP] later" },
			[]time.Duration{24 * 60 * minute, 24 * 60 * minute},
		},
		{
			"a mailbox in use", 5 * minute, func(_ *farm, u *farmUser) { u.refuse = "[IN-USE] locked" },
			[]time.Duration{minute, 2 * minute, 4 * minute, 8 * minute, 15 * minute, 15 * minute},
		},
		{
			"a login too early, who knows by how much", 5 * minute, func(_ *farm, u *farmUser) { u.refuse = "[LOGIN-DELAY] wait" },
			[]time.Duration{minute, 2 * minute, 4 * minute, 8 * minute, 15 * minute, 15 * minute},
		},
		{
			"a host that is down", 5 * minute, func(f *farm, _ *farmUser) { f.host("pop").connect = down },
			[]time.Duration{5 * minute, 10 * minute, 15 * minute, 15 * minute, 15 * minute, 15 * minute},
		},
		{
			"a host that nobody knows", 5 * minute, func(f *farm, _ *farmUser) { f.host("pop").connect = unknown },
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
				f.change(func() { u.refuse, h.connect = "", nil })
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

// swept is a sink of which a poll that finds no mail asks no more.
type swept struct{ deliver.Sink }

func (swept) Sweep(context.Context, string) error { return nil }
func (swept) Profile() deliver.Profile            { return deliver.Profile{} }

// Where one sink of several is down, the others' mail comes as often as ever.
func TestRunWithSinksDown(t *testing.T) {
	for name, test := range map[string]struct {
		sinks []deliver.Sink
		pause time.Duration
	}{
		"one of two": {[]deliver.Sink{swept{}, unswept{swept{}}}, 5 * time.Minute},
		"both":       {[]deliver.Sink{unswept{swept{}}, unswept{swept{}}}, 6 * time.Hour},
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
						f.change(func() { ended = append(ended, time.Now()) })
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

// A login that worked before is doubted for a while: no person is called
// before it was refused three times, and the last of them is told no more
// than the first.
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
					f.change(func() {
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

// A host that is down is tried by one account at a time and ever more seldom,
// whatever the number of its accounts; all are back soon after it is.
func TestRunProbesHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		var accounts []*fetch.Account
		for i := range 50 {
			accounts = append(accounts, f.account(fmt.Sprint("account", i), "pop"))
		}
		accounts = append(accounts, f.account("other", "elsewhere"))
		h := f.host("pop")
		h.connect = down
		_, stop := f.run(fetch.Setup{
			Accounts: accounts, Options: newMemory().options(), Parallel: 8, PerHost: 4,
		})
		const outage = 4 * time.Hour
		time.Sleep(outage)
		f.change(func() {
			if h.most > 1 || len(h.dials) < 15 || len(h.dials) > 30 {
				t.Errorf("%d tries, %d at once", len(h.dials), h.most)
			}
		})
		if n := len(f.logins("other")); n < 40 {
			t.Errorf("the account on another host was polled %d times", n)
		}
		f.change(func() { h.connect = nil })
		time.Sleep(20 * time.Minute)
		for _, a := range accounts {
			if len(f.logins(a.Name)) == 0 {
				t.Errorf("%s is not back", a.Name)
			}
		}
		stop()
		if h.most < 2 || h.most > 4 {
			t.Errorf("%d connections at once", h.most)
		}
	})
}

// No server that asks for a pause between logins sees one too early: not by
// the second session of a poll, a restart, somebody who wants all polled now,
// or a fetch beside the daemon.
func TestRunHeedsLoginDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		sink, err := maildir.New(filepath.Join(t.TempDir(), "Maildir"), maildir.Options{})
		check(t, err)
		defer sink.Close()
		var accounts []*fetch.Account
		for i, delay := range []time.Duration{0, 5 * time.Second, 30 * time.Second, time.Minute, 10 * time.Minute, time.Hour} {
			a := f.account(fmt.Sprint("account", i), fmt.Sprint("pop", i))
			a.Every, a.MaxMessages = time.Minute, 1
			a.Deliver = []fetch.Target{{Name: "home", Sink: sink}}
			f.users[a.Name].delay, f.users[a.Name].mail = delay, 5
			accounts = append(accounts, a)
		}
		o := newMemory().options()
		for range 60 {
			orders, stop := f.run(fetch.Setup{Accounts: accounts, Options: o})
			for range rand.N(5) {
				time.Sleep(rand.N(2 * time.Minute))
				orders <- fetch.PollNow{}
				fetch.Once(t.Context(), fetch.Setup{Accounts: accounts, Options: o})
			}
			time.Sleep(rand.N(10 * time.Minute))
			stop()
		}
		for _, a := range accounts {
			u := f.users[a.Name]
			if u.early > 0 {
				t.Errorf("delay %v: %d of %d logins were too early", u.delay, u.early, len(u.tries))
			}
			if len(u.logins) < 5 || u.mail > 0 {
				t.Errorf("delay %v: polled %d times, %d messages left", u.delay, len(u.logins), u.mail)
			}
		}
	})
}

// An account that somebody names is polled whatever its server wants, and the
// others say until when they wait.
func TestInsist(t *testing.T) {
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

// A clock that was wrong when a pause was noted, or is now, locks nobody out.
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

// What the process knew is known to the next: who failed waits, also if a person
// might have mended it, and who was just polled is not polled again at once.
func TestRunRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		good, bad := f.account("good", "pop"), f.account("bad", "pop")
		f.users["bad"].refuse = "[AUTH] no"
		setup := fetch.Setup{
			Accounts: []*fetch.Account{good, bad}, Options: newMemory().options(),
			Fresh: func(name string) bool { return name == "bad" },
		}
		for range 240 { // a service that is started anew every minute
			_, stop := f.run(setup)
			time.Sleep(time.Minute)
			stop()
		}
		for _, gap := range gaps(f.users["good"].logins) {
			if gap < 4*time.Minute || gap > 7*time.Minute {
				t.Errorf("good: %v between two polls", gap)
			}
		}
		if n := len(f.users["bad"].tries); n < 4 || n > 6 {
			t.Errorf("the bad password was tried %d times in four hours", n)
		}
	})
}

// Another process that polls an account is no failure: it is tried again soon.
func TestRunWaitsForLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		m := newMemory()
		m.held["ada"] = true
		_, stop := f.run(fetch.Setup{Accounts: []*fetch.Account{f.account("ada", "pop")}, Options: m.options()})
		time.Sleep(10 * time.Minute)
		m.mu.Lock()
		m.held["ada"] = false
		m.mu.Unlock()
		time.Sleep(time.Minute)
		stop()
		if n := len(f.logins("ada")); n != 1 {
			t.Errorf("polled %d times", n)
		}
	})
}

// Setups that come and go while polls are under way: each is done with once,
// after the last of its polls; an account that stays keeps its interval, one
// that is new or changed is polled at once, one that vanished no more.
func TestRunReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every = 5 * time.Minute
		f := newFarm(t)
		m := newMemory()
		var stays []*fetch.Account
		for i := range 20 {
			a := f.account(fmt.Sprint("stays", i), fmt.Sprint("pop", i%4))
			a.Every = every
			f.host(a.Server.Host).pace = time.Second
			stays = append(stays, a)
		}
		done := map[int]int{}
		setup := func(n int, more ...*fetch.Account) fetch.Setup {
			var mine []*fetch.Account // as a configuration that was read anew
			for _, a := range append(slices.Clone(stays), more...) {
				b := *a
				mine = append(mine, &b)
			}
			return fetch.Setup{
				Accounts: mine, Parallel: 6, PerHost: 2,
				Options: fetch.Options{State: m, Observer: func(e fetch.Event) {
					m.observe(e)
					f.change(func() {
						if done[n] > 0 {
							t.Errorf("setup %d is done with, and polls: %#v", n, e)
						}
					})
				}},
				Fresh: func(name string) bool { return name == "changes" },
				Done:  func() { f.change(func() { done[n]++ }) },
			}
		}
		orders, stop := f.run(setup(0))
		const reloads = 200
		comes, changes := 0, f.account("changes", "pop0")
		for n := 1; n <= reloads; n++ {
			time.Sleep(rand.N(time.Minute))
			var more []*fetch.Account
			if n%3 > 0 {
				more = append(more, changes) // there twice in a row, then not
				comes++
			}
			orders <- setup(n, more...)
		}
		time.Sleep(every / 2) // before it is the turn of what has changed last once more
		stop()

		for n := range reloads + 1 {
			if done[n] != 1 {
				t.Errorf("setup %d is done with %d times", n, done[n])
			}
		}
		for _, a := range stays {
			for _, gap := range gaps(f.logins(a.Name)) {
				if gap < every*9/10 || gap > every*11/10+time.Minute {
					t.Errorf("%s: %v between two polls", a.Name, gap)
				}
			}
		}
		if n := len(f.logins("changes")); n < comes/2 || n > comes {
			t.Errorf("came and changed %d times, was polled %d times", comes, n)
		}
	})
}

// Told to end at any moment, it begins nothing more, and ends.
func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			f := newFarm(t)
			var accounts []*fetch.Account
			for i := range 20 {
				a := f.account(fmt.Sprint("account", i), fmt.Sprint("pop", i%3))
				a.Every = 10 * time.Second
				accounts = append(accounts, a)
			}
			_, stop := f.run(fetch.Setup{
				Accounts: accounts, Options: newMemory().options(), Parallel: 4, PerHost: 2,
			})
			time.Sleep(rand.N(30 * time.Second))
			told := time.Now()
			stop()
			time.Sleep(time.Second) // for the servers to see it
			for name, h := range f.hosts {
				if h.open > 0 {
					t.Errorf("%s: %d connections left", name, h.open)
				}
				for _, dial := range h.dials {
					if dial.After(told) {
						t.Errorf("%s: a poll began after the end", name)
					}
				}
			}
		}
	})
}
