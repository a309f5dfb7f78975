package fetch_test

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/fetch"
)

// Once one account has reached a host that was down, the others of that host need
// not wait until it has fetched all that has gathered.
func TestRunAfterOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		sink, err := maildir.New(filepath.Join(t.TempDir(), "Maildir"), maildir.Options{})
		check(t, err)
		defer sink.Close()
		h := f.host("pop")
		h.connect, h.pace = down, time.Second
		var accounts []*fetch.Account
		for _, name := range []string{"ada", "grace"} {
			a := f.account(name, "pop")
			a.Every = 5 * time.Minute
			a.Deliver = []fetch.Target{{Name: "home", Sink: sink}}
			accounts = append(accounts, a)
			f.users[name].mail = 2900 // 48 minutes
		}
		_, stop := f.run(fetch.Setup{Accounts: accounts, Options: newMemory().options(), Parallel: 8, PerHost: 2})
		time.Sleep(20 * time.Minute)
		f.change(func() { h.connect = nil })
		back := time.Now()
		time.Sleep(3 * time.Hour)
		stop()
		ada, grace := f.logins("ada")[0].Sub(back), f.logins("grace")[0].Sub(back)
		if between := (ada - grace).Abs(); between > time.Minute {
			t.Errorf("ada is polled %v after the host is back, grace %v", ada, grace)
		}
	})
}

// A command before the connection that takes its time holds up no other account of
// the host.
func TestRunSlowPreconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		ada, grace := f.account("ada", "pop"), f.account("grace", "pop")
		ada.Every, grace.Every = 5*time.Minute, 5*time.Minute
		ada.Server.Preconnect = func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(50 * time.Minute):
				return nil
			}
		}
		_, stop := f.run(fetch.Setup{Accounts: []*fetch.Account{ada, grace}, Options: newMemory().options(), Parallel: 8, PerHost: 2})
		time.Sleep(10 * time.Hour)
		stop()
		if n := len(f.logins("grace")); n < 100 {
			t.Errorf("grace is polled every 5 minutes: %d logins in ten hours", n)
		}
	})
}
