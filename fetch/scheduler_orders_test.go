package fetch_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
)

// PollNow during a poll of an account has it polled once more after it, and not before its
// LOGIN-DELAY is over.
func TestPollNowDuringPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		h := f.host("pop")
		h.latency = time.Second
		ada, grace := f.account("ada", "pop"), f.account("grace", "pop")
		ada.Every, grace.Every = time.Hour, time.Hour
		f.users["grace"].delay = 10 * time.Minute
		orders, stop := f.run(fetch.Setup{Accounts: []*fetch.Account{ada, grace}, Options: newMemory().options()})
		time.Sleep(5 * time.Second) // a poll takes seven replies
		for range 3 {
			orders <- fetch.PollNow{}
		}
		time.Sleep(time.Minute)
		if got := len(f.logins("ada")); got != 2 {
			t.Errorf("ada: %d logins within a minute, want 2", got)
		}
		if got := len(f.logins("grace")); got != 1 {
			t.Errorf("grace: %d logins within a minute, want 1", got)
		}
		time.Sleep(15 * time.Minute)
		stop()
		for name, want := range map[string]int{"ada": 2, "grace": 2} {
			if got := len(f.logins(name)); got != want {
				t.Errorf("%s: %d logins, want %d", name, got, want)
			}
		}
		if early := f.users["grace"].tooEarly; early > 0 {
			t.Errorf("%d logins too early", early)
		}
	})
}

// PollNow with names polls those accounts alone.
func TestPollNowNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		ada, grace := f.account("ada", "one"), f.account("grace", "two")
		for _, name := range []string{"ada", "grace"} {
			f.users[name].refuse = "[AUTH] no"
		}
		orders, stop := f.run(fetch.Setup{Accounts: []*fetch.Account{ada, grace}, Options: newMemory().options()})
		defer stop()
		time.Sleep(time.Minute)
		f.locked(func() { f.users["ada"].refuse, f.users["grace"].refuse = "", "" })
		orders <- fetch.PollNow{Accounts: []string{"ada"}}
		time.Sleep(time.Minute)
		if ada, grace := len(f.logins("ada")), len(f.logins("grace")); ada != 1 || grace != 0 {
			t.Errorf("%d logins of ada, %d of grace, want 1 and 0", ada, grace)
		}
	})
}

// Accounts that failed are tried at once after a new setup, and once soon after a start: a
// person may have mended the cause. The pause that a server asked for holds all the same.
func TestRunTriesWhatWasMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		ada, grace := f.account("ada", "one"), f.account("grace", "two")
		f.users["ada"].refuse, f.users["grace"].delay = "[AUTH] no", 2*time.Hour
		setup := fetch.Setup{
			Accounts: []*fetch.Account{ada, grace}, Options: newMemory().options(),
			Fresh: func(string) bool { return true },
		}
		_, stop := f.run(setup)
		time.Sleep(55 * time.Minute) // after three failures the next try is an hour away
		stop()
		tries := func() (n int) {
			f.locked(func() { n = len(f.users["ada"].tries) })
			return n
		}
		before := tries()
		orders, stop := f.run(setup)
		time.Sleep(5 * time.Minute)
		if n := tries() - before; n != 1 {
			t.Errorf("a start has tried the password %d times, want once", n)
		}
		f.locked(func() { f.users["ada"].refuse = "" })
		orders <- setup
		time.Sleep(5 * time.Second)
		stop()
		if n := len(f.logins("ada")); n != 1 {
			t.Errorf("a new setup was followed by %d logins, want 1", n)
		}
		if n := f.users["grace"].tooEarly; n > 0 || len(f.logins("grace")) != 1 {
			t.Errorf("%d logins came too early, %d did not", n, len(f.logins("grace")))
		}
	})
}

// The LOGIN-DELAY of a server does not hold once the account has another server.
func TestRunDropsDelayOfFormerServer(t *testing.T) {
	for name, test := range map[string]struct {
		after   time.Duration // the account changes so long after the start
		restart bool          // and the scheduler is started again
	}{
		"in the pause":    {after: time.Minute},
		"during the poll": {after: 5 * time.Second},
		"restarted":       {after: time.Minute, restart: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarm(t)
				f.host("one").latency = time.Second // a poll takes seven replies
				setup := fetch.Setup{
					Accounts: []*fetch.Account{f.account("ada", "one")}, Options: newMemory().options(),
					Fresh: func(string) bool { return true },
				}
				u := f.users["ada"]
				u.delay = 10 * time.Hour
				orders, stop := f.run(setup)
				time.Sleep(test.after)
				setup.Accounts = []*fetch.Account{f.account("ada", "two")}
				if test.restart {
					stop()
					_, stop = f.run(setup)
				} else {
					orders <- setup
				}
				time.Sleep(time.Minute)
				stop()
				var left int
				f.locked(func() { left = len(u.logins) })
				if got := len(f.logins("ada")); left != 1 || got == 0 {
					t.Errorf("%d logins at the old server, %d at the new one", left, got)
				}
			})
		})
	}
}

// A new setup has accounts tried at once whose host was down.
func TestRunTriesAHostAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		far := f.host("far")
		far.connect = down
		setup := fetch.Setup{
			Accounts: []*fetch.Account{f.account("ada", "far"), f.account("grace", "far")}, Options: newMemory().options(),
		}
		orders, stop := f.run(setup)
		defer stop()
		for range 5 { // after the last one, the host is not tried for minutes
			orders <- fetch.PollNow{}
			time.Sleep(time.Second)
		}
		f.locked(func() { far.connect = nil })
		setup.Fresh = func(string) bool { return true }
		orders <- setup
		time.Sleep(10 * time.Second)
		for _, name := range []string{"ada", "grace"} {
			if n := len(f.logins(name)); n != 1 {
				t.Errorf("%s: %d logins, want 1", name, n)
			}
		}
	})
}

// That a host was down is forgotten once no account uses it.
func TestRunForgetsHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		gone := f.host("gone")
		gone.connect = down
		ada, grace := f.account("ada", "pop"), f.account("grace", "gone")
		o := newMemory().options()
		orders, stop := f.run(fetch.Setup{Accounts: []*fetch.Account{ada, grace}, Options: o})
		defer stop()
		for range 5 { // after the last one, the host is not tried for minutes
			orders <- fetch.PollNow{}
			time.Sleep(time.Second)
		}
		orders <- fetch.Setup{Accounts: []*fetch.Account{ada}, Options: o}
		time.Sleep(time.Second)
		f.locked(func() { gone.connect = nil })
		alan := f.account("alan", "gone")
		orders <- fetch.Setup{Accounts: []*fetch.Account{ada, alan}, Options: o}
		time.Sleep(10 * time.Second)
		if len(f.logins("alan")) != 1 {
			t.Error("alan waits for what grace has seen of the host")
		}
	})
}

// Run calls its turn func at least every 15 seconds, however long nothing is due.
func TestRunCallsTurnRegularly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		ada := f.account("ada", "pop")
		ada.Every = 24 * time.Hour
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		last := time.Now()
		pulse := func(fetch.RunStatus) {
			if gap := time.Since(last); gap > 15*time.Second {
				t.Errorf("no turn for %v", gap)
			}
			last = time.Now()
		}
		fetch.Run(ctx, fetch.Setup{Accounts: []*fetch.Account{ada}, Options: newMemory().options()}, nil, pulse)
		pulse(fetch.RunStatus{})
	})
}

// A daemon that dies soon after each start tries a refused password only once or twice in
// all.
func TestRunStartedOverAndOver(t *testing.T) {
	for lives, want := range map[time.Duration]int{time.Minute: 1, 100 * time.Second: 2} {
		synctest.Test(t, func(t *testing.T) {
			f := newFarm(t)
			ada := f.account("ada", "pop")
			f.users["ada"].refuse = "[AUTH] no"
			setup := fetch.Setup{
				Accounts: []*fetch.Account{ada}, Options: newMemory().options(), Fresh: func(string) bool { return true },
			}
			for range 8 {
				_, stop := f.run(setup)
				time.Sleep(lives)
				stop()
			}
			if n := len(f.dials(f.host("pop"))); n != want {
				t.Errorf("living %v, it tries %d times, want %d", lives, n, want)
			}
		})
	}
}

// A new setup has an account polled at once that called for a person, and once more if it
// is being polled meanwhile. PollNow does not wait for the pause of a host that was down.
func TestRunReactsToChanges(t *testing.T) {
	for name, test := range map[string]struct {
		refuse string // the refusal of each login, until change
		down   bool   // the host is down until change, and PollNow is sent meanwhile
		change func(f *farm, orders chan<- fetch.Order, setup fetch.Setup)
		logins int
	}{
		"a wrong password": {
			refuse: "[AUTH] no",
			change: func(f *farm, orders chan<- fetch.Order, setup fetch.Setup) {
				f.locked(func() { f.users["ada"].refuse = "" })
				orders <- setup
			},
			logins: 1,
		},
		"an account that is being polled": {
			change: func(_ *farm, orders chan<- fetch.Order, setup fetch.Setup) {
				orders <- fetch.PollNow{}
				time.Sleep(120 * time.Millisecond)
				setup.Fresh = func(string) bool { return true }
				orders <- setup
			},
			logins: 3,
		},
		"a host that was down": {
			down: true,
			change: func(f *farm, orders chan<- fetch.Order, _ fetch.Setup) {
				f.locked(func() { f.host("pop").connect = nil })
				orders <- fetch.PollNow{}
			},
			logins: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarm(t)
				ada := f.account("ada", "pop")
				ada.Every = time.Hour
				f.users["ada"].refuse = test.refuse
				if test.down {
					f.host("pop").connect = down
				}
				setup := fetch.Setup{Accounts: []*fetch.Account{ada}, Options: newMemory().options()}
				orders, stop := f.run(setup)
				for range 6 {
					time.Sleep(5 * time.Second)
					if test.down {
						orders <- fetch.PollNow{}
					}
				}
				time.Sleep(5 * time.Second)
				test.change(f, orders, setup)
				time.Sleep(2 * time.Second)
				stop()
				if n := len(f.logins("ada")); n != test.logins {
					t.Errorf("%d logins, want %d", n, test.logins)
				}
			})
		})
	}
}
