package fetch_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// allMechanisms are what a server offers that knows every mechanism of the tests.
var allMechanisms = []string{"PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "OAUTHBEARER", "XOAUTH2"}

// rigsBySecurity returns three rigs whose servers behave as b says: one in the clear, one
// with implicit TLS, and one with STLS.
func rigsBySecurity(t *testing.T, b pop3test.Behaviour) map[string]*rig {
	implicit, _ := newTLSRig(t, fetch.ImplicitTLS, b, pop3test.CertOptions{})
	start, _ := newTLSRig(t, fetch.StartTLS, b, pop3test.CertOptions{})
	return map[string]*rig{"plain text": newRig(t, b), "implicit TLS": implicit, "STLS": start}
}

// An attacker on the way may remove capabilities from the replies. No mechanism is tried
// that auth does not allow, whatever is left.
func TestStrippedCapabilities(t *testing.T) {
	for _, test := range []struct {
		name  string
		left  []string // what the replies to CAPA still list
		auth  []string
		token bool   // the account has a token instead of a password
		want  string // the mechanism of the login, or "" for no login
	}{
		{name: "SASL, with auto", left: []string{"USER"}, want: "user"}, // auto allows it
		{name: "SASL", left: []string{"USER"}, auth: []string{"scram-sha-256"}},
		{name: "SASL, of a list", left: []string{"USER"}, auth: []string{"scram-sha-256-plus", "scram-sha-256", "cram-md5"}},
		{name: "SASL, without USER", left: []string{"TOP"}, auth: []string{"cram-md5"}},
		{name: "all of CAPA", left: []string{}, auth: []string{"scram-sha-1", "plain"}},
		{name: "all but PLAIN", left: []string{"SASL PLAIN", "USER"}, auth: []string{"scram-sha-256"}},
		{name: "all but CRAM-MD5", left: []string{"SASL CRAM-MD5"}, auth: []string{"scram-sha-256"}},
		{name: "all names", left: []string{"SASL", "USER"}, auth: []string{"scram-sha-256"}},
		{name: "SASL, where USER is allowed", left: []string{}, auth: []string{"scram-sha-256", "user"}, want: "user"},
		{name: "SASL, with a token", left: []string{}, auth: []string{"oauthbearer"}, token: true},
		{name: "SASL, with a token for PLAIN", left: []string{"SASL PLAIN"}, auth: []string{"xoauth2"}, token: true},
		{name: "SASL, with a token where XOAUTH2 is allowed", left: []string{}, auth: []string{"oauthbearer", "xoauth2"}, want: "xoauth2", token: true},
	} {
		for way, r := range rigsBySecurity(t, pop3test.Behaviour{Mechanisms: allMechanisms, Capabilities: test.left, Timestamp: "<1896.697170952@dbc.mtview.ca.us>"}) {
			t.Run(test.name+", "+way, func(t *testing.T) {
				r.account.Auth = test.auth
				if test.token {
					r.account.Token, r.account.Secret = r.account.Secret, nil
				}
				s := r.poll()
				if test.want == "" {
					if _, ok := errors.AsType[*mech.OfferError](s.Err); !ok || s.Class != fetch.ClassOperator {
						t.Errorf("%v: %v", s.Class, s.Err)
					}
					r.expectNoLogin()
				} else if in := eventsOf[fetch.LoggedIn](r); len(in) != 1 || in[0].Mechanism != test.want {
					t.Errorf("logged in by %v, want %s: %v", in, test.want, s.Err)
				}
			})
		}
	}
}

// A server notices if -PLUS was removed from its offer, and refuses the login; the poll
// then says that somebody tampers with the connection. It does so also where an unknown
// -PLUS mechanism was put in the place of those removed.
func TestPlusStripped(t *testing.T) {
	for _, line := range []string{"SASL SCRAM-SHA-256 PLAIN", "SASL SCRAM-SHA-256 SCRAM-SHA-512-PLUS", "SASL X-PLUS SCRAM-SHA-1"} {
		r, _ := newTLSRig(t, fetch.ImplicitTLS, pop3test.Behaviour{Mechanisms: allMechanisms, Capabilities: []string{line}}, pop3test.CertOptions{})
		s := r.poll()
		if s.Class != fetch.ClassOperator || !strings.Contains(s.Err.Error(), "somebody has taken that out") || !strings.Contains(fetch.Hint(s.Err), "do not trust") {
			t.Errorf("%s: %v: %v (%q)", line, s.Class, s.Err, fetch.Hint(s.Err))
		}
	}
}

// Where auth leaves -PLUS out, a login without it succeeds although the server offers it:
// the server is not told that the client saw no -PLUS.
func TestPlusNotAllowed(t *testing.T) {
	for _, auth := range []string{"scram-sha-1", "scram-sha-256"} {
		r, _ := newTLSRig(t, fetch.ImplicitTLS, pop3test.Behaviour{Mechanisms: allMechanisms}, pop3test.CertOptions{})
		r.account.Auth = []string{auth}
		for range 2 { // the second goes by what was remembered
			r.mustPoll()
		}
	}
}

// exporterUnknown has the server refuse the channel binding tls-exporter.
func exporterUnknown() pop3test.Fault {
	return pop3test.AlterChallenge(func(string) string { return "e=unsupported-channel-binding-type" }).When(func(x *pop3test.Exchange) bool {
		_, initial, _ := strings.Cut(x.Args, " ")
		first, _ := base64.StdEncoding.DecodeString(initial)
		return x.Verb == "AUTH" && strings.HasPrefix(string(first), "p=tls-exporter,")
	})
}

// If a server does not know the channel binding tls-exporter, the login is tried again
// with the other one, and the next poll begins with that.
func TestChannelBindings(t *testing.T) {
	r, _ := newTLSRig(t, fetch.ImplicitTLS, pop3test.Behaviour{Mechanisms: allMechanisms}, pop3test.CertOptions{})
	auths := 0
	r.server.Order(pop3test.On("AUTH", func(x *pop3test.Exchange) { auths++; x.Act() }))
	r.mustPoll()
	r.server.Order(exporterUnknown())
	r.mustPoll()
	r.mustPoll()
	for _, in := range eventsOf[fetch.LoggedIn](r) {
		if in.Mechanism != "scram-sha-256-plus" {
			t.Errorf("logged in by %s", in.Mechanism)
		}
	}
	if auths != 1+2+1 {
		t.Errorf("%d logins, want 4: with tls-exporter; with it in vain and then without; without", auths)
	}
}

// A server that refuses a token in the initial response is sent it after its challenge. A
// server that is known to want that gets it so at once; any other on a second connection,
// and later polls remember it.
func TestTokenInTwoSteps(t *testing.T) {
	for name, test := range map[string]struct {
		fault  pop3test.Fault
		known  bool
		first  int  // connections of the first poll
		fails  bool // polls fail
		second int  // connections of the second poll
	}{
		"it says so":               {fault: pop3test.RefuseInitialResponse(), first: 2, second: 1},
		"it hangs up":              {fault: pop3test.LoseReply("AUTH", pop3test.HangUp).When(hasInitialResponse), first: 2, second: 1},
		"it resets":                {fault: pop3test.LoseReply("AUTH", pop3test.Reset).When(hasInitialResponse), first: 2, second: 1},
		"it is known to want that": {fault: pop3test.RefuseInitialResponse(), known: true, first: 1, second: 1},
		"it accepts both":          {fault: pop3test.ReplyErr("NOOP", ""), first: 1, second: 1},
		"it always does":           {fault: pop3test.LoseReply("AUTH", pop3test.HangUp), first: 2, fails: true, second: 1},
		"it says otherwise":        {fault: pop3test.ReplyErr("AUTH", "[AUTH] no such user"), first: 1, fails: true, second: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _ := newTLSRig(t, fetch.ImplicitTLS, pop3test.Behaviour{Mechanisms: []string{"PLAIN", "XOAUTH2"}}, pop3test.CertOptions{Hosts: []string{"127.0.0.1", microsoftHost}})
			r.account.Token, r.account.Secret = r.account.Secret, nil
			if test.known {
				r.useMicrosoftHost()
			}
			r.server.Order(test.fault)
			s := r.poll()
			if n := r.server.Sessions(); n != test.first || (s.Err != nil) != test.fails {
				t.Errorf("%d connections, want %d: %v", n, test.first, s.Err)
			}
			r.poll()
			if n := r.server.Sessions() - test.first; n != test.second {
				t.Errorf("then %d connections, want %d", n, test.second)
			}
		})
	}
}

// microsoftHost is the name of a server that is known to want a token in two steps.
const microsoftHost = "Outlook.Office365.com."

// useMicrosoftHost has the account reach its server by that name.
func (r *rig) useMicrosoftHost() {
	r.account.Server.Host = microsoftHost
	r.account.Server.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, r.server.Addr())
	}
}

// hasInitialResponse reports whether an AUTH command has more than the mechanism.
func hasInitialResponse(x *pop3test.Exchange) bool { return strings.Contains(x.Args, " ") }

// If a server refuses the token, the error says what a person can do, and TokenRefused is
// called with the token.
func TestTokenRefused(t *testing.T) {
	for _, test := range []struct {
		mechanism string
		twoSteps  bool
	}{{"oauthbearer", false}, {"xoauth2", false}, {"xoauth2", true}} {
		r, _ := newTLSRig(t, fetch.ImplicitTLS, pop3test.Behaviour{Mechanisms: allMechanisms}, pop3test.CertOptions{Hosts: []string{"127.0.0.1", microsoftHost}})
		r.account.Auth, r.account.Secret = []string{test.mechanism}, nil
		if test.twoSteps {
			r.useMicrosoftHost()
		}
		r.account.Token = func(context.Context) (string, error) { return "expired", nil }
		refused := ""
		r.account.TokenRefused = func(token string) { refused = token }
		s := r.poll()
		if s.Class != fetch.ClassOperator || !strings.Contains(s.Err.Error(), "invalid, has expired or belongs to another user") || !strings.Contains(fetch.Hint(s.Err), "mailhaul login "+r.account.Name+",") {
			t.Errorf("%+v: %v: %v (%q)", test, s.Class, s.Err, fetch.Hint(s.Err))
		}
		if refused != "expired" {
			t.Errorf("%+v: told of the token %q", test, refused)
		}
	}
}

// The hint of a refusal does not speak of a password where the account has none. It asks
// for what the mechanism needs: the token command, a new login, or the user.
func TestRefusedWithoutPassword(t *testing.T) {
	for auth, advice := range map[string]string{"xoauth2": "token_command", "oauthbearer": "mailhaul login", "external": "check user"} {
		r, cert := newTLSRig(t, fetch.ImplicitTLS, pop3test.Behaviour{Mechanisms: append(slices.Clone(allMechanisms), "EXTERNAL")}, pop3test.CertOptions{})
		r.account.Auth, r.account.Secret = []string{auth}, nil
		r.account.Token = func(context.Context) (string, error) { return "for another purpose", nil }
		r.account.Server.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		r.server.Order(pop3test.ReplyErr("AUTH", "Authentication failure: unknown user name or bad password."))
		s := r.poll()
		if hint := fetch.Hint(s.Err); s.Class != fetch.ClassOperator || !strings.Contains(hint, advice) || strings.Contains(hint, "password") {
			t.Errorf("%s: %v: %v (%q)", auth, s.Class, s.Err, hint)
		}
	}
}

// Check reports which mechanism was chosen, what that choice reveals, and why each other
// one was not used.
func TestCheckExplainsChoice(t *testing.T) {
	const stamp = "<1896.697170952@dbc.mtview.ca.us>"
	all := append(slices.Clone(allMechanisms), "EXTERNAL")
	offer := "SASL " + strings.Join(all, " ") + " GSSAPI NTLM DIGEST-MD5"
	for name, test := range map[string]struct {
		security fetch.Security
		auth     []string
		caps     []string
		token    bool
		want     fetch.Choice
		why      map[string]string
	}{
		"TLS": {
			security: fetch.ImplicitTLS, caps: []string{offer, "USER"}, want: fetch.Choice{Mechanism: "scram-sha-256-plus"},
			why: map[string]string{
				"plain": "weaker", "user": "weaker", "scram-sha-1-plus": "weaker", "xoauth2": "no token", "gssapi": "no kerberos", "ntlm": "unknown",
				"apop": "only if auth names it", "digest-md5": "only if auth names it",
			},
		},
		"plain text": {
			security: fetch.PlainText, caps: []string{offer, "USER"}, want: fetch.Choice{Mechanism: "scram-sha-256", Strippable: true},
			why: map[string]string{"plain": "weaker", "scram-sha-256-plus": "needs TLS"},
		},
		"plain text, nothing to strip": {
			security: fetch.PlainText, caps: []string{offer}, auth: []string{"scram-sha-1", "cram-md5"}, want: fetch.Choice{Mechanism: "scram-sha-1"},
			why: map[string]string{"plain": "not in auth", "cram-md5": "weaker"},
		},
		"plain text, in the clear": {
			security: fetch.PlainText, caps: []string{"SASL PLAIN"}, want: fetch.Choice{Mechanism: "plain", Strippable: true, Reveals: true},
		},
		"token": {
			security: fetch.ImplicitTLS, caps: []string{offer}, token: true, want: fetch.Choice{Mechanism: "oauthbearer", Reveals: true},
			why: map[string]string{"plain": "no password", "xoauth2": "weaker"},
		},
		"nothing said": {
			security: fetch.ImplicitTLS, caps: []string{}, want: fetch.Choice{Mechanism: "user", Assumed: true, Reveals: true},
		},
		"nothing fits": {
			security: fetch.ImplicitTLS, caps: []string{"SASL NTLM"}, why: map[string]string{"ntlm": "unknown"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := pop3test.Behaviour{Mechanisms: all, Capabilities: test.caps, Timestamp: stamp}
			r := newRig(t, b)
			if test.security != fetch.PlainText {
				r, _ = newTLSRig(t, test.security, b, pop3test.CertOptions{})
			}
			r.account.Auth = test.auth
			if test.token {
				r.account.Token, r.account.Secret = r.account.Secret, nil
			}
			report, err := r.account.Check(t.Context(), r.opts)
			if got := report.Choice; (err == nil) != (test.want.Mechanism != "") || got.Mechanism != test.want.Mechanism ||
				got.Assumed != test.want.Assumed || got.Reveals != test.want.Reveals || got.Strippable != test.want.Strippable {
				t.Errorf("got %+v, want %+v: %v", got, test.want, err)
			}
			for mechanism, why := range test.why {
				if !slices.Contains(report.Choice.Unused, fetch.Unused{Mechanism: mechanism, Why: why}) {
					t.Errorf("%s is not called %q: %+v", mechanism, why, report.Choice.Unused)
				}
			}
		})
	}
}

// Where a server offers only mechanisms that are not used unless auth names them, the hint
// says to name them.
func TestHintNamesMechanism(t *testing.T) {
	const stamp, apop = "<1896.697170952@dbc.mtview.ca.us>", "used only if it is named: set auth: apop"
	for name, test := range map[string]struct {
		caps   []string
		refuse string // the command that the server refuses
		token  bool
		want   string // a part of the hint
		not    string
	}{
		"apop alone":                {caps: []string{"SASL NTLM"}, want: apop, not: "password"},
		"digest-md5, which is more": {caps: []string{"SASL DIGEST-MD5"}, want: "set auth: digest-md5"},
		"USER is refused":           {caps: []string{}, refuse: "USER", want: apop + "; else check user and password"},
		"the password is refused":   {caps: []string{}, refuse: "PASS", want: "check user and password", not: "apop"},
		"no password":               {caps: []string{"SASL PLAIN"}, token: true, want: "wants a password", not: "apop"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{Capabilities: test.caps, Timestamp: stamp})
			if test.refuse != "" {
				r.server.Order(pop3test.ReplyErr(test.refuse, "no"))
			}
			if test.token {
				r.account.Token, r.account.Secret = r.account.Secret, nil
			}
			s := r.poll()
			hint := fetch.Hint(s.Err)
			if s.Class != fetch.ClassOperator || !strings.Contains(hint, test.want) || test.not != "" && strings.Contains(hint, test.not) {
				t.Errorf("%v: %v (%q)", s.Class, s.Err, hint)
			}
		})
	}
}

// A server that breaks the rules of SCRAM ends the login, and no weaker mechanism is tried
// after it.
func TestSCRAMViolations(t *testing.T) {
	alter := func(prefix, value string) pop3test.Fault {
		return pop3test.AlterChallenge(func(s string) string {
			fields := strings.Split(s, ",")
			for i, f := range fields {
				if strings.HasPrefix(f, prefix) {
					fields[i] = prefix + value
				}
			}
			return strings.Join(fields, ",")
		})
	}
	for name, test := range map[string]struct {
		fault    pop3test.Fault
		says     string
		unproven bool // the server did not prove that it knows the password
	}{
		"signature wrong":      {fault: alter("v=", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), says: "did not prove", unproven: true},
		"signature missing":    {fault: pop3test.SkipProof(), says: "did not prove", unproven: true},
		"nonce changed":        {fault: alter("r=", "somebody-elses-nonce"), says: "does not continue ours"},
		"one iteration":        {fault: alter("i=", "1"), says: "with fewer than 4096 the password could be guessed"},
		"a billion iterations": {fault: alter("i=", "1000000000"), says: "keep this machine busy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _ := newTLSRig(t, fetch.ImplicitTLS, pop3test.Behaviour{Mechanisms: allMechanisms}, pop3test.CertOptions{})
			r.mustPoll() // so that the server is known
			before := len(r.server.Log())
			r.server.Order(test.fault, pop3test.Replace("CAPA", "+OK\r\nSASL PLAIN LOGIN\r\nUSER\r\n.\r\n"))
			s := r.poll()
			if s.Class != fetch.ClassOperator || !strings.Contains(s.Err.Error(), test.says) || !strings.Contains(fetch.Hint(s.Err), "do not trust") {
				t.Errorf("%v: %v (%q)", s.Class, s.Err, fetch.Hint(s.Err))
			}
			if errors.Is(s.Err, mech.ErrUnproven) != test.unproven {
				t.Errorf("unproven is %v in %v", !test.unproven, s.Err)
			}
			logins := 0
			for _, line := range r.server.Log()[before:] {
				if strings.Contains(line, "AUTH ") || strings.Contains(line, "PASS ") {
					logins++
				}
			}
			if logins != 1 {
				t.Errorf("%d logins were tried:\n%s", logins, strings.Join(r.server.Log(), "\n"))
			}
		})
	}
}

// cancelledConn is a connection on which the server replies to a cancelled login with last
// and hangs up.
type cancelledConn struct {
	net.Conn
	last string
	over *strings.Reader // nil until the login was cancelled
}

func (c *cancelledConn) Write(p []byte) (int, error) {
	if string(p) == "*\r\n" {
		c.over = strings.NewReader(c.last)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *cancelledConn) Read(p []byte) (int, error) {
	if c.over != nil {
		return c.over.Read(p)
	}
	return c.Conn.Read(p)
}

// The login ends after a violation of SCRAM also if the server answers its cancellation
// with +OK or by hanging up.
func TestSCRAMViolationThenBadReply(t *testing.T) {
	for name, last := range map[string]string{"it accepts": "+OK welcome\r\n", "it hangs up": ""} {
		for turn, value := range map[string]string{"v=": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "r=": "somebody-elses-nonce,s=QUFBQQ==,i=4096"} {
			t.Run(name+", "+turn, func(t *testing.T) {
				r := newRig(t, pop3test.Behaviour{Mechanisms: allMechanisms})
				r.mustPoll() // so that the server is known
				before := len(r.server.Log())
				r.account.Server.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
					conn, err := new(net.Dialer).DialContext(ctx, network, addr)
					return &cancelledConn{Conn: conn, last: last}, err
				}
				r.server.Order(pop3test.Replace("CAPA", "+OK\r\nSASL PLAIN LOGIN\r\nUSER\r\n.\r\n"),
					pop3test.AlterChallenge(func(s string) string {
						if strings.HasPrefix(s, turn) {
							return turn + value
						}
						return s
					}))
				s := r.poll()
				if s.Class != fetch.ClassOperator || !errors.Is(s.Err, mech.ErrSuspect) || !strings.Contains(fetch.Hint(s.Err), "do not trust") {
					t.Errorf("%v: %v (%q)", s.Class, s.Err, fetch.Hint(s.Err))
				}
				for _, line := range r.server.Log()[before:] {
					if strings.Contains(line, "CAPA") || strings.Contains(line, "PLAIN") || strings.Contains(line, "USER") {
						t.Errorf("it went on: %s", line)
					}
				}
			})
		}
	}
}

// A password that is refused inside the SCRAM exchange counts as any refusal: where a
// login has succeeded before, a person is called only for the third refusal.
func TestSCRAMRefused(t *testing.T) {
	r, _ := newTLSRig(t, fetch.ImplicitTLS, pop3test.Behaviour{Mechanisms: allMechanisms}, pop3test.CertOptions{})
	r.mustPoll()
	r.server.Order(pop3test.AlterChallenge(func(string) string { return "e=invalid-proof" }))
	for i, want := range []fetch.Class{fetch.ClassRetry, fetch.ClassRetry, fetch.ClassOperator} {
		if s := r.poll(); s.Class != want || !errors.Is(s.Err, mech.ErrRefused) {
			t.Errorf("refusal %d: %v, want %v: %v", i+1, s.Class, want, s.Err)
		}
	}
}

// A server that only does not know how to go on with a mechanism is no reason to distrust
// the network.
func TestUnknownSCRAMError(t *testing.T) {
	for _, challenge := range []string{"e=other-error", "nonsense"} {
		r, _ := newTLSRig(t, fetch.ImplicitTLS, pop3test.Behaviour{Mechanisms: allMechanisms}, pop3test.CertOptions{})
		r.server.Order(pop3test.AlterChallenge(func(string) string { return challenge }))
		s := r.poll()
		if hint := fetch.Hint(s.Err); s.Class != fetch.ClassOperator || strings.Contains(hint, "trust") || !strings.Contains(hint, "auth") {
			t.Errorf("%s: %v: %v (%q)", challenge, s.Class, s.Err, hint)
		}
	}
}
