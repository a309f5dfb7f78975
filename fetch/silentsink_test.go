package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/deliver/smtp"
	"github.com/mailhaul/mailhaul/deliver/spool"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// silentSink is a sink whose server does not answer some of its calls. silent says of the
// n-th call, from 1, whether it is one of them.
type silentSink struct {
	deliver.Sink

	mu     sync.Mutex
	silent func(ask int) bool
	asked  int
}

const silenceLimit = 30 * time.Second

func newSilentSink(t *testing.T, silent func(ask int) bool) *silentSink {
	sink, err := maildir.New(filepath.Join(t.TempDir(), "Maildir"), maildir.Options{})
	check(t, err)
	t.Cleanup(func() { sink.Close() })
	return &silentSink{Sink: sink, silent: silent}
}

func (m *silentSink) Begin(ctx context.Context) (deliver.Batch, error) {
	if err := m.answer(ctx); err != nil {
		return nil, err
	}
	return m.Sink.Begin(ctx)
}

func (m *silentSink) Settle(ctx context.Context, token string) (deliver.Verdict, error) {
	if err := m.answer(ctx); err != nil {
		return deliver.Unknown, err
	}
	return m.Sink.Settle(ctx, token)
}

// answer waits for silenceLimit and returns an error if there is no answer to this call.
func (m *silentSink) answer(ctx context.Context) error {
	m.mu.Lock()
	m.asked++
	silent := m.silent(m.asked)
	m.mu.Unlock()
	if !silent {
		return nil
	}
	ctx, cancel := channel.Within(ctx, silenceLimit)
	defer cancel()
	<-ctx.Done()
	return &deliver.Error{
		Fault: deliver.FaultTemporary, Target: "relay:25", Op: "connect", Err: context.Cause(ctx), Hint: "is it up?",
	}
}

// callCount returns how many calls there were.
func (m *silentSink) callCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked
}

// Once stops waiting for a sink that answers no account, and an account that delivers
// elsewhere is polled. A sink that answers some accounts is tried by all.
func TestOnceSilentSink(t *testing.T) {
	const n, parallel = 100, 4
	for what, test := range map[string]struct {
		silent      func(ask int) bool
		least, most int
		longest     time.Duration
	}{
		"nobody": {func(int) bool { return true }, 2, 2 * parallel, 2*silenceLimit + time.Minute},
		"some":   {func(ask int) bool { return ask%parallel != 0 }, n, n, time.Hour},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarm(t)
				relay, home := newSilentSink(t, test.silent), newSilentSink(t, func(int) bool { return false })
				var accounts []*fetch.Account
				for i := range n {
					a := f.account(fmt.Sprint("account", i), "pop")
					a.Deliver = []fetch.Target{{Name: "relay", Sink: relay}}
					accounts = append(accounts, a)
				}
				other := f.account("other", "pop")
				other.Deliver = []fetch.Target{{Name: "home", Sink: home}}
				accounts = append(accounts, other)
				for _, a := range accounts {
					f.users[a.Name].mail = 1
				}
				start := time.Now()
				all := fetch.Once(t.Context(), fetch.Setup{Accounts: accounts, Options: newMemory().options(), Parallel: parallel})
				if took := time.Since(start); took > test.longest {
					t.Errorf("it took %v", took)
				}
				if asked := relay.callCount(); asked < test.least || asked > test.most {
					t.Errorf("the sink was asked %d times, want %d to %d", asked, test.least, test.most)
				}
				for _, s := range all[:n] {
					if s.Err == nil && test.least == n {
						continue
					}
					if _, ok := errors.AsType[*deliver.Error](s.Err); !ok || s.Class != fetch.ClassRetry || s.Fetched != 0 ||
						!strings.Contains(s.Err.Error(), "no answer for 30s") || !strings.Contains(s.Err.Error(), "relay:25") || fetch.Hint(s.Err) == "" {
						t.Errorf("%s: %v, %d fetched: %v", s.Account, s.Class, s.Fetched, s.Err)
					}
				}
				if s := all[n]; s.Fetched != 1 || s.Class != fetch.ClassFine {
					t.Errorf("elsewhere: %v, %d fetched: %v", s.Class, s.Fetched, s.Err)
				}
			})
		})
	}
}

// A silent sink says nothing of one at the same address behind another tunnel.
func TestSilentSinkByAnotherWay(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	m := &smtpServer{Rand: rand.New(rand.NewPCG(1, 1)), taken: map[string]int{}, lost: map[string]int{}}
	alive := listen(t, m.serve)
	relay := func(gateway string, dial func(ctx context.Context, network, addr string) (net.Conn, error)) []fetch.Target {
		sink, err := smtp.New(smtp.Options{
			Server: remote.Server{
				Addr: "localhost:25", Security: remote.PlainText, Dial: dial, Via: channel.Via{Tunnel: []string{"ssh", gateway}},
			},
			To: recipients, Spool: spool.New(filepath.Join(t.TempDir(), "spool"), durable.OS),
		})
		check(t, err)
		t.Cleanup(func() { sink.Close() })
		return []fetch.Target{{Name: gateway, Sink: sink}}
	}
	silent := relay("silent", func(context.Context, string, string) (net.Conn, error) { return nil, channel.Silence(time.Second) })
	answers := relay("answers", func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, alive)
	})
	var accounts []*fetch.Account
	turns := map[string]chan struct{}{}
	for i, deliver := range [][]fetch.Target{silent, silent, answers} {
		a, before := *r.account, turns[fmt.Sprint("user", i-1)]
		a.Name = fmt.Sprint("user", i)
		a.User, a.Deliver, turns[a.Name] = a.Name, deliver, make(chan struct{})
		a.Server.Preconnect = func(context.Context) error {
			if before != nil {
				<-before
			}
			return nil
		}
		r.server.Account(a.User, secret).Add("u1", []byte(message(1)))
		accounts = append(accounts, &a)
	}
	r.opts.Observer = func(e fetch.Event) {
		if f, ok := e.(fetch.Finished); ok {
			close(turns[f.Account])
		}
	}
	all := fetch.Once(t.Context(), fetch.Setup{Accounts: accounts, Options: r.opts})
	if all[0].Class != fetch.ClassRetry || all[1].Class != fetch.ClassRetry || all[2].Err != nil || all[2].Fetched != 1 {
		t.Errorf("%v; %v; %d fetched: %v", all[0].Err, all[1].Err, all[2].Fetched, all[2].Err)
	}
}

// While a sink answers nobody, accounts that deliver elsewhere are polled at their
// interval. Once it answers, all have their mail soon, or at once after PollNow.
func TestRunSilentSink(t *testing.T) {
	for _, ask := range []bool{false, true} {
		t.Run(fmt.Sprintf("asked %v", ask), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarm(t)
				back := time.Now().Add(90 * time.Minute)
				relay := newSilentSink(t, func(int) bool { return time.Now().Before(back) })
				var accounts []*fetch.Account
				for i := range 20 {
					a := f.account(fmt.Sprint("account", i), "pop")
					a.Every = 5 * time.Minute
					a.Deliver = []fetch.Target{{Name: "relay", Sink: relay}}
					f.users[a.Name].mail = 1
					accounts = append(accounts, a)
				}
				elsewhere := f.account("elsewhere", "pop")
				elsewhere.Every = 5 * time.Minute
				accounts = append(accounts, elsewhere)
				orders, stop := f.run(fetch.Setup{Accounts: accounts, Options: newMemory().options(), Parallel: 2})
				time.Sleep(time.Until(back))
				if asked, most := relay.callCount(), 25; asked > most {
					t.Errorf("the sink was asked %d times in vain, want %d at most", asked, most)
				}
				for _, gap := range gaps(f.logins("elsewhere")) {
					if gap > 6*time.Minute {
						t.Errorf("an account that delivers elsewhere had to wait for %v", gap)
					}
				}
				wait := 80 * time.Minute
				if ask {
					orders <- fetch.PollNow{}
					wait = 2 * time.Minute
				}
				time.Sleep(wait)
				stop()
				waiting := slices.DeleteFunc(accounts, func(a *fetch.Account) bool { return f.users[a.Name].mail == 0 })
				if len(waiting) > 0 {
					t.Errorf("%v after the sink is back, %d accounts wait for their mail", wait, len(waiting))
				}
			})
		})
	}
}

// openPromises is a state in which each account named "owing…" has an open promise of the
// sink relay.
type openPromises struct{ *memoryState }

func (m openPromises) Standing(ctx context.Context, account string) (state.Standing, error) {
	standing, err := m.memoryState.Standing(ctx, account)
	standing.Open = strings.HasPrefix(account, "owing")
	return standing, err
}

func (openPromises) Promises(_ context.Context, account string) ([]state.Promise, error) {
	if !strings.HasPrefix(account, "owing") {
		return nil, nil
	}
	return []state.Promise{{UID: "promised", Sink: "relay", Token: "promised"}}, nil
}

// A silent sink is not waited for by each account whose promise it has to settle.
func TestRunSilentAboutPromises(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		relay := newSilentSink(t, func(int) bool { return true })
		var accounts []*fetch.Account
		for i := range 20 {
			a := f.account(fmt.Sprint("owing", i), "pop")
			a.Every = 5 * time.Minute
			a.Deliver = []fetch.Target{{Name: "relay", Sink: relay}}
			accounts = append(accounts, a)
		}
		elsewhere := f.account("elsewhere", "pop")
		elsewhere.Every = 5 * time.Minute
		accounts = append(accounts, elsewhere)
		o := newMemory().options()
		o.State = openPromises{o.State.(*memoryState)}
		_, stop := f.run(fetch.Setup{Accounts: accounts, Options: o, Parallel: 2})
		time.Sleep(2 * time.Hour)
		stop()
		if asked, most := relay.callCount(), 30; asked > most {
			t.Errorf("the sink was asked %d times in vain, want %d at most", asked, most)
		}
		for _, gap := range gaps(f.logins("elsewhere")) {
			if gap > 6*time.Minute {
				t.Errorf("an account that delivers elsewhere had to wait for %v", gap)
			}
		}
	})
}

// A silent sink is reported once a poll.
func TestRunSilentSinkIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		a := f.account("owing", "pop")
		a.Every = 5 * time.Minute
		a.Deliver = []fetch.Target{{Name: "relay", Sink: newSilentSink(t, func(int) bool { return true })}}
		f.users["owing"].mail = 1
		m := newMemory()
		o := m.options()
		o.State = openPromises{m}
		polls := 0
		o.Observer = func(e fetch.Event) {
			m.observe(e)
			if ended, ok := e.(fetch.Finished); ok {
				polls++
				if said := fmt.Sprint(ended.Err); strings.Count(said, "no answer") != 1 {
					t.Errorf("poll %d: %s", polls, said)
				}
			}
		}
		_, stop := f.run(fetch.Setup{Accounts: []*fetch.Account{a}, Options: o})
		time.Sleep(12 * time.Hour)
		stop()
		if polls < 5 {
			t.Errorf("%d polls", polls)
		}
	})
}

// An account whose sink settles slowly holds up no other account of its host.
func TestRunSlowAboutPromises(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		ada, grace := f.account("owing", "pop"), f.account("grace", "pop")
		ada.Every, grace.Every = 5*time.Minute, 5*time.Minute
		ada.Deliver = []fetch.Target{{Name: "relay", Sink: slowToSettle{newSilentSink(t, nil)}}}
		o := newMemory().options()
		o.State = openPromises{o.State.(*memoryState)}
		_, stop := f.run(fetch.Setup{Accounts: []*fetch.Account{ada, grace}, Options: o, Parallel: 8, PerHost: 2})
		time.Sleep(10 * time.Hour)
		stop()
		if n := len(f.logins("grace")); n < 100 {
			t.Errorf("grace is polled every 5 minutes: %d logins in ten hours", n)
		}
	})
}

// slowToSettle is a sink that settles a promise after half an hour.
type slowToSettle struct{ deliver.Sink }

func (slowToSettle) Settle(ctx context.Context, _ string) (deliver.Verdict, error) {
	select {
	case <-ctx.Done():
		return deliver.Unknown, context.Cause(ctx)
	case <-time.After(30 * time.Minute):
		return deliver.NotLanded, nil
	}
}

// An account counts as failing if only one of its sinks fails.
func TestRunCountsOneSinkOfSeveralAsFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		relay, home := newSilentSink(t, func(int) bool { return true }), newSilentSink(t, func(int) bool { return false })
		a := f.account("ada", "pop")
		a.Deliver = []fetch.Target{{Name: "relay", Sink: relay}, {Name: "home", Sink: home}}
		f.users["ada"].mail = 1
		ctx, end := context.WithCancel(t.Context())
		var last fetch.RunStatus
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			fetch.Run(ctx, fetch.Setup{Accounts: []*fetch.Account{a}, Options: newMemory().options()}, nil, func(t fetch.RunStatus) { last = t })
		}()
		time.Sleep(2 * time.Minute)
		end()
		<-ended
		if last.Failing != 1 {
			t.Errorf("%d accounts fail, want 1", last.Failing)
		}
	})
}
