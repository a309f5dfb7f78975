package fetch_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// commands returns what the client has said since it was last asked.
func (r *rig) commands() []string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	check(r.t, r.drop.Wait(ctx)) // nobody waits for the answer to a QUIT
	all := r.drop.Log()
	since := all[r.heard:]
	r.heard = len(all)
	return since
}

// A poll that finds nothing new takes two round trips behind the greeting: the
// login, and the listing. UTF8 would be one more.
func TestEmptyPoll(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"UTF8"}})
	first := []string{"CAPA", "AUTH PLAIN ****", "CAPA", "STAT", "LIST", "UIDL", "QUIT"}
	later := []string{"AUTH PLAIN ****", "STAT", "LIST", "UIDL", "QUIT"}
	for i, want := range [][]string{first, later, later} {
		r.succeed()
		if got := r.commands(); !slices.Equal(got, want) {
			t.Errorf("poll %d: %q, want %q", i+1, got, want)
		}
	}
	before := r.drop.RoundTrips()
	r.succeed()
	r.commands()
	if trips := r.drop.RoundTrips() - before; trips != 2 { // behind the login, and behind the listing
		t.Errorf("%d waits after the login, want 2", trips)
	}
	// A day later the server is asked again.
	r.later(25 * time.Hour)
	r.succeed()
	if got := r.commands(); !slices.Equal(got, first) {
		t.Errorf("a day later: %q", got)
	}
	// Somebody else is somebody else.
	r.account.User = "bob"
	r.drop, r.heard = r.server.Account("bob", secret), 0
	r.succeed()
	if got := r.commands(); !slices.Equal(got, first) {
		t.Errorf("as another user: %q", got)
	}
}

// Where much is kept, sizes are asked for once something is new.
func TestSizesLater(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep = fetch.Keep{Forever: true}
	r.account.MaxSize = 100_000
	want := r.fill(600)
	r.drop.Add("large", []byte("Subject: large\n\n"+strings.Repeat("x\n", 100_000)))
	r.poll()
	r.commands()
	s := r.poll()
	if got := r.commands(); slices.Contains(got, "LIST") || s.TooLarge != 1 || s.Fetched != 0 {
		t.Errorf("nothing new, %d too large: %q", s.TooLarge, got)
	}
	r.drop.Add("new", []byte("Subject: new\n\nnew\n"))
	r.drop.Add("larger", []byte("Subject: larger\n\n"+strings.Repeat("xy\n", 100_000)))
	s = r.poll()
	if got := r.commands(); !slices.Contains(got, "LIST") || s.TooLarge != 2 || s.Fetched != 1 {
		t.Errorf("fetched %d, %d too large: %q", s.Fetched, s.TooLarge, got)
	}
	r.expect(append(want, "Subject: new\n\nnew\n")...)
	if planned := eventsOf[fetch.Planned](r); planned[len(planned)-1].FetchOctets == 0 {
		t.Error("the size of what is new is not known")
	}
}

// endWith answers with a line and hangs up.
func endWith(line string) io.Reader {
	return io.MultiReader(strings.NewReader(line+"\r\n"), iotest.ErrReader(pop3test.HangUp))
}

// What was remembered of a server never stands in the way when the server has
// changed.
func TestServerChanges(t *testing.T) {
	for _, test := range []struct {
		name   string
		now    pop3test.Behaviour
		faults func() []pop3test.Fault
	}{
		{name: "a mechanism has gone", now: pop3test.Behaviour{Mechanisms: []string{"SCRAM-SHA-256"}}},
		{name: "a mechanism has gone, and the server hangs up", now: pop3test.Behaviour{Mechanisms: []string{"SCRAM-SHA-256"}},
			faults: func() []pop3test.Fault {
				return []pop3test.Fault{pop3test.On("AUTH", func(x *pop3test.Exchange) { x.Reply = endWith("-ERR what?") }).
					When(func(x *pop3test.Exchange) bool { return strings.HasPrefix(x.Args, "PLAIN") })}
			}},
		{name: "all mechanisms have gone", now: pop3test.Behaviour{Without: []string{"AUTH"}}},
		{name: "pipelined commands end the session", now: pop3test.Behaviour{Without: []string{"PIPELINING"}},
			faults: func() []pop3test.Fault {
				asked := false // for what it can do
				return []pop3test.Fault{
					pop3test.On("CAPA", func(x *pop3test.Exchange) { asked = true; x.Act() }),
					pop3test.Ignore("STAT", pop3test.HangUp).When(func(*pop3test.Exchange) bool { return !asked }),
				}
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{})
			r.succeed()
			known := r.account.Server
			other := pop3test.New(pop3test.Options{Behaviour: test.now})
			if test.faults != nil {
				other.Order(test.faults()...)
			}
			check(t, other.Start())
			defer other.Close()
			r.use(other)
			r.account.Server, r.heard = known, 0
			r.account.Server.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, other.Addr())
			}
			want := r.fill(3)
			r.succeed()
			r.expect(want...)
			r.commands()
			r.succeed()
			if got := r.commands(); slices.Contains(got, "CAPA") {
				t.Errorf("what it can do now is not remembered: %q", got)
			}
		})
	}
}

// expectTries polls three times with a wrong password, and fails the test unless each
// tells of it and tries it once: the first twice if the server is asked again, since it
// may have changed.
func (r *rig) expectTries(tries *int, again bool) {
	r.t.Helper()
	most := 0
	for i := range 3 {
		if most++; i == 0 && again {
			most++
		}
		if s := r.poll(); s.Class < fetch.ClassRetry || !strings.Contains(s.Err.Error(), "wrong password") {
			r.t.Errorf("%v: %v", s.Class, s.Err)
		}
		if *tries != most {
			r.t.Errorf("poll %d: %d logins, want %d", i+1, *tries, most)
		}
	}
}

// A wrong password is tried no oftener than it must, and the reason is told.
func TestPasswordChanges(t *testing.T) {
	for _, hangsUp := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{})
		r.succeed()
		tries := 0
		r.server.Order(pop3test.On("AUTH", func(x *pop3test.Exchange) {
			tries++
			if x.Reply = strings.NewReader("-ERR [AUTH] wrong password\r\n"); hangsUp {
				x.Reply = endWith("-ERR [AUTH] wrong password")
			}
		}))
		r.expectTries(&tries, hangsUp)
		r.server.ClearFaults()
		r.succeed()
	}
}

// A server that has learned -PLUS takes the login that was remembered for one
// that somebody tampered with. It is believed, for no more than it is worth.
func TestPlusSince(t *testing.T) {
	for name, test := range map[string]struct {
		fault  pop3test.Fault
		reason string // to fail; "" if there is none
	}{
		"it has -PLUS":    {fault: pop3test.ReplyErr("NOOP", "")},
		"it has none":     {fault: pop3test.Replace("CAPA", "+OK\r\nSASL PLAIN\r\n.\r\n"), reason: "taken that out"},
		"it says no more": {fault: pop3test.LoseReply("CAPA", pop3test.HangUp), reason: "taken that out"},
	} {
		t.Run(name, func(t *testing.T) {
			r, cert := secure(t, fetch.ImplicitTLS, pop3test.Behaviour{Mechanisms: []string{"PLAIN", "SCRAM-SHA-256"}}, pop3test.CertOptions{})
			r.succeed()
			known := r.account.Server
			grown := pop3test.New(pop3test.Options{
				Behaviour: pop3test.Behaviour{Mechanisms: strong}, TLS: &tls.Config{Certificates: []tls.Certificate{cert}},
			})
			grown.Order(test.fault)
			check(t, grown.StartTLS())
			defer grown.Close()
			r.use(grown)
			r.account.Server = known
			r.account.Server.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, grown.Addr())
			}
			s := r.poll()
			switch in := eventsOf[fetch.LoggedIn](r); {
			case test.reason != "":
				if s.Class != fetch.ClassOperator || !strings.Contains(s.Err.Error(), test.reason) || grown.Sessions() != 1 {
					t.Errorf("%v in %d sessions: %v", s.Class, grown.Sessions(), s.Err)
				}
			case s.Err != nil || in[len(in)-1].Mechanism != "scram-sha-256-plus":
				t.Errorf("%+v: %v", in, s.Err)
			}
			grown.ClearFaults()
			r.succeed() // the server is asked in any case
		})
	}
}

// A server that breaks off over CAPA is polled without, and asked again only a day later.
func TestBreaksOffOverCAPA(t *testing.T) {
	afterLogin := func(x *pop3test.Exchange) bool { return x.User != "" }
	for name, faults := range map[string][]pop3test.Fault{
		"it hangs up": {pop3test.Ignore("CAPA", pop3test.HangUp)},
		"it resets":   {pop3test.Ignore("CAPA", pop3test.Reset)},
		"it hangs up after the login": {
			pop3test.Ignore("CAPA", pop3test.HangUp).When(afterLogin), pop3test.ReplyErr("CAPA", "what?"),
		},
		"it ends in the middle": {pop3test.CutIn("CAPA", 20, pop3test.HangUp)},
	} {
		for way, r := range everyWayIn(t, pop3test.Behaviour{}) {
			t.Run(name+", "+way, func(t *testing.T) {
				r.account.Auth = nil
				if way == "plain text" {
					r.account.Auth = []string{"user"}
				}
				r.server.Order(faults...)
				var want []string
				for i, poll := range []struct {
					wait     time.Duration
					sessions int
				}{{0, 2}, {time.Hour, 1}, {24 * time.Hour, 2}} {
					r.later(poll.wait)
					before := r.server.Sessions()
					want = append(want, message(i))
					r.drop.Add(fmt.Sprint("u", i), []byte(message(i)))
					r.succeed()
					r.expect(want...)
					if got := r.server.Sessions() - before; got != poll.sessions {
						t.Errorf("poll %d: %d sessions, want %d", i, got, poll.sessions)
					}
				}
			})
		}
	}
}

// One that does so only after the login is taken by what it said before, in this poll.
func TestBreaksOffOverCAPAOnceIn(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.server.Order(pop3test.Ignore("CAPA", pop3test.HangUp).When(func(x *pop3test.Exchange) bool { return x.User != "" }))
	var want []string
	for i, sessions := range []int{2, 2, 1} {
		if sessions == 1 {
			r.server.ClearFaults() // it was the line: the server is asked in any case
		}
		want = append(want, message(i))
		r.drop.Add(fmt.Sprint("u", i), []byte(message(i)))
		if sight, err := r.account.Look(t.Context(), r.opts, nil); err != nil || sight.Fetch != 1 {
			t.Errorf("look %d: %d to fetch: %v", i, sight.Fetch, err)
		}
		before := r.server.Sessions()
		r.succeed()
		r.expect(want...)
		r.expectEmpty()
		if got := r.server.Sessions() - before; got != sessions {
			t.Errorf("poll %d: %d sessions, want %d", i, got, sessions)
		}
	}
}

// In the clear, that is no reason to log in by what reveals the password. Nor is it
// where the server has answered before.
func TestBreaksOffOverCAPAToDowngrade(t *testing.T) {
	for name, known := range map[string]bool{"unknown": false, "known": true} {
		for way, r := range everyWayIn(t, pop3test.Behaviour{Mechanisms: strong}) {
			if !known && way != "plain text" {
				continue
			}
			t.Run(name+", "+way, func(t *testing.T) {
				if known {
					r.succeed()
					r.later(25 * time.Hour)
					r.commands()
				}
				r.server.Order(pop3test.Ignore("CAPA", pop3test.HangUp))
				s := r.poll()
				if s.Class != fetch.ClassRetry || !strings.Contains(s.Err.Error(), "CAPA") || !strings.Contains(fetch.Hint(s.Err), "auth: user") {
					t.Errorf("%v: %v (%q)", s.Class, s.Err, fetch.Hint(s.Err))
				}
				for _, command := range r.commands() {
					if strings.HasPrefix(command, "USER") || strings.HasPrefix(command, "PASS") {
						t.Errorf("it logged in: %s", command)
					}
				}
				r.server.ClearFaults()
				r.later(25 * time.Hour)
				r.succeed()
			})
		}
	}
}

// after has an account connect once the poll of another one has ended.
func (r *rig) after(other string, a *fetch.Account) {
	ended := make(chan struct{})
	r.opts.Observer = func(e fetch.Event) {
		if f, ok := e.(fetch.Finished); ok && f.Account == other {
			close(ended)
		}
	}
	a.Server.Preconnect = func(context.Context) error {
		<-ended
		return nil
	}
}

// What one account may do, for that, another of the same server may not.
func TestBreaksOffOverCAPAForOthers(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Mechanisms: strong})
	r.server.Order(pop3test.Ignore("CAPA", pop3test.HangUp))
	ada, bob := *r.account, *r.account
	ada.Name, ada.Auth = "ada", []string{"user"}
	bob.Name, bob.User, bob.Auth = "bob", "bob", nil
	drop := r.server.Account("bob", secret)
	r.after("ada", &bob)
	all := fetch.Once(t.Context(), fetch.Setup{Accounts: []*fetch.Account{&ada, &bob}, Options: r.opts, Parallel: 2, PerHost: 2})
	if all[0].Err != nil || all[1].Class != fetch.ClassRetry || !strings.Contains(all[1].Err.Error(), "CAPA") {
		t.Errorf("ada: %v; bob: %v: %v", all[0].Err, all[1].Class, all[1].Err)
	}
	if said := drop.Log(); len(said) > 0 {
		t.Errorf("bob has logged in: %q", said)
	}
}

// What a server can do says nothing of another that has the same name at the end of
// another tunnel, least of all that it must be shown the password.
func TestOtherTunnelOtherServer(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"AUTH"}})
	other := pop3test.New(pop3test.Options{Behaviour: pop3test.Behaviour{Mechanisms: []string{"PLAIN", "CRAM-MD5"}, Without: []string{"UTF8"}}})
	check(t, other.Start())
	defer other.Close()
	drop := other.Account("bob", secret)
	ada, bob := *r.account, *r.account
	ada.Name, bob.Name, bob.User = "ada", "bob", "bob"
	for a, server := range map[*fetch.Account]*pop3test.Server{&ada: r.server, &bob: other} {
		a.Auth = nil
		a.Server.Host, a.Server.Port = "localhost", 110
		a.Server.Via.Tunnel = []string{"ssh", "gateway-of-" + a.Name}
		a.Server.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server.Addr())
		}
	}
	r.after("ada", &bob)
	for _, s := range fetch.Once(t.Context(), fetch.Setup{Accounts: []*fetch.Account{&ada, &bob}, Options: r.opts}) {
		check(t, s.Err)
	}
	want := []string{"CAPA", "AUTH CRAM-MD5"}
	if got := drop.Log(); len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		t.Errorf("bob says %q, want %q first", got, want)
	}
	// So it is for one account that is led elsewhere.
	ada.Server.Via, ada.Server.Dial = bob.Server.Via, bob.Server.Dial
	drop, r.opts.Observer = other.Account(user, secret), nil
	check(t, ada.Poll(t.Context(), r.opts).Err)
	if got := drop.Log(); len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		t.Errorf("by another tunnel: %q, want %q first", got, want)
	}
}

// Nor may the same account, once its configuration says no more that it may.
func TestBreaksOffOverCAPAThenOtherAuth(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Mechanisms: strong})
	r.server.Order(pop3test.Ignore("CAPA", pop3test.HangUp))
	r.account.Auth = []string{"user"}
	r.succeed()
	r.commands()
	r.account.Auth = nil
	if s := r.poll(); s.Class != fetch.ClassRetry || !strings.Contains(s.Err.Error(), "CAPA") {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
	if said := r.commands(); len(said) > 0 {
		t.Errorf("it has logged in: %q", said)
	}
}

// A wrong password is tried no oftener there than elsewhere, and the reason is told.
func TestWrongPasswordBehindCAPA(t *testing.T) {
	for name, known := range map[string]bool{"unknown": false, "known": true} {
		t.Run(name, func(t *testing.T) {
			r, _ := secure(t, fetch.ImplicitTLS, pop3test.Behaviour{}, pop3test.CertOptions{})
			r.server.Order(pop3test.Ignore("CAPA", pop3test.HangUp))
			if known {
				r.succeed()
			}
			tries := 0
			r.server.Order(pop3test.On("PASS", func(x *pop3test.Exchange) {
				tries++
				x.Reply = strings.NewReader("-ERR [AUTH] wrong password\r\n")
			}))
			r.expectTries(&tries, known)
		})
	}
}

// Where nobody was let in yet, a login that is refused for now is why the poll fails.
func TestRefusedBehindCAPA(t *testing.T) {
	r, _ := secure(t, fetch.ImplicitTLS, pop3test.Behaviour{}, pop3test.CertOptions{})
	r.fill(1)
	r.server.Order(pop3test.Ignore("CAPA", pop3test.HangUp), pop3test.On("PASS", func(x *pop3test.Exchange) {
		x.Reply = strings.NewReader("-ERR [LOGIN-DELAY] wait\r\n")
	}))
	if s := r.poll(); s.Class != fetch.ClassRetry || !strings.Contains(s.Err.Error(), "LOGIN-DELAY") {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
}
