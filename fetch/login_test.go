package fetch_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
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
	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

func TestMechanisms(t *testing.T) {
	const stamp = "<1896.697170952@dbc.mtview.ca.us>"
	apop := func(caps ...string) pop3test.Behaviour {
		return pop3test.Behaviour{Timestamp: stamp, Capabilities: caps}
	}
	caps := func(caps ...string) pop3test.Behaviour { return pop3test.Behaviour{Capabilities: caps} }
	for _, test := range []struct {
		name   string
		server pop3test.Behaviour
		auth   []string
		want   string // or part of the error
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

// secure makes a rig whose server has a certificate, over TLS from the start
// or by STLS.
func secure(t *testing.T, security fetch.Security, b pop3test.Behaviour, opts pop3test.CertOptions) (r *rig, cert tls.Certificate) {
	t.Helper()
	cert, ca, err := pop3test.Certificate(opts)
	check(t, err)
	r = newRig(t, b)
	server := pop3test.New(pop3test.Options{Behaviour: b, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	if security == fetch.ImplicitTLS {
		check(t, server.StartTLS())
	} else {
		check(t, server.Start())
	}
	t.Cleanup(func() { server.Close() })
	r.use(server)
	r.account.Server.Security = security
	r.account.Server.TLS = trusting(ca)
	return r, cert
}

// trusting returns the configuration of who trusts these certificates.
func trusting(ca []byte) *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

// pinned returns the configuration of who trusts one certificate.
func pinned(cert tls.Certificate) *tls.Config {
	return channel.Trust{Pins: []channel.Pin{{Sum: sha256.Sum256(cert.Certificate[0])}}}.Config("", nil)
}

func TestTLS(t *testing.T) {
	for _, test := range []struct {
		name string
		cert pop3test.CertOptions
		on   func(*fetch.Server, tls.Certificate)
		says string // "" logs in
		hint string
	}{
		{name: "a certificate to trust"},
		{name: "TLS 1.3 required", on: func(s *fetch.Server, _ tls.Certificate) { s.TLS.MinVersion = tls.VersionTLS13 }},
		{
			name: "for another name", cert: pop3test.CertOptions{Hosts: []string{"pop.example.com"}},
			says: "certificate", hint: "use the name that the certificate is for",
		},
		{
			name: "expired", cert: pop3test.CertOptions{NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour)},
			says: "expired", hint: "out of date",
		},
		{
			name: "not yet valid", cert: pop3test.CertOptions{NotBefore: time.Now().Add(24 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour)},
			says: "not yet valid", hint: "clock",
		},
		{
			name: "of an unknown authority", on: func(s *fetch.Server, _ tls.Certificate) { s.TLS.RootCAs = x509.NewCertPool() },
			says: "unknown authority", hint: "tls_ca",
		},
		{
			name: "the right fingerprint", cert: pop3test.CertOptions{Hosts: []string{"other"}, NotAfter: time.Now().Add(-time.Minute)},
			on: func(s *fetch.Server, cert tls.Certificate) { s.TLS = pinned(cert) },
		},
		{
			name: "the wrong fingerprint", on: func(s *fetch.Server, _ tls.Certificate) {
				s.TLS = channel.Trust{Pins: make([]channel.Pin, 1)}.Config("", nil)
			},
			says: "fingerprint is not tls_fingerprint but ", hint: "compare with the provider",
		},
	} {
		for security, by := range map[fetch.Security]string{fetch.ImplicitTLS: "implicit", fetch.StartTLS: "STLS"} {
			t.Run(test.name+", "+by, func(t *testing.T) {
				t.Parallel()
				r, cert := secure(t, security, pop3test.Behaviour{}, test.cert)
				if test.on != nil {
					test.on(&r.account.Server, cert)
				}
				want := r.fill(2)
				s := r.poll()
				if test.says == "" {
					if s.Class != fetch.ClassFine || eventsOf[fetch.Connected](r)[0].State == nil {
						t.Fatalf("%v: %v", s.Class, s.Err)
					}
					r.expect(want...)
					return
				}
				if s.Class != fetch.ClassOperator || !strings.Contains(s.Err.Error(), test.says) || !strings.Contains(fetch.Hint(s.Err), test.hint) {
					t.Errorf("%v: %v (%q)", s.Class, s.Err, fetch.Hint(s.Err))
				}
				r.expectNoLogin()
			})
		}
	}
}

// expectNoLogin fails the test if the server was told who we are.
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

func TestOldTLS(t *testing.T) {
	for _, security := range []fetch.Security{fetch.ImplicitTLS, fetch.StartTLS} {
		cert, ca, err := pop3test.SelfSigned()
		check(t, err)
		r := newRig(t, pop3test.Behaviour{})
		server := pop3test.New(pop3test.Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}})
		if security == fetch.ImplicitTLS {
			check(t, server.StartTLS())
		} else {
			check(t, server.Start())
		}
		t.Cleanup(func() { server.Close() })
		r.use(server)
		r.account.Server.Security = security
		r.account.Server.TLS = trusting(ca)
		if s := r.poll(); s.Class != fetch.ClassOperator || !strings.Contains(fetch.Hint(s.Err), "tls_min") {
			t.Errorf("%v: %v (%q)", s.Class, s.Err, fetch.Hint(s.Err))
		}
		r.expectNoLogin()
		r.account.Server.TLS.MinVersion = tls.VersionTLS10
		r.succeed()
	}
}

// What protects the password is never given up in silence.
func TestNoDowngrade(t *testing.T) {
	for _, test := range []struct {
		name   string
		server pop3test.Behaviour
		faults []pop3test.Fault
		class  fetch.Class
		says   string
	}{
		{name: "STLS is unknown", server: pop3test.Behaviour{Without: []string{"STLS"}}, class: fetch.ClassOperator, says: "server refused STLS"},
		{name: "only PLAIN, and no STLS", server: pop3test.Behaviour{Capabilities: []string{"SASL PLAIN"}, Without: []string{"STLS"}}, class: fetch.ClassOperator, says: "server refused STLS"},
		{name: "STLS is refused", faults: []pop3test.Fault{pop3test.ReplyErr("STLS", "not today")}, class: fetch.ClassOperator, says: `server refused STLS: "not today"`},
		{name: "STLS fails for now", faults: []pop3test.Fault{pop3test.ReplyErr("STLS", "[SYS/TEMP] TLS not available")}, class: fetch.ClassRetry, says: "SYS/TEMP"},
		{name: "plaintext behind the reply to STLS", faults: []pop3test.Fault{pop3test.InjectAfterSTLS("+OK welcome\r\n")}, class: fetch.ClassOperator, says: "tampers with the connection"},
		{name: "no handshake after STLS", faults: []pop3test.Fault{pop3test.Replace("STLS", "+OK go on\r\n")}, class: fetch.ClassOperator, says: "went on in the clear"},
		{name: "hangs up after STLS", faults: []pop3test.Fault{pop3test.LoseReply("STLS", pop3test.HangUp)}, class: fetch.ClassRetry, says: "closed the connection"},
		{name: "logged in before TLS", faults: []pop3test.Fault{pop3test.Replace(pop3test.Greeting, "+OK ready\r\n+OK logged in\r\n")}, class: fetch.ClassRetry, says: "expected nothing before the command"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r, _ := secure(t, fetch.StartTLS, test.server, pop3test.CertOptions{})
			impatient(r.account)
			r.server.Order(test.faults...)
			s := r.poll()
			if s.Class != test.class || !strings.Contains(s.Err.Error(), test.says) || s.Class == fetch.ClassOperator && fetch.Hint(s.Err) == "" {
				t.Errorf("%v: %v (%q)", s.Class, s.Err, fetch.Hint(s.Err))
			}
			r.expectNoLogin()
		})
	}
}

func TestImplicitTLSOnPlainPort(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Server.Security = fetch.ImplicitTLS
	if s := r.poll(); s.Class != fetch.ClassOperator || !strings.Contains(fetch.Hint(s.Err), "tls: starttls") {
		t.Errorf("%v: %v (%q)", s.Class, s.Err, fetch.Hint(s.Err))
	}
	r.expectNoLogin()
}

// A server that does not know the way to log in which it offers has nothing to
// say about the password.
func TestUnknownLogin(t *testing.T) {
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

// A login that is refused in the middle of an account's first poll worked before, too.
func TestRefusedInTheMiddle(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(3)
	r.account.MaxMessages = 1
	r.server.Order(pop3test.ReplyErr("AUTH", "[AUTH] wrong").Session(2))
	s := r.poll()
	if _, ok := errors.AsType[*fetch.DoubtfulError](s.Err); !ok || s.Class != fetch.ClassRetry || s.Fetched != 1 {
		t.Errorf("%v, %d fetched: %v", s.Class, s.Fetched, s.Err)
	}
	r.succeed()
	r.expect(want...)
}

// A server that drops what it is sent ahead, or hangs up over that, is sent one command
// at a time, and that is remembered.
func TestNoPipelining(t *testing.T) {
	all := []string{"CAPA", "STAT", "LIST", "UIDL", "RETR", "DELE"}
	for name, test := range map[string]struct {
		fault pop3test.Fault
		first int  // sessions of the first poll
		known bool // the server did not do so before
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
				r.succeed()
			}
			want := r.fill(3)
			impatient(r.account)
			r.server.Order(test.fault)
			for i, sessions := range []int{test.first, 1, 1} {
				if s := r.succeed(); s.Sessions != sessions {
					t.Errorf("poll %d: %d sessions", i, s.Sessions)
				}
				want = append(want, message(10+i))
				r.drop.Add(fmt.Sprint("new", i), []byte(message(10+i)))
				r.later(time.Hour)
			}
			r.succeed()
			r.expect(want...)
			r.expectEmpty()
		})
	}
}

// So it is if it drops only what asks for messages, or their headers.
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
				r.succeed()
				r.drop.SetUIDs(func(_ int, old string) string { return "new-" + old })
			}
			r.server.Order(pop3test.DropAhead(verb))
			if s := r.succeed(); s.Sessions != 2 {
				t.Errorf("%d sessions", s.Sessions)
			}
			r.expect(want...)
		})
	}
}

// Of one that never answers, the hint says what it may be.
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

// The password is in no error and no event, whatever the server repeats.
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
		// The secret of APOP never left, so nobody could have repeated it.
		if all := fmt.Sprintf("%v %+v", s.Err, r.events); strings.Contains(all, secret) && auth != "apop" {
			t.Errorf("%s: told: %s", auth, all)
		}
	}
}

func TestSecretCannotBeHad(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Secret = func(context.Context) (string, error) { return "", context.DeadlineExceeded }
	if s := r.poll(); s.Class != fetch.ClassOperator || !strings.Contains(s.Err.Error(), "no password") || fetch.Hint(s.Err) == "" {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
	// A new token could not be kept.
	r.account.Secret = func(context.Context) (string, error) {
		return "", &os.PathError{Op: "write", Path: "work.json.new", Err: syscall.ENOSPC}
	}
	if s := r.poll(); s.Class != fetch.ClassMachine {
		t.Errorf("%v: %v", s.Class, s.Err)
	}
	r.expectNoLogin()
}

// A password that no command can hold is for a person to write anew.
func TestSecretThatCannotBeSent(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Auth = []string{"user"}
	r.account.Secret = func(context.Context) (string, error) { return "s3cret\rHorse", nil }
	s := r.poll()
	if s.Class != fetch.ClassOperator || !strings.Contains(s.Err.Error(), "CR, LF or NUL") || !strings.Contains(fetch.Hint(s.Err), "anew") {
		t.Errorf("%v: %v (%s)", s.Class, s.Err, fetch.Hint(s.Err))
	}
}

// Trouble of which a server says that it is none of the password is told as what it is,
// and does not count as a refusal, though the login worked before.
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
		r.succeed()
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

// A mailbox that is in use for long is left alone for longer, also by those who were
// not told to insist.
func TestInUseIsHeeded(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.drop.Order(pop3test.ReplyErr(pop3test.Login, "[IN-USE] locked"))
	r.opts.Insist = true
	for range 3 {
		r.poll()
	}
	r.opts.Insist = false
	r.drop.ClearFaults()
	for _, later := range []time.Duration{time.Second, 4*time.Minute - 2*time.Second} {
		r.later(later)
		if s := r.poll(); !s.Skipped {
			t.Errorf("polled in the pause: %v", s.Err)
		}
	}
	r.later(time.Second)
	r.succeed()
}

// How long a login that was refused has to wait, and why, is told as the server said it.
func TestWhyPaused(t *testing.T) {
	for _, test := range []struct {
		before, answer, why string
		wait                time.Duration
	}{
		{"", "[IN-USE] locked", "another program has the mailbox open", time.Minute},
		{"", "[LOGIN-DELAY] wait", "the last login came too early", time.Minute},
		{"LOGIN-DELAY 600", "[LOGIN-DELAY] wait", "the last login came too early", 10*time.Minute + time.Second},
		{"LOGIN-DELAY 600", "[IN-USE] locked", "another program has the mailbox open", time.Minute},
	} {
		r := newRig(t, pop3test.Behaviour{Capabilities: []string{"USER", test.before}})
		r.drop.Order(pop3test.ReplyErr(pop3test.Login, test.answer).Session(1))
		r.poll()
		s := r.poll()
		pause, ok := errors.AsType[*fetch.PauseError](s.Err)
		if !ok || !pause.Until.Equal(noon.Add(test.wait)) || pause.Why != test.why {
			t.Errorf("%q, %s: %v", test.before, test.answer, s.Err)
		}
	}
}

// Nor does a server have an account left alone for longer than a day, whatever it asks.
func TestLongestLoginDelay(t *testing.T) {
	for _, seconds := range []string{"31536000", "99999999999999999999"} {
		r := newRig(t, pop3test.Behaviour{CapabilitiesAfter: []string{"UIDL", "TOP", "LOGIN-DELAY " + seconds}})
		r.succeed()
		r.later(day + 2*time.Second)
		if s := r.poll(); s.Skipped || s.Err != nil {
			t.Errorf("%s seconds: skipped %v, %v", seconds, s.Skipped, s.Err)
		}
	}
}

// What a server asks of some user, before it knows who logs in, is not asked of one of
// whom it says nothing then (RFC 2449 §6.5).
func TestLoginDelayOfSomeUser(t *testing.T) {
	for _, c := range []struct {
		before, after string
		want          time.Duration
	}{
		{"LOGIN-DELAY 600 USER", "TOP", 0},
		{"LOGIN-DELAY 600 USER", "LOGIN-DELAY 60", time.Minute},
		{"LOGIN-DELAY 600", "TOP", 10 * time.Minute},
	} {
		r := newRig(t, pop3test.Behaviour{Capabilities: []string{"USER", c.before}, CapabilitiesAfter: []string{"UIDL", c.after}})
		for range 2 { // what was remembered says the same
			if s := r.succeed(); s.LoginDelay != c.want {
				t.Errorf("%s, %s: %v", c.before, c.after, s.LoginDelay)
			}
			r.later(time.Hour)
		}
	}
	r := newRig(t, pop3test.Behaviour{Capabilities: []string{"USER", "LOGIN-DELAY 600 USER"}})
	r.server.Order(pop3test.ReplyErr("CAPA", "not now").Nth(2))
	if s := r.succeed(); s.LoginDelay != 10*time.Minute {
		t.Errorf("without an answer: %v", s.LoginDelay)
	}
}

func TestKeepAll(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	want := r.fill(3)
	r.opts.KeepAll = true
	for range 2 {
		if s := r.succeed(); s.Deleted != 0 || len(r.left()) != 3 {
			t.Errorf("deleted %d, left %q", s.Deleted, r.left())
		}
		r.expect(want...)
	}
	r.opts.KeepAll = false
	if s := r.succeed(); s.Deleted != 3 || s.Fetched != 0 {
		t.Errorf("deleted %d, fetched %d", s.Deleted, s.Fetched)
	}
}

func TestCheck(t *testing.T) {
	r, _ := secure(t, fetch.StartTLS, pop3test.Behaviour{Greeting: "hello there"}, pop3test.CertOptions{})
	r.fill(2)
	r.account.Keep.Forever = true
	r.succeed()
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

	// What came before the error is told.
	r.server.Order(pop3test.ReplyErr(pop3test.Login, "[AUTH] no"))
	got, err = r.account.Check(t.Context(), r.opts)
	if fetch.Classify(err) != fetch.ClassOperator || got.Greeting != "hello there" || got.TLS == nil || len(got.Choice.Offered) != 3 {
		t.Errorf("%v: %+v", err, got)
	}
}

// The secret that an account lacks is told of like one that a sink lacks.
func TestNoSecret(t *testing.T) {
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
