package config_test

import (
	stdcmp "cmp"
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"gopkg.in/yaml.v3"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
)

// All keys that the parser knows are shown.
func TestEveryKeyIsShown(t *testing.T) {
	for _, wrong := range config.Unshown() {
		t.Error(wrong)
	}
}

func show(t *testing.T, c *config.Config, account string) string {
	t.Helper()
	text, err := c.YAML(account)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The output is a configuration that means the same, and whose output is the same.
func TestShowMeansTheSame(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	t.Setenv("XDG_STATE_HOME", "")
	example, err := os.ReadFile("../../../../config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"minimal": minimal,
		"example": string(example),
		"odd":     odd,
		"aliases": aliases,
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, text, 0o600)
			want, err := config.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			shown := show(t, want, "")
			got, err := config.Parse(path, []byte(shown))
			if err != nil {
				t.Fatalf("%v\nof\n%s", err, shown)
			}
			if again := show(t, got, ""); again != shown {
				t.Errorf("shown again: %s", cmp.Diff(shown, again))
			}
			// Defaults are written out now, and lines differ.
			if diff := cmp.Diff(explicit(want), explicit(got),
				cmpopts.IgnoreUnexported(config.Config{}, config.Account{}, config.Security{}, config.Login{}),
				cmpopts.IgnoreTypes(config.Password{}), cmpopts.IgnoreFields(config.Sink{}, "Line"),
				cmpopts.EquateComparable(netip.Addr{}), cmpopts.IgnoreFields(config.Security{}, "Trust"), cmpopts.EquateEmpty(),
			); diff != "" {
				t.Errorf("%s\nin\n%s", diff, shown)
			}
		})
	}
}

// explicit fills in the defaults that a Config leaves to other packages.
func explicit(c *config.Config) *config.Config {
	for i := range c.Accounts {
		a := &c.Accounts[i]
		orElse(&a.Port, map[config.TLS]int{config.TLSImplicit: 995}[a.TLS])
		if a.Port == 0 {
			a.Port = map[bool]int{true: 1109, false: 110}[a.Protocol == config.KPOP]
		}
		orElse(&a.MaxMessages, 1000)
		orElse(&a.Every, 5*time.Minute)
		orElse(&a.Timeout, time.Minute)
		orElse(&a.TimeLimit, time.Hour)
		if f := a.Filter; f != nil {
			orElse(&f.Timeout, 5*time.Minute)
			for codes, usual := range map[*[]int]int{&f.Keep: 0, &f.Drop: 99, &f.Quarantine: 100} {
				if *codes == nil {
					*codes = []int{usual}
				}
			}
		}
	}
	for i := range c.Sinks {
		s := &c.Sinks[i]
		switch {
		case s.SMTP != nil:
			orElse(&s.SMTP.Timeout, 5*time.Minute)
		case s.IMAP != nil:
			orElse(&s.IMAP.Timeout, 5*time.Minute)
			orElse(&s.IMAP.Folder, "INBOX")
		case s.MDA != nil:
			orElse(&s.MDA.Timeout, 5*time.Minute)
		}
	}
	return c
}

func orElse[T comparable](v *T, usual T) { *v = stdcmp.Or(*v, usual) }

const odd = `
state: "$HOME/a$$b"
notify: [say, "it's: #1"]
oauth: { google: { client_id: x, client_secret: hunter2 } }
sinks:
  null: { maildir: "~/Mail: dir" }
  relay: { smtp: "[::1]:2525", to: [a@example.org, b@example.org], sender: c@example.org }
  far: { imap: imap.example.org, user: "~", password: hunter2, folder: "no" }
  socket: { lmtp: ~/lmtp }
  gone: { discard: yes, yes_delete: true }
defaults: &d
  user: "0123"
  password: hunter2
  tls_min: 1.3
  deliver: "null"
  tunnel: [ssh, "{host}"]
  preconnect: { command: one, timeout: 2m }
  filter: cat
  refused: quarantine
  quarantine: gone
accounts:
  yes: { server: "[2001:db8::1]", keep: forever, tls: none }
  merged: { <<: *d, server: pop.example.com, pipelining: off }
  as: { server: pop.example.com:1995, socks5: { server: p, user: u, password: hunter2 }, preconnect: none }
  by: { server: pop.example.com, oauth: google, source_ip: 192.0.2.1, refused: keep, filter: [spamc, -x] }
  krb: { server: pop.example.com, protocol: kpop }
  routed:
    server: pop.example.com
    password_command: echo hunter2 | cat
    route: { header: X-Envelope-To, map: { "@example.org": far, me: [socket, relay] }, domains: example.org, default: [gone, "null"] }
    refused: keep
`

// aliases has an alias for a value that is a path in some places only, and a recipient
// with the name of a key for secrets.
const aliases = `
sinks: { home: { maildir: &me alice }, far: { imap: imap.example.org, user: *me, password_env: X, folder: *me } }
accounts:
  work:
    server: pop.example.com
    user: *me
    password_file: *me
    deliver: far
    route: { header: Delivered-To, domains: example.com, map: { password: home } }
`

func TestShow(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	c, err := config.Parse("/etc/mailhaul.yaml", []byte(`
sinks: { home: { maildir: ~/Maildir }, other: { mbox: inbox } }
defaults: { user: me, password: hunter2, deliver: home }
accounts:
  work: { server: pop.example.com, keep: 14d, max_size: 10M }
  home: { server: pop.example.org, password_file: me.password }
`))
	if err != nil {
		t.Fatal(err)
	}
	const want = `sinks:
  home:
    maildir: /home/me/Maildir
    mode: 0600
accounts:
  work:
    server: pop.example.com:995
    protocol: pop3
    tls: implicit
    tls_min: 1.2
    user: me
    password: '***'
    auth: auto
    deliver: home
    refused: keep
    keep: 14d
    max_size: 10M
    max_messages: 1000
    received_header: true
    return_path: false
    every: 5m
    timeout: 60s
    time_limit: 1h
    pipelining: auto
`
	if diff := cmp.Diff(want, show(t, c, "work")); diff != "" {
		t.Error(diff)
	}
	if text := show(t, c, "home"); strings.Contains(text, "***") || !strings.Contains(text, "password_file: /etc/me.password\n") {
		t.Errorf("the password of the defaults is shown beside the account's own:\n%s", text)
	}
	asJSON := c.JSON("work")
	const begin = `{"sinks":{"home":{"maildir":"/home/me/Maildir","mode":"0600"}},"accounts":{"work":{"server":"pop.example.com:995",`
	if !strings.HasPrefix(string(asJSON), begin) || !strings.Contains(string(asJSON), `"max_messages":1000,"received_header":true,`) {
		t.Errorf("as JSON: %s", asJSON)
	}
}

func TestShowHidesSecrets(t *testing.T) {
	c := load(t, strings.ReplaceAll(odd, "echo hunter2 | cat", "x"))
	for _, account := range []string{"", "as"} {
		text := show(t, c, account)
		asJSON := c.JSON(account)
		if strings.Contains(text+string(asJSON), "hunter2") {
			t.Errorf("a secret is shown:\n%s", text)
		}
		var tree, same any
		if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
			t.Error(err)
		}
		if err := json.Unmarshal(asJSON, &same); err != nil {
			t.Errorf("%v in\n%s", err, asJSON)
		}
	}
}
