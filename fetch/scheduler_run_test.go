package fetch_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/fetch"
)

// down is the connect of a host that refuses connections.
func down(context.Context) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

// unknown is the connect of a host whose name does not exist.
func unknown(context.Context) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Name: "pop", IsNotFound: true}}
}

// hung is the connect of a host that never answers.
func hung(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// gaps returns the times between each moment and the next.
func gaps(times []time.Time) (all []time.Duration) {
	for i := 1; i < len(times); i++ {
		all = append(all, times[i].Sub(times[i-1]))
	}
	return all
}

// Of two hundred accounts on twenty hosts, of which one hangs, one is down and one is
// slow, each of the others is polled at its interval, and no bound is exceeded.
func TestRunIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every, parallel, perHost = 5 * time.Minute, 8, 2
		f := newFarm(t)
		f.host("pop0").connect = hung
		f.host("pop1").connect = down
		f.host("pop2").latency = 2 * time.Second
		var accounts []*fetch.Account
		for i := range 200 {
			a := f.account(fmt.Sprint("account", i), fmt.Sprint("pop", i%20))
			a.Every = every
			accounts = append(accounts, a)
		}
		orders, stop := f.run(fetch.Setup{
			Accounts: accounts, Options: newMemory().options(), Parallel: parallel, PerHost: perHost,
		})
		orders <- fetch.PollNow{} // all accounts at once, which must spread out again
		const long = 3 * time.Hour
		time.Sleep(long)
		stop()

		if f.peak > parallel {
			t.Errorf("%d connections at once", f.peak)
		}
		for name, h := range f.hosts {
			most := perHost
			if h.connect != nil {
				most = 1 // a host that has not answered yet takes one slot
			}
			if h.peak > most {
				t.Errorf("%s: %d connections at once", name, h.peak)
			}
		}
		var last []time.Time // the last login of each account
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
		expectSpread(t, last, every)
	})
}

// expectSpread fails the test if more than three tenths of times lie within a tenth of
// interval.
func expectSpread(t *testing.T, times []time.Time, interval time.Duration) {
	t.Helper()
	slices.SortFunc(times, time.Time.Compare)
	for i := range times {
		n := 0
		for n < len(times)-i && times[i+n].Sub(times[i]) < interval/10 {
			n++
		}
		if n > len(times)*3/10 {
			t.Errorf("%d of %d accounts were polled within %v", n, len(times), interval/10)
			break
		}
	}
}

// Where there is more to do than slots allow, all accounts are polled equally often.
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

// At the start, accounts are polled one after the other.
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
		if f.peak > 3 {
			t.Errorf("%d connections at once", f.peak)
		}
	})
}

// A host that is down is tried by one account at a time, and less and less often. All its
// accounts are polled soon after it is back.
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
		f.locked(func() {
			if h.peak > 1 || len(h.dials) < 15 || len(h.dials) > 30 {
				t.Errorf("%d tries, %d at once", len(h.dials), h.peak)
			}
		})
		if n := len(f.logins("other")); n < 40 {
			t.Errorf("the account on another host was polled %d times", n)
		}
		f.locked(func() { h.connect = nil })
		time.Sleep(20 * time.Minute)
		for _, a := range accounts {
			if len(f.logins(a.Name)) == 0 {
				t.Errorf("%s is not back", a.Name)
			}
		}
		stop()
		if h.peak < 2 || h.peak > 4 {
			t.Errorf("%d connections at once", h.peak)
		}
	})
}

// No login comes before the LOGIN-DELAY is over: not in the second session of a poll,
// after a restart, for PollNow, or by Once beside Run.
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
			if u.tooEarly > 0 {
				t.Errorf("delay %v: %d of %d logins were too early", u.delay, u.tooEarly, len(u.tries))
			}
			if len(u.logins) < 5 || u.mail > 0 {
				t.Errorf("delay %v: polled %d times, %d messages left", u.delay, len(u.logins), u.mail)
			}
		}
	})
}

// The schedule outlives the process: accounts that failed wait, also if a person may have
// mended the cause, and accounts that were just polled are not polled again at once.
func TestRunRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		good, bad := f.account("good", "pop"), f.account("bad", "pop")
		f.users["bad"].refuse = "[AUTH] no"
		setup := fetch.Setup{
			Accounts: []*fetch.Account{good, bad}, Options: newMemory().options(),
			Fresh: func(name string) bool { return name == "bad" },
		}
		for range 240 { // a service that is restarted every minute
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

// An account that another process polls has not failed: it is tried again soon.
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

// New setups may come while polls are under way. Done is called once for each, after the
// last of its polls. Unchanged accounts keep their interval, new and changed ones are
// polled at once, and removed ones no more.
func TestRunReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every = 5 * time.Minute
		f := newFarm(t)
		m := newMemory()
		var stays []*fetch.Account
		for i := range 20 {
			a := f.account(fmt.Sprint("stays", i), fmt.Sprint("pop", i%4))
			a.Every = every
			f.host(a.Server.Host).latency = time.Second
			stays = append(stays, a)
		}
		done := map[int]int{}
		setup := func(n int, more ...*fetch.Account) fetch.Setup {
			var mine []*fetch.Account // copies, as from a configuration that was read again
			for _, a := range append(slices.Clone(stays), more...) {
				b := *a
				mine = append(mine, &b)
			}
			return fetch.Setup{
				Accounts: mine, Parallel: 6, PerHost: 2,
				Options: fetch.Options{State: m, Observer: func(e fetch.Event) {
					m.observe(e)
					f.locked(func() {
						if done[n] > 0 {
							t.Errorf("setup %d is done with, and polls: %#v", n, e)
						}
					})
				}},
				Fresh: func(name string) bool { return name == "changes" },
				Done:  func() { f.locked(func() { done[n]++ }) },
			}
		}
		orders, stop := f.run(setup(0))
		const reloads = 200
		comes, changes := 0, f.account("changes", "pop0")
		for n := 1; n <= reloads; n++ {
			time.Sleep(rand.N(time.Minute))
			var more []*fetch.Account
			if n%3 > 0 {
				more = append(more, changes) // there in two setups, then not in one
				comes++
			}
			orders <- setup(n, more...)
		}
		time.Sleep(every / 2) // and so before the changed account is due again
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

// Run ends at any moment at which it is told to, and begins no more polls.
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
			stopped := time.Now()
			stop()
			time.Sleep(time.Second) // until the servers have noticed
			for name, h := range f.hosts {
				if h.open > 0 {
					t.Errorf("%s: %d connections left", name, h.open)
				}
				for _, dial := range h.dials {
					if dial.After(stopped) {
						t.Errorf("%s: a poll began after the end", name)
					}
				}
			}
		}
	})
}
