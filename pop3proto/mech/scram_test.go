package mech_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"

	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// newSCRAMServer returns a server for users with the password "pencil".
func newSCRAMServer(t *testing.T, iterations int) *scram.ServerConversation {
	t.Helper()
	srv, err := scram.SHA256.NewServer(func(user string) (scram.StoredCredentials, error) {
		c, err := scram.SHA256.NewClient(user, "pencil", "")
		if err != nil {
			return scram.StoredCredentials{}, err
		}
		return c.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "salt", Iters: iterations})
	})
	if err != nil {
		t.Fatal(err)
	}
	return srv.NewConversation()
}

// runSCRAM runs the exchange, with the server's messages passed through alter, and returns
// the error of the login.
func runSCRAM(t *testing.T, m sasl.Client, srv *scram.ServerConversation, alter func(string) string) error {
	t.Helper()
	_, response, err := m.Start()
	if err != nil {
		t.Fatal(err)
	}
	for !srv.Done() {
		challenge, _ := srv.Step(string(response))
		if response, err = m.Next([]byte(alter(challenge))); err != nil {
			return err
		}
	}
	if !srv.Valid() {
		return done(m, errors.New("refused"))
	}
	return done(m, nil)
}

// done calls the mechanism's method Done.
func done(m sasl.Client, reply error) error {
	return m.(interface{ Done(error) error }).Done(reply)
}

func newSCRAM(t *testing.T, password string) sasl.Client {
	t.Helper()
	m, err := mech.New(t.Context(), "scram-sha-256", mech.Credentials{User: "user", Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSCRAM(t *testing.T) {
	unchanged := func(s string) string { return s }
	if err := runSCRAM(t, newSCRAM(t, "pencil"), newSCRAMServer(t, 4096), unchanged); err != nil {
		t.Errorf("the right password: %v", err)
	}
	err := runSCRAM(t, newSCRAM(t, "eraser"), newSCRAMServer(t, 4096), unchanged)
	if err == nil || !strings.Contains(err.Error(), "no such user and password") {
		t.Errorf("the wrong password: %v", err)
	}
}

// TestSCRAMBadServer has a server, or an attacker in the middle, that violates the protocol.
func TestSCRAMBadServer(t *testing.T) {
	first := func(field int, value func(old string) string) func(string) string {
		return func(s string) string {
			if !strings.HasPrefix(s, "r=") {
				return s
			}
			fields := strings.Split(s, ",")
			fields[field] = value(fields[field])
			return strings.Join(fields, ",")
		}
	}
	final := func(value string) func(string) string {
		return func(s string) string {
			if strings.HasPrefix(s, "v=") {
				return value
			}
			return s
		}
	}
	fixed := func(value string) func(string) string { return func(string) string { return value } }
	for name, test := range map[string]struct {
		alter func(string) string
		want  string
	}{
		"wrong signature":     {final("v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), "did not prove"},
		"empty signature":     {final("v="), "did not prove"},
		"no signature":        {final(""), "did not prove"},
		"nonce truncated":     {first(0, func(r string) string { return r[:20] }), "nonce"},
		"nonce of the client": {first(0, func(r string) string { return r[:len("r=")+26] }), "nonce"},
		"another nonce":       {first(0, func(r string) string { return "r=x" + r[2:] }), "nonce"},
		"no nonce":            {first(0, fixed("r=")), "nonce"},
		"one iteration":       {first(2, fixed("i=1")), "asks for 1 iterations"},
		"few iterations":      {first(2, fixed("i=4095")), "asks for 4095 iterations"},
		"no iterations":       {first(2, fixed("i=0")), "asks for 0 iterations"},
		"negative iterations": {first(2, fixed("i=-4096")), "RFC 5802"},
		"endless iterations":  {first(2, fixed("i=1000000000")), "more than 2000000 iterations"},
		"iterations overflow": {first(2, fixed("i=99999999999999999999")), "more than 2000000 iterations"},
		"no salt":             {first(1, fixed("s=")), "RFC 5802"},
		"salt not base64":     {first(1, fixed("s=!")), "RFC 5802"},
		"unknown extension":   {func(s string) string { return "m=x," + s }, "RFC 5802"},
		"empty":               {fixed(""), "RFC 5802"},
		"too long":            {first(1, fixed("s="+strings.Repeat("AAAA", 2000))), "too long"},
		"stripped -PLUS":      {fixed("e=server-does-support-channel-binding"), "taken that out"},
		"relayed":             {fixed("e=channel-bindings-dont-match"), "may be intercepting"},
		"unknown binding":     {fixed("e=unsupported-channel-binding-type"), "does not know this channel binding"},
		"another error":       {fixed("e=out of pencil\x07" + strings.Repeat("x", 1000)), `"out of ***\axxx`},
	} {
		t.Run(name, func(t *testing.T) {
			err := runSCRAM(t, newSCRAM(t, "pencil"), newSCRAMServer(t, 4096), test.alter)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want %q in it", err, test.want)
			}
			if len(err.Error()) > 300 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			if unproven := strings.HasSuffix(name, "signature"); errors.Is(err, mech.ErrUnproven) != unproven {
				t.Errorf("ErrUnproven is %v in %v", !unproven, err)
			}
			if errors.Is(err, mech.ErrBinding) != (name == "unknown binding") || errors.Is(err, mech.ErrStripped) != (name == "stripped -PLUS") {
				t.Errorf("ErrBinding or ErrStripped in %v", err)
			}
		})
	}
}

// TestSCRAMEarlySuccess has a server that sends +OK before it has proved that it knows the
// password.
func TestSCRAMEarlySuccess(t *testing.T) {
	for rounds := range 3 {
		m, srv := newSCRAM(t, "pencil"), newSCRAMServer(t, 4096)
		_, response, err := m.Start()
		for range rounds {
			if err == nil {
				var challenge string
				challenge, err = srv.Step(string(response))
				if err == nil {
					response, err = m.Next([]byte(challenge))
				}
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := done(m, nil); errors.Is(err, mech.ErrUnproven) != (rounds < 2) {
			t.Errorf("after %d challenges: %v", rounds, err)
		}
		refused := errors.New("refused")
		if err := done(m, refused); err != refused {
			t.Errorf("after %d challenges, a refusal: %v", rounds, err)
		}
	}
}

// TestSCRAMNames checks that names are escaped and prepared with SASLprep (RFC 5802 §5.1),
// or sent unchanged if SASLprep fails.
func TestSCRAMNames(t *testing.T) {
	for _, test := range []struct{ user, authzid, want string }{
		{"user", "", "n,,n=user,r=nonce"},
		{"a,b=c", "d=e,f", "n,a=d=3De=2Cf,n=a=2Cb=3Dc,r=nonce"},
		{"I\u00adX\u00aa", "", "n,,n=IXa,r=nonce"}, // RFC 4013 §3
		{"\U0001f511", "", "n,,n=\U0001f511,r=nonce"},
	} {
		m, err := mech.NewWithNonce("scram-sha-256",
			mech.Credentials{User: test.user, Authzid: test.authzid, Password: "x"}, "nonce")
		if err != nil {
			t.Fatal(err)
		}
		if _, first, err := m.Start(); err != nil || string(first) != test.want {
			t.Errorf("%q, %q: %q, %v; want %q", test.user, test.authzid, first, err, test.want)
		}
	}
}

// TestSCRAMNonce checks that each login has a new nonce.
func TestSCRAMNonce(t *testing.T) {
	seen := make(map[string]bool)
	for range 100 {
		_, first, err := newSCRAM(t, "x").Start()
		if err != nil || seen[string(first)] {
			t.Fatalf("first message %q repeated, or error %v", first, err)
		}
		seen[string(first)] = true
	}
}

func ExampleNew() {
	m, err := mech.New(context.Background(), "scram-sha-256-plus", mech.Credentials{User: "alice", Password: "secret"})
	fmt.Println(m, err)
	// Output: <nil> scram-sha-256-plus: it needs TLS
}
