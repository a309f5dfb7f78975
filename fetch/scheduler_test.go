package fetch_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// accounts returns n accounts on the rig's server, with a message each.
func (r *rig) accounts(n int) []*fetch.Account {
	var all []*fetch.Account
	for i := range n {
		a := *r.account
		a.Name = fmt.Sprint("account", i)
		a.User = a.Name + "@example.org"
		r.server.Account(a.User, secret).Add("u", []byte(message(i)))
		all = append(all, &a)
	}
	return all
}

// A server that hangs takes one slot, whatever the number of its accounts.
func TestHungServerDelaysNobody(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	const n = 6
	accounts := r.accounts(n)
	hung := pop3test.New(pop3test.Options{})
	check(t, hung.Start())
	defer hung.Close()
	hung.Order(pop3test.Ignore(pop3test.Greeting, pop3test.Hang))
	_, port, _ := net.SplitHostPort(hung.Addr())
	// Three accounts of the hung server come first. Only one at a time may wait
	// for it.
	for i := range 3 {
		a := *r.account
		a.Name = fmt.Sprint("hung", i)
		a.Server.Host = "hung.example.org"
		a.Server.Port, _ = strconv.Atoi(port)
		a.Server.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, hung.Addr())
		}
		accounts = append([]*fetch.Account{&a}, accounts...)
	}

	finished := make(chan fetch.Summary, len(accounts))
	r.opts.Observer = func(e fetch.Event) {
		if e, ok := e.(fetch.Finished); ok {
			finished <- e.Summary
		}
	}
	ctx, hangUp := context.WithCancel(t.Context())
	done := make(chan []fetch.Summary)
	go func() {
		done <- fetch.Once(ctx, fetch.Setup{Accounts: accounts, Options: r.opts, Parallel: 2, PerHost: 1})
	}()
	for range n {
		if s := <-finished; s.Class != fetch.ClassFine {
			t.Errorf("%s: %v: %v", s.Account, s.Class, s.Err)
		}
	}
	hangUp()
	for i, s := range <-done {
		if s.Account != accounts[i].Name || (s.Class == fetch.ClassRetry) != (i < 3) {
			t.Errorf("summary %d: %s, %v: %v", i, s.Account, s.Class, s.Err)
		}
	}
}

// Once opens as many connections to a host as PerHost allows, and no more.
func TestOnceKeepsPerHost(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	var mu sync.Mutex
	now, most := 0, 0
	two := make(chan struct{})
	r.server.Order(
		pop3test.On(pop3test.Greeting, func(x *pop3test.Exchange) {
			mu.Lock()
			now++
			if most = max(most, now); now == 2 && most == 2 && x.Session <= 2 {
				close(two)
			}
			mu.Unlock()
			x.Wait(two) // wait for the second session
			x.Act()
		}),
		pop3test.On("QUIT", func(x *pop3test.Exchange) {
			mu.Lock()
			now--
			mu.Unlock()
			x.Act()
		}),
	)
	for _, s := range fetch.Once(t.Context(), fetch.Setup{Accounts: r.accounts(8), Options: r.opts, Parallel: 8, PerHost: 2}) {
		if s.Class != fetch.ClassFine || s.Fetched != 1 {
			t.Errorf("%s: %v, fetched %d: %v", s.Account, s.Class, s.Fetched, s.Err)
		}
	}
	if most != 2 {
		t.Errorf("%d sessions at once", most)
	}
}

// Accounts whose poll has not begun when Drain is closed are left out, with an error.
func TestOnceStops(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	drain := make(chan struct{})
	close(drain)
	r.opts.Drain = drain
	for _, s := range fetch.Once(t.Context(), fetch.Setup{Accounts: r.accounts(3), Options: r.opts}) {
		if s.Err == nil || s.Account == "" || s.Sessions != 0 {
			t.Errorf("%+v", s)
		}
	}
	if n := r.server.Sessions(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// No poll begins that waits for a slot or for its host when the program is to end.
func TestOnceStopsInTheMiddle(t *testing.T) {
	for _, drained := range []bool{true, false} {
		for _, setup := range []fetch.Setup{{Parallel: 1}, {PerHost: 1}} {
			synctest.Test(t, func(t *testing.T) {
				f := newFarm(t)
				for i := range 4 {
					host := "pop"
					if setup.PerHost == 0 {
						host = fmt.Sprint("pop", i)
					}
					setup.Accounts = append(setup.Accounts, f.account(fmt.Sprint("account", i), host))
				}
				ctx, stop := context.WithCancel(t.Context())
				drain := make(chan struct{})
				if drained {
					stop = func() { close(drain) }
				}
				time.AfterFunc(100*time.Millisecond, stop) // during the first greeting
				setup.Options = newMemory().options()
				setup.Options.Drain = drain
				fetch.Once(ctx, setup)
				n := 0
				for _, h := range f.hosts {
					n += len(f.dials(h))
				}
				if n != 1 {
					t.Errorf("drained %v: %d connections", drained, n)
				}
			})
		}
	}
}

// All accounts of a host are tried if it refuses connections, or if only their sink does
// not answer.
func TestOnceTriesAll(t *testing.T) {
	for _, refused := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f := newFarm(t)
			sink := newSilentSink(t, func(int) bool { return true })
			setup := fetch.Setup{PerHost: 1, Options: newMemory().options()}
			for i := range 8 {
				a := f.account(fmt.Sprint("account", i), "pop")
				a.Deliver = []fetch.Target{{Name: "home", Sink: sink}}
				f.users[a.Name].mail = 1
				setup.Accounts = append(setup.Accounts, a)
			}
			if refused {
				f.host("pop").connect = down
			}
			fetch.Once(t.Context(), setup)
			if n := len(f.dials(f.host("pop"))); n < len(setup.Accounts) {
				t.Errorf("refused %v: %d connections", refused, n)
			}
		})
	}
}

// Each visits accounts in their order, whether they are at one host or at many.
func TestEachInOrder(t *testing.T) {
	const n = 300
	for _, hosts := range []int{1, n} {
		setup := fetch.Setup{Parallel: 1, PerHost: 1}
		for i := range n {
			setup.Accounts = append(setup.Accounts, &fetch.Account{Server: fetch.Server{Host: fmt.Sprint("pop", i%hosts)}})
		}
		visited := make(chan int, n)
		fetch.Each(t.Context(), setup, func(i int, _ fetch.Options) error {
			visited <- i
			return nil
		}, func(i int, err error) { t.Errorf("%d: %v", i, err) })
		for i := range n {
			if got := <-visited; got != i {
				t.Fatalf("%d hosts: %d comes in the place of %d", hosts, got, i)
			}
		}
	}
}
