package fetch_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
)

// A clock that was ahead and is set right does not delay polls: what it said of the next
// poll is not believed.
func TestClockSetBack(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for name, test := range map[string]struct {
		delay time.Duration // LOGIN-DELAY
		set   time.Duration // the time after which it is set right; a login takes three seconds, a poll six
		slow  time.Duration // how long Postpoll takes
	}{
		"between two polls":                 {set: 100 * time.Second},
		"in a poll, with a LOGIN-DELAY":     {set: 7 * time.Second, delay: 4 * time.Minute},
		"in a poll":                         {set: 7 * time.Second},
		"while a command runs after a poll": {set: 15 * time.Second, slow: 20 * time.Second},
	} {
		for _, ahead := range []time.Duration{2 * time.Hour, year} {
			synctest.Test(t, func(t *testing.T) {
				f := newFarm(t)
				f.host("pop").latency = time.Second
				ada := f.account("ada", "pop")
				ada.Every = 5 * time.Minute
				f.users["ada"].delay = test.delay
				if test.slow > 0 {
					ada.Postpoll = func(context.Context, fetch.Summary) error { time.Sleep(test.slow); return nil }
				}
				var off atomic.Int64
				off.Store(int64(ahead))
				o := newMemory().options()
				o.Now = func() time.Time { return time.Now().Add(time.Duration(off.Load())) }
				_, stop := f.run(fetch.Setup{Accounts: []*fetch.Account{ada}, Options: o})
				time.Sleep(test.set)
				off.Store(0)
				time.Sleep(3 * time.Hour)
				stop()
				if n := len(f.logins("ada")); n < 25 {
					t.Errorf("%s, by %v: %d logins in three hours", name, ahead, n)
				}
			})
		}
	}
}

// What a clock that was ahead has recorded is not believed either, if the next poll
// reaches nobody.
func TestClockSetBackWhileDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		h := f.host("pop")
		ada := f.account("ada", "pop")
		ada.Every = 5 * time.Minute
		f.users["ada"].delay = 4 * time.Minute
		var off atomic.Int64
		off.Store(int64(365 * 24 * time.Hour))
		o := newMemory().options()
		o.Now = func() time.Time { return time.Now().Add(time.Duration(off.Load())) }
		_, stop := f.run(fetch.Setup{Accounts: []*fetch.Account{ada}, Options: o})
		time.Sleep(time.Minute)
		off.Store(0)
		f.locked(func() { h.connect = down })
		time.Sleep(6 * time.Minute)
		f.locked(func() { h.connect = nil })
		time.Sleep(3 * time.Hour)
		stop()
		if n := len(f.logins("ada")); n < 25 {
			t.Errorf("%d logins in three hours", n)
		}
	})
}
