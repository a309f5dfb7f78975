package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// The mechanism is the strongest one that the server offers and auth allows, or the error
// names what is offered and what is allowed.
func TestStrongestMechanismIsUsed(t *testing.T) {
	const stamp = "<1896.697170952@dbc.mtview.ca.us>"
	apop := func(caps ...string) pop3test.Behaviour {
		return pop3test.Behaviour{Timestamp: stamp, Capabilities: caps}
	}
	caps := func(caps ...string) pop3test.Behaviour { return pop3test.Behaviour{Capabilities: caps} }
	for _, test := range []struct {
		name   string
		server pop3test.Behaviour
		auth   []string
		want   string // the mechanism, or a part of the error
	}{
		{name: "the strongest", server: caps("SASL LOGIN PLAIN", "USER"), want: "plain"},
		{name: "a challenge before the password, in the clear", server: pop3test.Behaviour{Mechanisms: []string{"PLAIN", "CRAM-MD5"}}, want: "cram-md5"},
		{name: "SCRAM", server: pop3test.Behaviour{Mechanisms: []string{"PLAIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"}}, want: "scram-sha-256"},
		{name: "auth keeps SCRAM", server: caps("SASL PLAIN", "USER"), auth: []string{"scram-sha-256"}, want: "auth allows scram-sha-256"},
		{name: "in lower case", server: caps("sasl plain", "user"), want: "plain"},
		{name: "LOGIN before USER", server: caps("USER", "SASL LOGIN"), want: "login"},
		{name: "USER alone", server: caps("USER"), want: "user"},
		{name: "nothing said", server: caps("TOP"), want: "user"},
		{name: "no CAPA", server: pop3test.Behaviour{Without: []string{"CAPA"}}, want: "user"},
		{name: "no CAPA, but a timestamp", server: pop3test.Behaviour{Without: []string{"CAPA"}, Timestamp: stamp}, want: "user"},
		{name: "APOP only if named", server: apop("USER"), auth: []string{"apop"}, want: "apop"},
		{name: "APOP before the password, in the clear", server: apop("USER", "SASL PLAIN"), auth: []string{"user", "plain", "apop"}, want: "apop"},
		{name: "APOP named, not offered", server: caps("USER"), auth: []string{"apop"}, want: "the server offers user, auth allows apop"},
		{name: "APOP with a timestamp that is none", server: pop3test.Behaviour{Timestamp: "<not a msg-id>"}, auth: []string{"apop"}, want: "auth allows apop"},
		{name: "auth narrows", server: caps("SASL PLAIN LOGIN", "USER"), auth: []string{"user"}, want: "user"},
		{name: "auth in another order", server: caps("SASL PLAIN LOGIN"), auth: []string{"login", "plain"}, want: "plain"},
		{name: "auth asks for what is not there", server: caps("SASL LOGIN", "USER"), auth: []string{"plain"}, want: "the server offers login, user, auth allows plain"},
		{name: "only what we do not know", server: caps("SASL GSSAPI XOAUTH2"), want: "the server offers gssapi, xoauth2"},
		{name: "plain, where USER is not mentioned", server: caps("SASL PLAIN"), auth: []string{"user"}, want: "the server offers plain, auth allows user"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, test.server)
			r.account.Auth = test.auth
			s := r.poll()
			in := eventsOf[fetch.LoggedIn](r)
			switch {
			case len(in) == 1:
				if in[0].Mechanism != test.want || s.Err != nil {
					t.Errorf("logged in by %s, want %s: %v", in[0].Mechanism, test.want, s.Err)
				}
			case s.Class != fetch.ClassOperator || !strings.Contains(s.Err.Error(), test.want) || fetch.Hint(s.Err) == "":
				t.Errorf("%v: %v (%q), want %s", s.Class, s.Err, fetch.Hint(s.Err), test.want)
			}
		})
	}
}

// expectNoLogin fails the test if the server was sent a command of a login.
func (r *rig) expectNoLogin() {
	r.t.Helper()
	for _, line := range r.server.Log() {
		for _, verb := range []string{"USER", "PASS", "AUTH", "APOP"} {
			if strings.Contains(line, verb) {
				r.t.Errorf("the server was sent %q", line)
			}
		}
	}
}

// A server that does not know the mechanism which it offers has not refused the password:
// the hint also names auth.
func TestUnknownMechanismIsNoWrongPassword(t *testing.T) {
	for text, unknown := range map[string]bool{
		"Unknown command":                              true,
		"unknown command: AUTH":                        true,
		"Unsupported mechanism":                        true,
		"[AUTH] Unsupported authentication mechanism.": true,
		"AUTH is none of the commands implemented":     true,
		"Authentication failed":                        false,
		"[AUTH] Invalid login":                         false,
		"unknown user":                                 false,
	} {
		r := newRig(t, pop3test.Behaviour{Mechanisms: []string{"PLAIN"}})
		r.server.Order(pop3test.ReplyErr("AUTH", text))
		s := r.poll()
		hint := fetch.Hint(s.Err)
		if s.Class != fetch.ClassOperator || strings.Contains(hint, "with auth") != unknown || !strings.Contains(hint, "check user and password") {
			t.Errorf("%v: %v (%q)", s.Class, s.Err, hint)
		}
	}
}

// A login that is refused in a later session of an account's first poll counts as one that
// has worked before.
func TestLoginRefusedInLaterSession(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(3)
	r.account.MaxMessages = 1
	r.server.Order(pop3test.ReplyErr("AUTH", "[AUTH] wrong").Session(2))
	s := r.poll()
	if _, ok := errors.AsType[*fetch.DoubtfulError](s.Err); !ok || s.Class != fetch.ClassRetry || s.Fetched != 1 {
		t.Errorf("%v, %d fetched: %v", s.Class, s.Fetched, s.Err)
	}
	r.mustPoll()
	r.expectDelivered(want...)
}

// A server that drops pipelined commands, or hangs up over them, is sent one command at a
// time, and that is remembered.
func TestNoPipelining(t *testing.T) {
	all := []string{"CAPA", "STAT", "LIST", "UIDL", "RETR", "DELE"}
	for name, test := range map[string]struct {
		fault pop3test.Fault
		first int  // sessions of the first poll
		known bool // a poll without the fault comes first
	}{
		"drops":                       {fault: pop3test.DropAhead(all...), first: 2},
		"drops of late":               {fault: pop3test.DropAhead(all...), first: 2, known: true},
		"drops behind RETR":           {fault: pop3test.DropAhead("RETR"), first: 2},
		"hangs up":                    {fault: pop3test.HangUpAhead(all...), first: 3},
		"hangs up over the listing":   {fault: pop3test.HangUpAhead("UIDL", "LIST"), first: 2},
		"hangs up over RETR":          {fault: pop3test.HangUpAhead("RETR"), first: 2},
		"hangs up behind one message": {fault: pop3test.HangUpAhead("RETR").When(func(x *pop3test.Exchange) bool { return x.UID != "u1" }), first: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pop3test.Behaviour{})
			if test.known {
				r.mustPoll()
			}
			want := r.fill(3)
			impatient(r.account)
			r.server.Order(test.fault)
			for i, sessions := range []int{test.first, 1, 1} {
				if s := r.mustPoll(); s.Sessions != sessions {
					t.Errorf("poll %d: %d sessions", i, s.Sessions)
				}
				want = append(want, message(10+i))
				r.drop.Add(fmt.Sprint("new", i), []byte(message(10+i)))
				r.advance(time.Hour)
			}
			r.mustPoll()
			r.expectDelivered(want...)
			r.expectMaildropEmpty()
		})
	}
}

// A server that drops only pipelined RETR or TOP is sent one command at a time.
func TestNoPipeliningOfMail(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"RETR", "TOP"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pop3test.Behaviour{})
			impatient(r.account)
			r.account.Keep.Forever = true
			want := r.fill(3)
			if verb == "TOP" {
				r.mustPoll()
				r.renameUIDs()
			}
			r.server.Order(pop3test.DropAhead(verb))
			if s := r.mustPoll(); s.Sessions != 2 {
				t.Errorf("%d sessions", s.Sessions)
			}
			r.expectDelivered(want...)
		})
	}
}

// A server that never answers UIDL is tried without pipelining, and then the poll fails.
func TestSilentListing(t *testing.T) {
	t.Parallel()
	r := newRig(t, pop3test.Behaviour{})
	r.fill(1)
	impatient(r.account)
	r.server.Order(pop3test.Ignore("UIDL", pop3test.Hang))
	if s := r.poll(); s.Class != fetch.ClassRetry || s.Sessions != 2 {
		t.Errorf("%v, %d sessions: %v (%q)", s.Class, s.Sessions, s.Err, fetch.Hint(s.Err))
	}
}

// The password is in no error and no event, even if the server repeats it.
func TestSecretIsKept(t *testing.T) {
	for _, auth := range fetch.AuthNames {
		r := newRig(t, pop3test.Behaviour{Timestamp: "<1@example.org>"})
		r.account.Auth = []string{auth}
		r.account.Secret = func(context.Context) (string, error) { return "wrong-" + secret, nil }
		echo := func(x *pop3test.Exchange) {
			x.Reply = strings.NewReader("-ERR no such password: wrong-" + secret + "\r\n")
		}
		r.server.Order(pop3test.On(pop3test.Login, echo))
		s := r.poll()
		if s.Class != fetch.ClassOperator {
			t.Errorf("%s: %v: %v", auth, s.Class, s.Err)
		}
		// With APOP the secret itself is never sent, so that the reply cannot repeat it.
		if all := fmt.Sprintf("%v %+v", s.Err, r.events); strings.Contains(all, secret) && auth != "apop" {
			t.Errorf("%s: told: %s", auth, all)
		}
	}
}

// If the password or token cannot be had, a person is called, or the machine is to blame
// where the disk is full. No login is tried.
func TestSecretCannotBeHad(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Secret = func(context.Context) (string, error) { return "", context.DeadlineExceeded }
	if s := r.poll(); s.Class != fetch.ClassOperator || !strings.Contains(s.Err.Error(), "no password") || fetch.Hint(s.Err) == "" {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
	// A token that cannot be stored is trouble of the machine.
	r.account.Secret = func(context.Context) (string, error) {
		return "", &os.PathError{Op: "write", Path: "work.json.new", Err: syscall.ENOSPC}
	}
	if s := r.poll(); s.Class != fetch.ClassMachine {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
	r.expectNoLogin()
}

// A password with CR, LF or NUL is not sent; a person is called.
func TestSecretThatCannotBeSent(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Auth = []string{"user"}
	r.account.Secret = func(context.Context) (string, error) { return "s3cret\rHorse", nil }
	s := r.poll()
	if s.Class != fetch.ClassOperator || !strings.Contains(s.Err.Error(), "CR, LF or NUL") || !strings.Contains(fetch.Hint(s.Err), "anew") {
		t.Errorf("%v: %v (%s)", s.Class, s.Err, fetch.Hint(s.Err))
	}
}

// A login that fails for a reason that is not the password is reported as such, and does
// not count as a refusal.
func TestLoginTroubleAfterSuccess(t *testing.T) {
	for answer, want := range map[string]struct {
		class fetch.Class
		hint  string
	}{
		"[SYS/PERM] the mailbox is corrupt":                      {fetch.ClassOperator, "ask its operator"},
		"[SYS/PERM] Your account is not enabled for POP access.": {fetch.ClassOperator, "POP3 is switched on"},
		"[SYS/TEMP] try again":                                   {fetch.ClassRetry, "trouble of its own"},
		"[IN-USE] locked":                                        {fetch.ClassRetry, "another program"},
	} {
		r := newRig(t, pop3test.Behaviour{})
		r.opts.Insist = true
		r.mustPoll()
		r.drop.Order(pop3test.ReplyErr(pop3test.Login, answer))
		for range 4 {
			if s := r.poll(); s.Class != want.class || !strings.Contains(fetch.Hint(s.Err), want.hint) {
				t.Errorf("%s: %v: %v (hint: %s)", answer, s.Class, s.Err, fetch.Hint(s.Err))
			}
		}
		r.drop.ClearFaults()
		r.drop.Order(pop3test.ReplyErr(pop3test.Login, "[AUTH] no"))
		if s := r.poll(); s.Class != fetch.ClassRetry {
			t.Errorf("%s, and then a refusal: %v: %v", answer, s.Class, s.Err)
		}
	}
}

// KeepAll keeps all mail on the server for this poll.
func TestKeepAllDeletesNothing(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(3)
	r.opts.KeepAll = true
	for range 2 {
		if s := r.mustPoll(); s.Deleted != 0 || len(r.left()) != 3 {
			t.Errorf("deleted %d, left %q", s.Deleted, r.left())
		}
		r.expectDelivered(want...)
	}
	r.opts.KeepAll = false
	if s := r.mustPoll(); s.Deleted != 3 || s.Fetched != 0 {
		t.Errorf("deleted %d, fetched %d", s.Deleted, s.Fetched)
	}
}

// Check reports the connection, the login and the plan, also up to an error, and changes
// nothing.
func TestCheckReports(t *testing.T) {
	r, _ := newTLSRig(t, fetch.StartTLS, pop3test.Behaviour{Greeting: "hello there"}, pop3test.CertOptions{})
	r.fill(2)
	r.account.Keep.Forever = true
	r.mustPoll()
	r.account.Keep = fetch.Keep{}
	r.drop.Add("new", []byte(message(3)))
	r.drop.Add("big", []byte(strings.Repeat("x\n", 10_000)))
	r.account.MaxSize = 10_000
	rows := len(r.rows())
	got, err := r.account.Check(t.Context(), r.opts)
	check(t, err)
	if got.TLS == nil || got.Greeting != "hello there" || got.Choice.Mechanism != "plain" || !got.UIDL ||
		!slices.Equal(got.Choice.Offered, []string{"plain", "login", "user"}) || !slices.Equal(got.Addrs, []string{"127.0.0.1"}) ||
		!got.Before.Has("UIDL") || !got.After.Has("TOP") {
		t.Errorf("the connection: %+v", got)
	}
	if got.Listed != 4 || got.Octets == 0 || got.Fetch != 1 || got.FetchOctets == 0 || got.Delete != 2 || got.TooLarge != 1 {
		t.Errorf("the plan: %+v", got)
	}
	if len(r.left()) != 4 || len(r.rows()) != rows || len(r.mail()) != 2 {
		t.Errorf("something was changed: left %q, rows %+v", r.left(), r.rows())
	}

	// A failed check reports what came before the error.
	r.server.Order(pop3test.ReplyErr(pop3test.Login, "[AUTH] no"))
	got, err = r.account.Check(t.Context(), r.opts)
	if fetch.Classify(err) != fetch.ClassOperator || got.Greeting != "hello there" || got.TLS == nil || len(got.Choice.Offered) != 3 {
		t.Errorf("%v: %+v", err, got)
	}
}

// An account and a sink classify a secret that cannot be had alike.
func TestSecretErrorClass(t *testing.T) {
	later := &net.DNSError{IsTemporary: true}
	full := &fs.PathError{Op: "write", Path: "token", Err: syscall.ENOSPC}
	for _, test := range []struct {
		needs mech.Proof
		err   error
		class fetch.Class
		fault deliver.Fault
	}{
		{mech.Password, errors.New("exit status 1"), fetch.ClassOperator, deliver.FaultOperator},
		{mech.Password, later, fetch.ClassOperator, deliver.FaultOperator},
		{mech.Password, full, fetch.ClassMachine, deliver.FaultMachine},
		{mech.Token, errors.New("not logged in"), fetch.ClassOperator, deliver.FaultOperator},
		{mech.Token, later, fetch.ClassRetry, deliver.FaultTemporary},
		{mech.Token, full, fetch.ClassMachine, deliver.FaultMachine},
		{mech.Token, fs.ErrPermission, fetch.ClassOperator, deliver.FaultOperator},
	} {
		err := fmt.Errorf("log in: %w", &mech.SecretError{Needs: test.needs, Err: test.err})
		if got := fetch.Classify(err); got != test.class {
			t.Errorf("%v: class %v of an account, want %v", err, got, test.class)
		}
		if e := new(remote.Server).Fail("log in", err); e.Fault != test.fault {
			t.Errorf("%v: fault %v of a sink, want %v", err, e.Fault, test.fault)
		}
	}
}
