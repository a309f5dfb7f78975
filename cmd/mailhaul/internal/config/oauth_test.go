package config_test

import (
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
)

const withOAuth = `
oauth:
  google: { client_id: g, client_secret_env: MAILHAUL_TEST_SECRET }
  office: { provider: microsoft, client_id: m, tenant: example.org }
sinks: { home: { maildir: /m } }
defaults: { server: pop.example.com, user: me, password: hunter2, password_timeout: 3s }
accounts:
  named: { oauth: google }
  tenant: { oauth: office }
  own: { oauth: { issuer: "https://sso.example.com/x", client_id: o, scopes: mail } }
  explicit: { oauth: { token_url: "http://127.0.0.1:1/token", device_url: "http://127.0.0.1:1/device", client_id: e } }
  other: { token_command: [echo, token-1] }
  plain: {}
`

func TestOAuth(t *testing.T) {
	t.Setenv("MAILHAUL_TEST_SECRET", "hunter3")
	accounts := map[string]config.Account{}
	for _, a := range load(t, withOAuth).Accounts {
		accounts[a.Name] = a
		ways := 0
		for _, set := range []bool{a.OAuth != nil, a.TokenCommand.IsSet(), a.Password.IsSet()} {
			if set {
				ways++
			}
		}
		if ways != 1 {
			t.Errorf("%s has %d ways to log in: the defaults' was not replaced", a.Name, ways)
		}
	}
	named := accounts["named"].OAuth
	if named == nil || named.Provider != "google" || named.ClientID != "g" {
		t.Fatalf("named: %+v", named)
	}
	if secret, err := named.ClientSecret.Read(t.Context()); secret != "hunter3" || err != nil {
		t.Errorf("client_secret_env: got %q, %v", secret, err)
	}
	if o := accounts["tenant"].OAuth; o.Provider != "microsoft" || o.Tenant != "example.org" || o.Name != "office" || o.ClientSecret.IsSet() {
		t.Errorf("tenant: %+v", o)
	}
	if o := accounts["own"].OAuth; o.Issuer != "https://sso.example.com/x" || o.Name != "sso.example.com/x" || strings.Join(o.Scopes, " ") != "mail" {
		t.Errorf("own: %+v", o)
	}
	if o := accounts["explicit"].OAuth; o.DeviceURL != "http://127.0.0.1:1/device" || o.TokenURL != "http://127.0.0.1:1/token" {
		t.Errorf("explicit: %+v", o)
	}
	if token, err := accounts["other"].TokenCommand.Read(t.Context()); token != "token-1" || err != nil {
		t.Errorf("token_command: got %q, %v", token, err)
	}
	if password, err := accounts["plain"].Password.Read(t.Context()); password != "hunter2" || err != nil {
		t.Errorf("plain: got %q, %v", password, err)
	}
	if password, err := accounts["named"].Password.Read(t.Context()); password != "" || err == nil {
		t.Errorf("an account with oauth has the password %q", password)
	}
}

func TestTokenCommand(t *testing.T) {
	for _, test := range []struct{ command, want string }{
		{"echo hunter2 >&2; echo no more; exit 1", "token_command: exit status 1"},
		{"head -c 17000 /dev/zero | tr '\\0' x", "more than 16384 bytes"},
		{"sleep 100", "token_command: no answer within 1s"},
	} {
		c := load(t, "sinks: { home: { maildir: /m } }\naccounts:\n  work:\n    server: pop.example.com\n    user: me\n    password_timeout: 1s\n    token_command: "+test.command+"\n")
		got, err := c.Accounts[0].TokenCommand.Read(t.Context())
		if got != "" || err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %q, %v; want an error with %q", test.command, got, err, test.want)
		}
	}
	long := strings.Repeat("x", 12000)
	c := load(t, "sinks: { home: { maildir: /m } }\naccounts:\n  work: { server: pop.example.com, user: me, token_command: [echo, "+long+"] }\n")
	if got, err := c.Accounts[0].TokenCommand.Read(t.Context()); got != long || err != nil {
		t.Errorf("a token of 12000 bytes: got %d bytes, %v", len(got), err)
	}
}

// A sink has the same keys, and may come before the client that it names.
func TestSinkOAuth(t *testing.T) {
	sinks := load(t, `
sinks:
  named: { smtp: mail.example.com, user: me, to: me@example.com, oauth: google }
  own: { imap: imap.example.com, user: me, oauth: { provider: yahoo, client_id: y } }
  slow: { imap: imap.example.com, user: me, token_command: sleep 100, password_timeout: 1s }
oauth:
  google: { client_id: g }
accounts:
  work: { server: pop.example.com, user: me, password_env: X, deliver: own }
`).Sinks
	if o := sinks[0].SMTP.OAuth; o == nil || o.Provider != "google" || o.ClientID != "g" || sinks[0].SMTP.Password.IsSet() {
		t.Errorf("named: %+v", o)
	}
	if o := sinks[1].IMAP.OAuth; o == nil || o.Provider != "yahoo" || o.ClientID != "y" {
		t.Errorf("own: %+v", o)
	}
	if _, err := sinks[2].IMAP.TokenCommand.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "token_command: no answer within 1s") {
		t.Errorf("slow: %v", err)
	}
}
