package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/fetch"
)

// After an outage of a host, its accounts do not wait until the first of them has fetched
// all its mail.
func TestRunAfterOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		sink, err := maildir.New(filepath.Join(t.TempDir(), "Maildir"), maildir.Options{})
		check(t, err)
		defer sink.Close()
		h := f.host("pop")
		h.connect, h.latency = down, time.Second
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
		f.locked(func() { h.connect = nil })
		back := time.Now()
		time.Sleep(3 * time.Hour)
		stop()
		ada, grace := f.logins("ada")[0].Sub(back), f.logins("grace")[0].Sub(back)
		if between := (ada - grace).Abs(); between > time.Minute {
			t.Errorf("ada is polled %v after the host is back, grace %v", ada, grace)
		}
	})
}

// A slow Preconnect holds up no other account of the host.
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

// Another port, or another tunnel, is another server: one that is down or hangs holds up
// no account of the other. The bound on connections to the host holds for all together.
func TestRunPortsAndTunnelsOfAHost(t *testing.T) {
	for name, connect := range map[string]func(context.Context) error{"down": down, "hung": hung} {
		for by, lead := range map[string]func(s *fetch.Server){
			"port": func(s *fetch.Server) { s.Port = 1110 },
			"way":  func(s *fetch.Server) { s.Via.Tunnel = []string{"ssh", "gateway"} },
		} {
			t.Run(name+"/"+by, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFarm(t)
					gone := f.host("gone")
					gone.connect = connect
					var accounts []*fetch.Account
					for i := range 12 {
						a := f.account(fmt.Sprint("account", i), []string{"gone", "there"}[i%2])
						a.Every = 5 * time.Minute
						if a.Server.Host == "gone" {
							lead(&a.Server)
						}
						a.Server.Host = "localhost"
						accounts = append(accounts, a)
					}
					_, stop := f.run(fetch.Setup{Accounts: accounts, Options: newMemory().options(), Parallel: 8, PerHost: 2})
					time.Sleep(10 * time.Hour)
					stop()
					for i := 1; i < len(accounts); i += 2 {
						if n := len(f.logins(accounts[i].Name)); n < 100 {
							t.Errorf("%s is polled every 5 minutes: %d logins in ten hours", accounts[i].Name, n)
						}
					}
					if gone.peak > 1 || f.peak > 2 {
						t.Errorf("%d connections at once, %d of them to what does not answer", f.peak, gone.peak)
					}
				})
			})
		}
	}
}

// Once gives up a host after a few accounts have waited for it in vain, and skips the
// others. A host that answers some of them is tried by all.
func TestOnceSilentHost(t *testing.T) {
	const n, perHost = 200, 4
	for what, test := range map[string]struct {
		answers     func(dial int) bool
		unasked     int // of so many accounts, one fails in its Preconnect
		least, most int
	}{
		"nobody":               {func(int) bool { return false }, n, 2 * perHost, 3 * perHost}, // some polls have begun before it is known
		"nobody, some unasked": {func(int) bool { return false }, perHost, 2 * perHost, 5 * perHost},
		"some":                 {func(dial int) bool { return dial%perHost == 0 }, n, n, n},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarm(t)
				h := f.host("silent")
				var dials atomic.Int32
				h.connect = func(ctx context.Context) error {
					if test.answers(int(dials.Add(1))) {
						return nil
					}
					<-ctx.Done()
					return context.Cause(ctx)
				}
				f.host("tunnel")
				accounts := []*fetch.Account{f.account("elsewhere", "tunnel")}
				accounts[0].Server.Host = "silent"
				accounts[0].Server.Via.Tunnel = []string{"ssh", "gateway"}
				for i := range n {
					a := f.account(fmt.Sprint("account", i), "silent")
					if i%test.unasked == test.unasked-1 {
						a.Server.Preconnect = func(context.Context) error { return errors.New("no way there") }
					}
					accounts = append(accounts, a)
				}
				all := fetch.Once(t.Context(), fetch.Setup{
					Accounts: accounts, Options: newMemory().options(), Parallel: 2 * perHost, PerHost: perHost,
				})
				polls := 0
				for i, s := range all[1:] {
					if !s.Started.IsZero() {
						polls++
					} else if s.Account != accounts[i+1].Name || s.Class != fetch.ClassRetry || !strings.Contains(s.Err.Error(), "not polled") {
						t.Errorf("%+v", s)
					}
				}
				if polls < test.least || polls > test.most {
					t.Errorf("%d accounts were polled, want %d to %d", polls, test.least, test.most)
				}
				if all[0].Err != nil {
					t.Errorf("an account by another way: %v", all[0].Err)
				}
			})
		})
	}
}
