package fetch_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// accounts returns n accounts of the rig's server, with a message each.
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

// A server that hangs takes one slot, and no more of them.
func TestHungServerDelaysNobody(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	const n = 6
	accounts := r.accounts(n)
	hung := pop3test.New(pop3test.Options{})
	check(t, hung.Start())
	defer hung.Close()
	hung.Order(pop3test.Ignore(pop3test.Greeting, pop3test.Hang))
	_, port, _ := net.SplitHostPort(hung.Addr())
	// Three accounts of the hung server come first; only one at a time may
	// wait for it.
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

// The bound on the connections to a host is used to the full and kept.
func TestPerHost(t *testing.T) {
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
			x.Wait(two) // nobody goes on before two are there
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

// What has not begun when the program is to end is left out, and says so.
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
