package mech_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"

	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

var alice = mech.Credentials{
	User: "alice@example.org", Password: "pässword-0123456789", Token: "token-0123456789", Host: "pop.example.org",
}

func newMech(t *testing.T, name string, c mech.Credentials) sasl.Client {
	t.Helper()
	m, err := mech.New(t.Context(), name, c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestCredentials has credentials that lack something or cannot be sent.
func TestCredentials(t *testing.T) {
	with := func(change func(*mech.Credentials)) mech.Credentials {
		c := alice
		change(&c)
		return c
	}
	for name, test := range map[string]struct {
		mech string
		c    mech.Credentials
		want string
	}{
		"unknown":            {"ntlm", alice, "no such mechanism"},
		"upper case":         {"PLAIN", alice, "no such mechanism"},
		"no password":        {"plain", with(func(c *mech.Credentials) { c.Password = "" }), "a password"},
		"no user":            {"cram-md5", with(func(c *mech.Credentials) { c.User = "" }), "user name"},
		"no token":           {"xoauth2", with(func(c *mech.Credentials) { c.Token = "" }), "access token"},
		"no host":            {"digest-md5", with(func(c *mech.Credentials) { c.Host = "" }), "host name"},
		"no TLS":             {"external", alice, "needs TLS"},
		"no TLS for binding": {"scram-sha-1-plus", alice, "needs TLS"},
		"NUL in user":        {"plain", with(func(c *mech.Credentials) { c.User = "a\x00b" }), "control character"},
		"NUL in authzid":     {"plain", with(func(c *mech.Credentials) { c.Authzid = "a\x00b" }), "control character"},
		"NUL in password":    {"plain", with(func(c *mech.Credentials) { c.Password = "my\x00password1" }), "NUL"},
		"^A in token":        {"oauthbearer", with(func(c *mech.Credentials) { c.Token = "my\x01token1" }), "control character"},
		"^A in user":         {"xoauth2", with(func(c *mech.Credentials) { c.User = "a\x01auth=" }), "control character"},
	} {
		_, err := mech.New(t.Context(), test.mech, test.c)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q in it", name, err, test.want)
		}
		if err != nil && (strings.Contains(err.Error(), "password1") || strings.Contains(err.Error(), "token1")) {
			t.Errorf("%s: the secret is in %v", name, err)
		}
	}
}

// TestNoSecretInErrors has a server that sends challenges with the secret in them. No error
// of the mechanism may contain it.
func TestNoSecretInErrors(t *testing.T) {
	checked := 0
	for _, info := range mech.Strongest(false) {
		if info.Needs == mech.Ticket {
			continue
		}
		secret := alice.Password
		if info.Needs == mech.Token {
			secret = alice.Token
		}
		secrets := []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))}
		var challenges []string
		for _, s := range secrets {
			for _, padding := range []string{"", strings.Repeat("x", 195)} {
				challenges = append(challenges, s, "e="+padding+s, `{"status":"`+padding+s+`","scope":"`+padding+s+`"}`,
					`{"status":"","scope":{"`+s+`":1}}`, `nonce="`+s+`",algorithm=`+s, "r="+s+",s="+s+",i="+s)
			}
		}
		for _, challenge := range challenges {
			m := newMech(t, info.Name, alice)
			_, _, err := m.Start()
			for range 3 {
				if err == nil {
					_, err = m.Next([]byte(challenge))
				}
			}
			errs := []error{err}
			if d, ok := m.(interface{ Done(error) error }); ok {
				errs = append(errs, d.Done(nil), d.Done(errors.New("refused")))
			}
			for _, err := range errs {
				if err == nil {
					continue
				}
				checked++
				for _, secret := range append(secrets, secrets[0][:9], secrets[1][:9]) {
					if strings.Contains(err.Error(), secret) {
						t.Errorf("%s, challenge %q: %q is in %v", info.Name, challenge, secret, err)
					}
				}
				if len(err.Error()) > 700 {
					t.Errorf("%s: an error of %d bytes", info.Name, len(err.Error()))
				}
			}
		}
	}
	if checked < 200 {
		t.Errorf("only %d errors", checked)
	}
}

// TestBounded checks that each mechanism has a limited number of responses, and does not
// process a challenge that is too long.
func TestBounded(t *testing.T) {
	for _, info := range mech.Strongest(false) {
		if info.Needs == mech.Ticket {
			continue
		}
		m := newMech(t, info.Name, alice)
		if _, _, err := m.Start(); err != nil {
			t.Fatal(err)
		}
		var err error
		rounds := 0
		for ; err == nil && rounds < 10; rounds++ {
			_, err = m.Next(nil)
		}
		if err == nil || rounds > 3 {
			t.Errorf("%s responds %d times", info.Name, rounds)
		}
		m = newMech(t, info.Name, alice)
		if _, _, err := m.Start(); err != nil {
			t.Fatal(err)
		}
		response, err := m.Next(make([]byte, 1<<20))
		if len(response) > 100 || err == nil && info.Name != "login" && info.Needs == mech.Password {
			t.Errorf("%s responds to a long challenge with %q", info.Name, response)
		}
	}
}

func TestCRAMEmptyChallenge(t *testing.T) {
	if response, err := newMech(t, "cram-md5", alice).Next(nil); err == nil {
		t.Errorf("response %q to an empty challenge", response)
	}
}

func TestWithoutInitialResponse(t *testing.T) {
	m := mech.WithoutInitialResponse(newMech(t, "xoauth2", alice))
	name, initial, err := m.Start()
	if name != "XOAUTH2" || initial != nil || err != nil {
		t.Fatalf("Start: %q, %q, %v", name, initial, err)
	}
	response, err := m.Next(nil)
	if want := "user=alice@example.org\x01auth=Bearer token-0123456789\x01\x01"; string(response) != want || err != nil {
		t.Errorf("response to the first challenge: %q, %v; want %q", response, err, want)
	}
	if response, err := m.Next([]byte(`{"status":"401"}`)); response == nil || len(response) > 0 || err != nil {
		t.Errorf("response to the error message: %q, %v", response, err)
	}
	refused := errors.New("refused")
	var reason *mech.OAuthError
	if err := done(m, refused); !errors.As(err, &reason) || reason.Status != "401" || !errors.Is(err, refused) {
		t.Errorf("Done: %v", err)
	}
	// Done of a mechanism without such a method returns the reply.
	if err := done(mech.WithoutInitialResponse(newMech(t, "plain", alice)), refused); err != refused {
		t.Errorf("Done of PLAIN: %v", err)
	}
}

func TestOAuthErrors(t *testing.T) {
	for challenge, want := range map[string]string{
		`{"status":"invalid_token","scope":"mail"}`:                              `XOAUTH2: the server refuses the access token: it is invalid, has expired or belongs to another user (wanted scope: "mail")`,
		`{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}`: `XOAUTH2: the server refuses the access token: it is invalid, has expired or belongs to another user (wanted scope: "https://mail.google.com/")`,
		`{"status":401}`:                                `XOAUTH2: the server refuses the access token: it is invalid, has expired or belongs to another user`,
		`{"status":"insufficient_scope"}`:               `XOAUTH2: the server refuses the access token: it is not good for mail`,
		`{"status":"invalid_request"}`:                  `XOAUTH2: the server refuses the access token: the server does not understand the request`,
		`{"status":"out\u0007of order"}`:                `XOAUTH2: the server refuses the access token: status "out\aof order"`,
		`{"status":"` + strings.Repeat("x", 300) + `"}`: `XOAUTH2: the server refuses the access token: status "` + strings.Repeat("x", 200) + `..."`,
		`no JSON`: `XOAUTH2: the server refuses the access token`,
		``:        `XOAUTH2: the server refuses the access token`,
		`{"status":"invalid_token"` + strings.Repeat(" ", 5000) + `}`: `XOAUTH2: the server refuses the access token`,
	} {
		m := newMech(t, "xoauth2", alice)
		if _, err := m.Next([]byte(challenge)); err != nil {
			t.Errorf("%.100s: %v", challenge, err)
		}
		if err := done(m, errors.New("refused")); err.Error() != want {
			t.Errorf("%.100s:\n%v, want\n%v", challenge, err, want)
		}
		// A server that sends an error message and then +OK must not be trusted.
		if done(m, nil) == nil {
			t.Errorf("%.100s, then +OK: no error", challenge)
		}
	}
	if err := done(newMech(t, "oauthbearer", alice), nil); err != nil {
		t.Errorf("+OK: error %v", err)
	}
}

// TestStrongest checks the order of mechanisms where it matters for security.
func TestStrongest(t *testing.T) {
	rank := func(encrypted bool) map[string]int {
		ranks := make(map[string]int)
		for i, info := range mech.Strongest(encrypted) {
			ranks[info.Name] = i + 1
		}
		return ranks
	}
	secure, plain := rank(true), rank(false)
	if len(secure) != 12 {
		t.Errorf("%d mechanisms: %v", len(secure), secure)
	}
	for _, pair := range [][2]string{
		{"scram-sha-256-plus", "scram-sha-1-plus"},
		{"scram-sha-1-plus", "scram-sha-256"},
		{"scram-sha-256", "scram-sha-1"},
		{"scram-sha-1", "plain"},
		{"oauthbearer", "xoauth2"},
		{"plain", "login"},
		{"plain", "cram-md5"},
		{"cram-md5", "digest-md5"},
	} {
		if secure[pair[0]] >= secure[pair[1]] {
			t.Errorf("with TLS %s comes before %s", pair[1], pair[0])
		}
	}
	for _, info := range mech.Strongest(true) {
		switch {
		case info.NeedsTLS != (plain[info.Name] == 0):
			t.Errorf("%s: rank %d without TLS", info.Name, plain[info.Name])
		case info.Reveals && plain[info.Name] < plain["cram-md5"]:
			t.Errorf("without TLS %s reveals the password before CRAM-MD5 hides it", info.Name)
		}
	}
}
