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

// A poll that finds nothing new takes two round trips behind the greeting: the login and
// the listing. What the server can do is asked again a day later, and for another user.
// UTF8, which would be a third round trip, is off.
func TestEmptyPollTakesTwoRoundTrips(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"UTF8"}})
	first := []string{"CAPA", "AUTH PLAIN ****", "CAPA", "STAT", "LIST", "UIDL", "QUIT"}
	later := []string{"AUTH PLAIN ****", "STAT", "LIST", "UIDL", "QUIT"}
	for i, want := range [][]string{first, later, later} {
		r.mustPoll()
		if got := r.newCommands(); !slices.Equal(got, want) {
			t.Errorf("poll %d: %q, want %q", i+1, got, want)
		}
	}
	before := r.drop.RoundTrips()
	r.mustPoll()
	r.newCommands()
	if trips := r.drop.RoundTrips() - before; trips != 2 { // one for the login, one for the listing
		t.Errorf("%d waits after the login, want 2", trips)
	}
	// A day later the capabilities are asked again.
	r.advance(25 * time.Hour)
	r.mustPoll()
	if got := r.newCommands(); !slices.Equal(got, first) {
		t.Errorf("a day later: %q", got)
	}
	// They are asked again for another user.
	r.account.User = "bob"
	r.drop, r.logRead = r.server.Account("bob", secret), 0
	r.mustPoll()
	if got := r.newCommands(); !slices.Equal(got, first) {
		t.Errorf("as another user: %q", got)
	}
}

// Where many messages are kept, their sizes are listed only once something is new.
func TestSizesAreListedForNewMailOnly(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Keep = fetch.Keep{Forever: true}
	r.account.MaxSize = 100_000
	want := r.fill(600)
	r.drop.Add("large", []byte("Subject: large\n\n"+strings.Repeat("x\n", 100_000)))
	r.poll()
	r.newCommands()
	s := r.poll()
	if got := r.newCommands(); slices.Contains(got, "LIST") || s.TooLarge != 1 || s.Fetched != 0 {
		t.Errorf("nothing new, %d too large: %q", s.TooLarge, got)
	}
	r.drop.Add("new", []byte("Subject: new\n\nnew\n"))
	r.drop.Add("larger", []byte("Subject: larger\n\n"+strings.Repeat("xy\n", 100_000)))
	s = r.poll()
	if got := r.newCommands(); !slices.Contains(got, "LIST") || s.TooLarge != 2 || s.Fetched != 1 {
		t.Errorf("fetched %d, %d too large: %q", s.Fetched, s.TooLarge, got)
	}
	r.expectDelivered(append(want, "Subject: new\n\nnew\n")...)
	if planned := eventsOf[fetch.Planned](r); planned[len(planned)-1].FetchOctets == 0 {
		t.Error("the size of what is new is not known")
	}
}

// endWith returns a reply of one line, behind which the server hangs up.
func endWith(line string) io.Reader {
	return io.MultiReader(strings.NewReader(line+"\r\n"), iotest.ErrReader(pop3test.HangUp))
}

// What is remembered of a server does not get in the way when the server has changed: the
// poll succeeds, and the new capabilities are remembered.
func TestChangedServerIsPolled(t *testing.T) {
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
				asked := false // the client has asked for the capabilities
				return []pop3test.Fault{
					pop3test.On("CAPA", func(x *pop3test.Exchange) { asked = true; x.Act() }),
					pop3test.Ignore("STAT", pop3test.HangUp).When(func(*pop3test.Exchange) bool { return !asked }),
				}
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{})
			r.mustPoll()
			known := r.account.Server
			other := pop3test.New(pop3test.Options{Behaviour: test.now})
			if test.faults != nil {
				other.Order(test.faults()...)
			}
			check(t, other.Start())
			defer other.Close()
			r.useServer(other)
			r.account.Server, r.logRead = known, 0
			r.account.Server.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, other.Addr())
			}
			want := r.fill(3)
			r.mustPoll()
			r.expectDelivered(want...)
			r.newCommands()
			r.mustPoll()
			if got := r.newCommands(); slices.Contains(got, "CAPA") {
				t.Errorf("what it can do now is not remembered: %q", got)
			}
		})
	}
}

// expectLoginTries polls three times with a wrong password. It fails the test unless each
// poll reports it and tries it once; with again, the first poll may try it twice, since
// the server may have changed.
func (r *rig) expectLoginTries(tries *int, again bool) {
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

// A wrong password is tried no more often than it must be, and the server's reason is
// reported.
func TestWrongPasswordIsTriedOnce(t *testing.T) {
	for _, hangsUp := range []bool{false, true} {
		r := newRig(t, pop3test.Behaviour{})
		r.mustPoll()
		tries := 0
		r.server.Order(pop3test.On("AUTH", func(x *pop3test.Exchange) {
			tries++
			if x.Reply = strings.NewReader("-ERR [AUTH] wrong password\r\n"); hangsUp {
				x.Reply = endWith("-ERR [AUTH] wrong password")
			}
		}))
		r.expectLoginTries(&tries, hangsUp)
		r.server.ClearFaults()
		r.mustPoll()
	}
}

// A server that has learned -PLUS refuses the remembered login as tampered with. The
// capabilities are asked again: with -PLUS among them the login succeeds, and otherwise a
// person is called.
func TestServerLearnsPlus(t *testing.T) {
	for name, test := range map[string]struct {
		fault  pop3test.Fault
		reason string // a part of the error; "" if the login succeeds
	}{
		"it has -PLUS":    {fault: pop3test.ReplyErr("NOOP", "")},
		"it has none":     {fault: pop3test.Replace("CAPA", "+OK\r\nSASL PLAIN\r\n.\r\n"), reason: "taken that out"},
		"it says no more": {fault: pop3test.LoseReply("CAPA", pop3test.HangUp), reason: "taken that out"},
	} {
		t.Run(name, func(t *testing.T) {
			r, cert := newTLSRig(t, fetch.ImplicitTLS, pop3test.Behaviour{Mechanisms: []string{"PLAIN", "SCRAM-SHA-256"}}, pop3test.CertOptions{})
			r.mustPoll()
			known := r.account.Server
			grown := pop3test.New(pop3test.Options{
				Behaviour: pop3test.Behaviour{Mechanisms: allMechanisms}, TLS: &tls.Config{Certificates: []tls.Certificate{cert}},
			})
			grown.Order(test.fault)
			check(t, grown.StartTLS())
			defer grown.Close()
			r.useServer(grown)
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
			r.mustPoll() // a refused login has the capabilities asked again
		})
	}
}

// A server that breaks the connection over CAPA is polled without it, and asked again a
// day later.
func TestHangUpOverCAPA(t *testing.T) {
	afterLogin := func(x *pop3test.Exchange) bool { return x.User != "" }
	for name, faults := range map[string][]pop3test.Fault{
		"it hangs up": {pop3test.Ignore("CAPA", pop3test.HangUp)},
		"it resets":   {pop3test.Ignore("CAPA", pop3test.Reset)},
		"it hangs up after the login": {
			pop3test.Ignore("CAPA", pop3test.HangUp).When(afterLogin), pop3test.ReplyErr("CAPA", "what?"),
		},
		"it ends in the middle": {pop3test.CutIn("CAPA", 20, pop3test.HangUp)},
	} {
		for way, r := range rigsBySecurity(t, pop3test.Behaviour{}) {
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
					r.advance(poll.wait)
					before := r.server.Sessions()
					want = append(want, message(i))
					r.drop.Add(fmt.Sprint("u", i), []byte(message(i)))
					r.mustPoll()
					r.expectDelivered(want...)
					if got := r.server.Sessions() - before; got != poll.sessions {
						t.Errorf("poll %d: %d sessions, want %d", i, got, poll.sessions)
					}
				}
			})
		}
	}
}

// If the server breaks the connection only over CAPA after the login, its earlier reply to
// CAPA is used in this poll.
func TestHangUpOverCAPAAfterLogin(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.server.Order(pop3test.Ignore("CAPA", pop3test.HangUp).When(func(x *pop3test.Exchange) bool { return x.User != "" }))
	var want []string
	for i, sessions := range []int{2, 2, 1} {
		if sessions == 1 {
			r.server.ClearFaults() // the fault was temporary
		}
		want = append(want, message(i))
		r.drop.Add(fmt.Sprint("u", i), []byte(message(i)))
		if sight, err := r.account.Look(t.Context(), r.opts, nil); err != nil || sight.Fetch != 1 {
			t.Errorf("look %d: %d to fetch: %v", i, sight.Fetch, err)
		}
		before := r.server.Sessions()
		r.mustPoll()
		r.expectDelivered(want...)
		r.expectMaildropEmpty()
		if got := r.server.Sessions() - before; got != sessions {
			t.Errorf("poll %d: %d sessions, want %d", i, got, sessions)
		}
	}
}

// A connection that breaks over CAPA is no reason to log in by what reveals the password,
// neither in the clear nor where the server has answered CAPA before.
func TestHangUpOverCAPANoDowngrade(t *testing.T) {
	for name, known := range map[string]bool{"unknown": false, "known": true} {
		for way, r := range rigsBySecurity(t, pop3test.Behaviour{Mechanisms: allMechanisms}) {
			if !known && way != "plain text" {
				continue
			}
			t.Run(name+", "+way, func(t *testing.T) {
				if known {
					r.mustPoll()
					r.advance(25 * time.Hour)
					r.newCommands()
				}
				r.server.Order(pop3test.Ignore("CAPA", pop3test.HangUp))
				s := r.poll()
				if s.Class != fetch.ClassRetry || !strings.Contains(s.Err.Error(), "CAPA") || !strings.Contains(fetch.Hint(s.Err), "auth: user") {
					t.Errorf("%v: %v (%q)", s.Class, s.Err, fetch.Hint(s.Err))
				}
				for _, command := range r.newCommands() {
					if strings.HasPrefix(command, "USER") || strings.HasPrefix(command, "PASS") {
						t.Errorf("it logged in: %s", command)
					}
				}
				r.server.ClearFaults()
				r.advance(25 * time.Hour)
				r.mustPoll()
			})
		}
	}
}

// connectAfter has the account a connect once the poll of the account named other has
// ended.
func (r *rig) connectAfter(other string, a *fetch.Account) {
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

// Where the connection breaks over CAPA, one account may reveal its password, as its auth
// says. Another account of the same server may not.
func TestHangUpOverCAPAForOtherAccount(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Mechanisms: allMechanisms})
	r.server.Order(pop3test.Ignore("CAPA", pop3test.HangUp))
	ada, bob := *r.account, *r.account
	ada.Name, ada.Auth = "ada", []string{"user"}
	bob.Name, bob.User, bob.Auth = "bob", "bob", nil
	drop := r.server.Account("bob", secret)
	r.connectAfter("ada", &bob)
	all := fetch.Once(t.Context(), fetch.Setup{Accounts: []*fetch.Account{&ada, &bob}, Options: r.opts, Parallel: 2, PerHost: 2})
	if all[0].Err != nil || all[1].Class != fetch.ClassRetry || !strings.Contains(all[1].Err.Error(), "CAPA") {
		t.Errorf("ada: %v; bob: %v: %v", all[0].Err, all[1].Class, all[1].Err)
	}
	if said := drop.Log(); len(said) > 0 {
		t.Errorf("bob has logged in: %q", said)
	}
}

// What is remembered of a server says nothing of one with the same name behind another
// tunnel.
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
	r.connectAfter("ada", &bob)
	for _, s := range fetch.Once(t.Context(), fetch.Setup{Accounts: []*fetch.Account{&ada, &bob}, Options: r.opts}) {
		check(t, s.Err)
	}
	want := []string{"CAPA", "AUTH CRAM-MD5"}
	if got := drop.Log(); len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		t.Errorf("bob says %q, want %q first", got, want)
	}
	// So it is for one account that gets another tunnel.
	ada.Server.Via, ada.Server.Dial = bob.Server.Via, bob.Server.Dial
	drop, r.opts.Observer = other.Account(user, secret), nil
	check(t, ada.Poll(t.Context(), r.opts).Err)
	if got := drop.Log(); len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		t.Errorf("by another tunnel: %q, want %q first", got, want)
	}
}

// If one account may reveal its password there, it may not once its auth does not say so
// any more.
func TestHangUpOverCAPAThenOtherAuth(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Mechanisms: allMechanisms})
	r.server.Order(pop3test.Ignore("CAPA", pop3test.HangUp))
	r.account.Auth = []string{"user"}
	r.mustPoll()
	r.newCommands()
	r.account.Auth = nil
	if s := r.poll(); s.Class != fetch.ClassRetry || !strings.Contains(s.Err.Error(), "CAPA") {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
	if said := r.newCommands(); len(said) > 0 {
		t.Errorf("it has logged in: %q", said)
	}
}

// Where the connection breaks over CAPA, a wrong password is tried no more often than
// elsewhere, and the reason is reported.
func TestHangUpOverCAPAWrongPassword(t *testing.T) {
	for name, known := range map[string]bool{"unknown": false, "known": true} {
		t.Run(name, func(t *testing.T) {
			r, _ := newTLSRig(t, fetch.ImplicitTLS, pop3test.Behaviour{}, pop3test.CertOptions{})
			r.server.Order(pop3test.Ignore("CAPA", pop3test.HangUp))
			if known {
				r.mustPoll()
			}
			tries := 0
			r.server.Order(pop3test.On("PASS", func(x *pop3test.Exchange) {
				tries++
				x.Reply = strings.NewReader("-ERR [AUTH] wrong password\r\n")
			}))
			r.expectLoginTries(&tries, known)
		})
	}
}

// If the login without CAPA is refused for now, that is the error of the poll.
func TestHangUpOverCAPARefusedForNow(t *testing.T) {
	r, _ := newTLSRig(t, fetch.ImplicitTLS, pop3test.Behaviour{}, pop3test.CertOptions{})
	r.fill(1)
	r.server.Order(pop3test.Ignore("CAPA", pop3test.HangUp), pop3test.On("PASS", func(x *pop3test.Exchange) {
		x.Reply = strings.NewReader("-ERR [LOGIN-DELAY] wait\r\n")
	}))
	if s := r.poll(); s.Class != fetch.ClassRetry || !strings.Contains(s.Err.Error(), "LOGIN-DELAY") {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
}
