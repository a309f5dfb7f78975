package pop3proto_test

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"

	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

const mechPass = "correct horse, battery=staple"

// allMechanisms are the mechanisms that use a password or token.
var allMechanisms = []string{
	"PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS",
	"OAUTHBEARER", "XOAUTH2",
}

// startMechServer starts a server with implicit TLS and the user alice.
func startMechServer(t *testing.T, mechanisms ...string) *pop3test.Server {
	t.Helper()
	cert, _, err := pop3test.SelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	s := pop3test.New(pop3test.Options{
		TLS:       &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert},
		Behaviour: pop3test.Behaviour{Mechanisms: mechanisms},
	})
	s.Account("alice", mechPass)
	if err := s.StartTLS(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// dialTLS connects without verification of the certificate, so that a man in the middle
// passes as if with a trusted certificate.
func dialTLS(t *testing.T, addr string, cfg *tls.Config, opts *pop3proto.Options) *pop3proto.Client {
	t.Helper()
	cfg.InsecureSkipVerify = true
	conn, err := (&tls.Dialer{Config: cfg}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return newTestClient(t, conn, opts)
}

func newMech(t *testing.T, name string, c *pop3proto.Client, cred mech.Credentials) sasl.Client {
	t.Helper()
	if state, ok := c.TLS(); ok {
		cred.TLS = &state
	}
	m, err := mech.New(t.Context(), name, cred)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestMechanisms logs in with every mechanism, with TLS 1.2 and 1.3, with a wrong secret and
// the right one. Traces and errors must contain neither.
func TestMechanisms(t *testing.T) {
	s := startMechServer(t, allMechanisms...)
	for _, name := range allMechanisms {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			var log traceLog
			c := dialTLS(t, s.Addr(), &tls.Config{MaxVersion: version}, &pop3proto.Options{Trace: &log})
			login := func(secret string) error {
				cred := mech.Credentials{User: "alice", Password: secret, Token: secret, PlusOffered: true}
				return c.Authenticate(t.Context(), newMech(t, strings.ToLower(name), c, cred))
			}
			err := login("a wrong secret")
			var refused *pop3proto.ReplyError
			if !errors.As(err, &refused) || refused.Code != pop3proto.CodeAuth {
				t.Fatalf("%s with a wrong secret: %v", name, err)
			}
			output := err.Error()
			if err := login(mechPass); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := c.Quit(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			output += log.String()
			for _, secret := range []string{"a wrong secret", mechPass} {
				for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), secret[:8], secret[8:]} {
					if strings.Contains(output, form) {
						t.Errorf("%s: %q is in\n%s", name, form, output)
					}
				}
			}
		}
	}
}

// TestMechExternal logs in with a client certificate.
func TestMechExternal(t *testing.T) {
	s := startMechServer(t, "EXTERNAL")
	s.Account("bob", mechPass)
	cert, _, err := pop3test.SelfSigned("alice")
	if err != nil {
		t.Fatal(err)
	}
	withCert := &tls.Config{Certificates: []tls.Certificate{cert}}
	for _, test := range []struct {
		what    string
		cfg     *tls.Config
		authzid string
		works   bool
	}{
		{"the certificate's own user", withCert, "", true},
		{"the same user, named", withCert, "alice", true},
		{"another user", withCert, "bob", false},
		{"no certificate", &tls.Config{}, "alice", false},
	} {
		c := dialTLS(t, s.Addr(), test.cfg, nil)
		err := c.Authenticate(t.Context(), newMech(t, "external", c, mech.Credentials{Authzid: test.authzid}))
		if (err == nil) != test.works {
			t.Errorf("%s: %v", test.what, err)
		}
		if err := c.Quit(t.Context()); err != nil {
			t.Errorf("%s: %v", test.what, err)
		}
	}
}

// TestMechBindings logs in with each type of channel binding.
func TestMechBindings(t *testing.T) {
	s := startMechServer(t, "SCRAM-SHA-256-PLUS")
	for _, endPoint := range []bool{false, true} {
		c := dialTLS(t, s.Addr(), &tls.Config{}, nil)
		m := newMech(t, "scram-sha-256-plus", c, mech.Credentials{User: "alice", Password: mechPass, EndPoint: endPoint})
		if err := c.Authenticate(t.Context(), m); err != nil {
			t.Errorf("end point %v: %v", endPoint, err)
		}
		if err := c.Quit(t.Context()); err != nil {
			t.Errorf("end point %v: %v", endPoint, err)
		}
	}
}

// TestMechStripped has a man in the middle who removes the -PLUS mechanisms from the
// server's offer.
func TestMechStripped(t *testing.T) {
	s := startMechServer(t, "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")
	c := dialTLS(t, s.Addr(), &tls.Config{}, nil)
	err := c.Authenticate(t.Context(), newMech(t, "scram-sha-256", c, mech.Credentials{User: "alice", Password: mechPass}))
	if err == nil || !strings.Contains(err.Error(), "taken that out") {
		t.Errorf("error %v", err)
	}
	// Without -PLUS on either side there is nothing to strip.
	s = startMechServer(t, "SCRAM-SHA-256")
	c = dialTLS(t, s.Addr(), &tls.Config{}, nil)
	if err := c.Authenticate(t.Context(), newMech(t, "scram-sha-256", c, mech.Credentials{User: "alice", Password: mechPass})); err != nil {
		t.Errorf("no -PLUS to strip: %v", err)
	}
}

// TestMechRelayed has a man in the middle with a certificate that the client trusts, who
// forwards everything. Channel binding must detect him.
func TestMechRelayed(t *testing.T) {
	s := startMechServer(t, "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")
	cert, _, err := pop3test.SelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := tls.Dial("tcp", s.Addr(), &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				in.Close()
				continue
			}
			forward := func(dst, src net.Conn) {
				io.Copy(dst, src)
				dst.Close()
			}
			go forward(in, out)
			go forward(out, in)
		}
	}()
	cred := mech.Credentials{User: "alice", Password: mechPass, PlusOffered: true}
	for _, endPoint := range []bool{false, true} {
		c := dialTLS(t, l.Addr().String(), &tls.Config{}, nil)
		cred.EndPoint = endPoint
		err := c.Authenticate(t.Context(), newMech(t, "scram-sha-256-plus", c, cred))
		if err == nil || !strings.Contains(err.Error(), "may be intercepting") {
			t.Errorf("end point %v: error %v", endPoint, err)
		}
	}
	// The relay itself works: a login without -PLUS succeeds.
	c := dialTLS(t, l.Addr().String(), &tls.Config{}, nil)
	if err := c.Authenticate(t.Context(), newMech(t, "scram-sha-256", c, cred)); err != nil {
		t.Errorf("without binding: %v", err)
	}
}

// TestMechImpostor has a server that does not know the password.
func TestMechImpostor(t *testing.T) {
	for name, fault := range map[string]pop3test.Fault{
		"proof skipped": pop3test.SkipProof(),
		"proof forged": pop3test.AlterChallenge(func(challenge string) string {
			if strings.HasPrefix(challenge, "v=") {
				return "v=AAAA"
			}
			return challenge
		}),
	} {
		t.Run(name, func(t *testing.T) {
			s := startMechServer(t, "SCRAM-SHA-1")
			s.Order(fault)
			c := dialTLS(t, s.Addr(), &tls.Config{}, nil)
			err := c.Authenticate(t.Context(), newMech(t, "scram-sha-1", c, mech.Credentials{User: "alice", Password: mechPass}))
			if !errors.Is(err, mech.ErrUnproven) {
				t.Errorf("error %v", err)
			}
			if name == "proof skipped" { // the server has sent +OK
				wantBroken(t, c, err, mech.ErrUnproven)
			}
		})
	}
}

// TestMechTwoSteps logs in to a server that hangs up on an initial response.
func TestMechTwoSteps(t *testing.T) {
	s := startMechServer(t, "XOAUTH2")
	s.Order(pop3test.RefuseInitialResponse())
	cred := mech.Credentials{User: "alice", Token: mechPass}
	c := dialTLS(t, s.Addr(), &tls.Config{}, nil)
	if err := c.Authenticate(t.Context(), newMech(t, "xoauth2", c, cred)); err == nil {
		t.Error("the server accepts an initial response")
	}
	c = dialTLS(t, s.Addr(), &tls.Config{}, nil)
	if err := c.Authenticate(t.Context(), mech.WithoutInitialResponse(newMech(t, "xoauth2", c, cred))); err != nil {
		t.Errorf("in two steps: %v", err)
	}
}

// TestMechOAuthReason checks that the error has both the server's reason for refusing a
// token and its -ERR.
func TestMechOAuthReason(t *testing.T) {
	s := startMechServer(t, "OAUTHBEARER", "XOAUTH2")
	for name, status := range map[string]string{"oauthbearer": "invalid_token", "xoauth2": "401"} {
		c := dialTLS(t, s.Addr(), &tls.Config{}, nil)
		err := c.Authenticate(t.Context(), newMech(t, name, c, mech.Credentials{User: "alice", Token: "expired"}))
		var reason *mech.OAuthError
		var refused *pop3proto.ReplyError
		if !errors.As(err, &reason) || reason.Status != status || !errors.As(err, &refused) || refused.Code != pop3proto.CodeAuth {
			t.Errorf("%s: error %v", name, err)
		}
		if err := c.Noop(t.Context()); errors.Is(err, pop3proto.ErrBroken) {
			t.Errorf("%s: the session did not go on: %v", name, err)
		}
	}
}

// TestRealServerMechanisms logs in to Dovecot with every password mechanism. For one user,
// it first tries a wrong password on the same connection, and sends no initial response.
func TestRealServerMechanisms(t *testing.T) {
	t.Parallel()
	names := []string{"plain", "login", "cram-md5", "digest-md5", "scram-sha-1", "scram-sha-256"}
	s := servertest.Dovecot(t, servertest.DovecotOptions{Mechanisms: names})
	passwords := map[string]string{
		"simple@example.org": mechPass,
		"quoted@example.org": `"qu\oted", p%C3%A4ss `,
		// SASLprep does not allow the key emoji, and Dovecot does not use SASLprep.
		"signs@example.org": "5 \u20ac, Stra\u00dfe \U0001f511",
	}
	for user, pass := range passwords {
		s.AddUser(user, pass)
	}
	for user, pass := range passwords {
		for _, name := range names {
			c := dialTLS(t, s.TLSAddr, s.TLSConfig(), nil)
			m := newMech(t, name, c, mech.Credentials{User: user, Password: pass, Host: "localhost"})
			if pass == mechPass {
				wrong := mech.Credentials{User: user, Password: "wrong", Host: "localhost"}
				err := c.Authenticate(t.Context(), newMech(t, name, c, wrong))
				var refused *pop3proto.ReplyError
				if !errors.As(err, &refused) || refused.Code != pop3proto.CodeAuth {
					t.Errorf("%s with a wrong password: %v", name, err)
				}
				m = mech.WithoutInitialResponse(m)
			}
			if err := c.Authenticate(t.Context(), m); err != nil {
				t.Errorf("%s, %s: %v", name, user, err)
			}
			if err := c.Quit(t.Context()); err != nil {
				t.Errorf("%s, %s: %v", name, user, err)
			}
		}
	}
}
