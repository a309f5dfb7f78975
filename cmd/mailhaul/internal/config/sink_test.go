package config_test

import (
	"context"
	"crypto/tls"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/deliver/filter"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
)

// accounts completes a file that has only sinks.
const accounts = `
accounts:
  work: { server: pop.example.com, user: me, password_env: X, deliver: a }
`

func TestPrograms(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	path := write(t, `
sinks:
  a: { mda: [bin/deliver, --to, "{recipient}", bin/x], recipient: me, dir: ~/mail, timeout: 2m }
  b: { mda: maildrop }
  c: { discard: true, yes_delete: true }
`+accounts, 0o600)
	got, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []config.Sink{
		{Name: "a", Line: 3, MDA: &config.MDA{
			Argv:      []string{filepath.Join(filepath.Dir(path), "bin/deliver"), "--to", "{recipient}", "bin/x"},
			Recipient: "me", Dir: "/home/me/mail", Timeout: 2 * time.Minute,
		}},
		{Name: "b", Line: 4, MDA: &config.MDA{Argv: []string{"maildrop"}}},
		{Name: "c", Line: 5, Discard: true},
	}
	if diff := cmp.Diff(want, got.Sinks); diff != "" {
		t.Error(diff)
	}
}

// In a list, the program is expanded like other paths if it holds a slash. Its arguments
// are not changed, nor is a command line for the shell.
func TestPathsOfPrograms(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	c, err := config.Parse("/etc/mailhaul.yaml", []byte(`
notify: [~/bin/tell, ~/mail]
sinks: { a: { mda: [~/bin/deliver, a/b] } }
defaults: { server: pop.example.com, user: me }
accounts:
  list: { password_command: [bin/pass, a/b], preconnect: [bin/up], postpoll: { command: [~/down] }, filter: ~/filter }
  name: { password_command: [pass, a/b] }
  line: { password_command: ~/bin/pass work }
`))
	if err != nil {
		t.Fatal(err)
	}
	shown := show(t, c, "")
	for _, want := range []string{
		"notify: [/home/me/bin/tell, ~/mail]", "mda: [/home/me/bin/deliver, a/b]", "command: /home/me/filter",
		"password_command: [/etc/bin/pass, a/b]", "command: [/etc/bin/up]", "command: [/home/me/down]",
		"password_command: [pass, a/b]", "password_command: ~/bin/pass work",
	} {
		if !strings.Contains(shown, want+"\n") {
			t.Errorf("%s is not in:\n%s", want, shown)
		}
	}
	if c.Notify[0] != "/home/me/bin/tell" || c.Accounts[0].Preconnect.Argv[0] != "/etc/bin/up" {
		t.Errorf("notify %q, preconnect %q", c.Notify, c.Accounts[0].Preconnect.Argv)
	}
}

func TestMailServers(t *testing.T) {
	t.Setenv("SECRET", "hunter2")
	got := load(t, `
sinks:
  a: { smtp: mail.example.com, to: me@example.com, sender: you@example.com, hello: here, timeout: 1m,
       tls: implicit, tls_min: 1.3, user: me, password_env: SECRET, password_timeout: 1s }
  b: { lmtp: /run/lmtp, to: [me, "you@example.com"], null_sender: true }
  c: { imap: imap.example.com, folder: Archive/2026, create_folder: true, flags: [\Seen, x] }
`+accounts).Sinks
	if s, err := got[0].SMTP.Password.Read(context.Background()); s != "hunter2" || err != nil {
		t.Errorf("password %q, %v", s, err)
	}
	want := []config.Sink{
		{Name: "a", SMTP: &config.SMTP{
			Server: config.Server{
				Addr: "mail.example.com:465", Security: config.Security{TLS: config.TLSImplicit, Trust: channel.Trust{MinVersion: tls.VersionTLS13}},
				Login: config.Login{User: "me"}, Timeout: time.Minute,
			},
			Hello: "here", To: []string{"me@example.com"}, Sender: "you@example.com",
		}},
		{Name: "b", SMTP: &config.SMTP{
			Server: config.Server{Addr: "/run/lmtp", Security: config.Security{TLS: config.TLSNone}},
			LMTP:   true, To: []string{"me", "you@example.com"}, NullSender: true,
		}},
		{Name: "c", IMAP: &config.IMAP{
			Server: config.Server{Addr: "imap.example.com:993", Security: config.Security{TLS: config.TLSImplicit}},
			Folder: "Archive/2026", Create: true, Flags: []string{`\Seen`, "x"},
		}},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(config.Sink{}, "Line"), cmpopts.EquateComparable(netip.Addr{}), cmpopts.IgnoreUnexported(config.Security{}), cmpopts.IgnoreFields(config.Login{}, "Password", "TokenCommand")); diff != "" {
		t.Error(diff)
	}
}

// The default of tls depends on the server: only connections to this machine are without
// TLS.
func TestServerDefaults(t *testing.T) {
	for text, want := range map[string]struct {
		addr string
		tls  config.TLS
	}{
		"smtp: mail.example.com":                {"mail.example.com:25", config.TLSStart},
		"smtp: mail.example.com:587":            {"mail.example.com:587", config.TLSStart},
		"smtp: mail.example.com:465":            {"mail.example.com:465", config.TLSImplicit},
		"smtp: mail.example.com, tls: implicit": {"mail.example.com:465", config.TLSImplicit},
		"smtp: mail.example.com, tls: none":     {"mail.example.com:25", config.TLSNone},
		"smtp: localhost":                       {"localhost:25", config.TLSNone},
		"smtp: LOCALHOST:465":                   {"LOCALHOST:465", config.TLSImplicit},
		"smtp: localhost, tls: starttls":        {"localhost:25", config.TLSStart},
		"smtp: localhost.example.com":           {"localhost.example.com:25", config.TLSStart},
		`smtp: "[::1]:2525"`:                    {"[::1]:2525", config.TLSNone},
		"lmtp: 127.0.0.1":                       {"127.0.0.1:24", config.TLSNone},
		"lmtp: 192.0.2.1":                       {"192.0.2.1:24", config.TLSStart},
		"imap: imap.example.com":                {"imap.example.com:993", config.TLSImplicit},
		"imap: imap.example.com:143":            {"imap.example.com:143", config.TLSStart},
		"imap: imap.example.com, tls: starttls": {"imap.example.com:143", config.TLSStart},
		"imap: localhost":                       {"localhost:993", config.TLSImplicit},
		"imap: localhost:143":                   {"localhost:143", config.TLSNone},
		"imap: /run/imap":                       {"/run/imap", config.TLSNone},

		"smtp: localhost, socks5: proxy.example.com":                {"localhost:25", config.TLSStart},
		"imap: 127.0.0.1:143, socks5: 192.0.2.1":                    {"127.0.0.1:143", config.TLSStart},
		"smtp: localhost, socks5: { server: proxy.example.com }":    {"localhost:25", config.TLSStart},
		"smtp: localhost, socks5: proxy.example.com, tls: none":     {"localhost:25", config.TLSNone},
		`smtp: localhost, socks5: localhost:9050`:                   {"localhost:25", config.TLSNone},
		`smtp: localhost, tunnel: [ssh, gateway, -W, localhost:25]`: {"localhost:25", config.TLSNone},
	} {
		to := ", to: me@example.com"
		if text[:4] == "imap" {
			to = ""
		}
		sink := load(t, "sinks: { a: { "+text+to+" } }"+accounts).Sinks[0]
		server := config.Server{}
		if sink.IMAP != nil {
			server = sink.IMAP.Server
		} else {
			server = sink.SMTP.Server
		}
		if server.Addr != want.addr || server.TLS != want.tls {
			t.Errorf("%s: %s, %s; want %s, %s", text, server.Addr, server.TLS, want.addr, want.tls)
		}
	}
}

// filter: none cancels the filter of the defaults.
func TestNoFilter(t *testing.T) {
	got := load(t, `
sinks: { home: { maildir: /h } }
defaults: { server: pop.example.com, user: me, password_env: X, filter: spamc }
accounts: { with: {}, without: { filter: none } }
`).Accounts
	if got[0].Filter == nil || got[1].Filter != nil {
		t.Errorf("the filters are %v and %v", got[0].Filter, got[1].Filter)
	}
}

func TestDeliveries(t *testing.T) {
	got := load(t, `
sinks: { home: { maildir: /h }, work: { maildir: /w }, any: { smtp: localhost }, bad: { maildir: /b } }
defaults:
  server: pop.example.com
  user: me
  password_env: X
  deliver: [work, home]
accounts:
  all: {}
  one: { deliver: home }
  route: { route: { header: [X-Envelope-To, delivered-to], map: { Me: home, "@EXAMPLE.org": [any, home] }, domains: Example.com } }
  other: { route: { header: X-Envelope-To, default: any, domains: [example.com] }, refused: quarantine, quarantine: bad }
  filter: { filter: spamc }
  strict: { filter: { command: [bogofilter, -p], timeout: 1m, keep: [0, 1, 2], drop: [3], allow_drop: yes, on_failure: wait } }
`).Accounts
	want := []config.Account{
		{Deliver: []string{"work", "home"}},
		{Deliver: []string{"home"}},
		{Deliver: []string{"work", "home"}, Route: &config.Route{
			Headers: []string{"X-Envelope-To", "delivered-to"},
			Map:     map[string][]string{"me": {"home"}, "@example.org": {"any", "home"}}, Domains: []string{"example.com"},
		}},
		{Deliver: []string{"any"}, Route: &config.Route{Headers: []string{"X-Envelope-To"}, Domains: []string{"example.com"}}, Quarantine: "bad"},
		{Deliver: []string{"work", "home"}, Filter: &filter.Options{Argv: []string{"spamc"}}},
		{Deliver: []string{"work", "home"}, Filter: &filter.Options{
			Argv: []string{"bogofilter", "-p"}, Timeout: time.Minute, Keep: []int{0, 1, 2}, Drop: []int{3}, AllowDrop: true, OnFailure: filter.Wait,
		}},
	}
	for i, a := range got {
		seen := config.Account{Deliver: a.Deliver, Route: a.Route, Quarantine: a.Quarantine, Filter: a.Filter}
		if diff := cmp.Diff(want[i], seen, cmpopts.EquateComparable(netip.Addr{}), cmpopts.IgnoreUnexported(config.Config{}, config.Account{}, config.Security{}), cmpopts.EquateEmpty(), cmpopts.IgnoreFields(config.Login{}, "Password", "TokenCommand")); diff != "" {
			t.Errorf("%s:\n%s", a.Name, diff)
		}
	}
	if sinks := got[2].Sinks(); !slices.Equal(sinks, []string{"work", "home", "any"}) {
		t.Errorf("sinks of route: %q", sinks)
	}
}

// A variable in a path is expanded or rejected, never silently dropped.
func TestVariablesInPaths(t *testing.T) {
	t.Setenv("MAIL", "/var/mail")
	const cut = "holds a ${ without a name and a } (write ${NAME}, or $$ for a $ itself)"
	for path, want := range map[string]string{
		"$MAIL/a": "/var/mail/a", "${MAIL}a": "/var/maila", "/a$$": "/a$", "/a$$MAIL": "/a$MAIL", "/a$${": "/a${", "/a$": "/a$", "/$/a": "/$/a",
		"/a${}b": cut, "/a${": cut, "/a${MAIL": cut, "/$$${": cut, "/${UNSET_HERE}": `the variable "$UNSET_HERE" is not set`,
	} {
		c, err := config.Parse("/c.yaml", []byte(strings.Replace(minimal, "maildir: /m", "maildir: '"+path+"'", 1)))
		if err != nil && !strings.Contains(err.Error(), "maildir: "+want) || err == nil && c.Sinks[0].Maildir.Path != want {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}
