package config_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/manual"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
)

func write(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Load(write(t, text, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ignoreUncomparable leaves out of a comparison of configurations what a test cannot state:
// unexported fields, where secrets come from, and the lines of sinks.
var ignoreUncomparable = cmp.Options{
	cmpopts.EquateComparable(netip.Addr{}),
	cmpopts.IgnoreUnexported(config.Config{}, config.Account{}, config.Security{}),
	cmpopts.IgnoreFields(config.Login{}, "Password", "TokenCommand"),
	cmpopts.IgnoreFields(config.Sink{}, "Line"),
}

const minimal = `
sinks: { home: { maildir: /m } }
accounts:
  work: { server: pop.example.com, user: me, password_env: X }
`

func TestDefaults(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	t.Setenv("XDG_STATE_HOME", "relative/is/ignored")
	got := load(t, minimal)
	want := &config.Config{
		State: "/home/me/.local/state/mailhaul", Parallel: 8, PerHost: 2, Grace: 10 * time.Second,
		Sinks: []config.Sink{{Name: "home", Maildir: &config.Maildir{Path: "/m", Mode: 0o600}}},
		Accounts: []config.Account{{
			Name: "work", Host: "pop.example.com", Protocol: config.POP3, Security: config.Security{TLS: config.TLSImplicit}, Login: config.Login{User: "me"},
			Deliver: []string{"home"}, ReceivedHeader: true,
		}},
	}
	if diff := cmp.Diff(want, got, ignoreUncomparable, cmpopts.IgnoreFields(config.Config{}, "Path")); diff != "" {
		t.Error(diff)
	}
}

func TestEveryOption(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	t.Setenv("MAIL", "/var/mail")
	path := write(t, `
state: state
parallel: 3
per_host: 1
metrics: "[::1]:9110"
metrics_file: mailhaul.prom
notify: mail -s x me
grace: 20s
sinks:
  a: { maildir: ~/Maildir, folder: .Lists.Go, mode: 0640 }
  b: { mbox: "${MAIL}/me$$", lock_timeout: 1m30s }
defaults: &d
  user: me
  password_env: X
  tls_min: 1.0
  keep: forever
  auth: [plain, login]
  deliver: a
accounts:
  one:
    server: "[2001:db8::1]:1995"
    tls: starttls
    keep: 2w
    deliver: b
    refused: quarantine
    quarantine: a
    max_size: 1.5M
    max_messages: 10
    received_header: no
    delivered_to: me@example.org
    return_path: yes
    timeout: 5s
    every: 10m
    time_limit: 1d
    pipelining: off
    tls_fingerprint: "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF"
  two:
    <<: *d
    server: pop.example.com
    auth: auto
    pipelining: 20
    keep: off
`, 0o600)
	got, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	var sum [32]byte
	for i := range sum {
		sum[i] = byte(i % 16 * 0x11)
	}
	want := &config.Config{
		Path: path, State: filepath.Join(filepath.Dir(path), "state"), Parallel: 3, PerHost: 1, Grace: 20 * time.Second,
		Metrics: "[::1]:9110", MetricsFile: filepath.Join(filepath.Dir(path), "mailhaul.prom"), Notify: []string{"sh", "-c", "mail -s x me"},
		Sinks: []config.Sink{
			{Name: "a", Maildir: &config.Maildir{Path: "/home/me/Maildir", Folder: ".Lists.Go", Mode: 0o640}},
			{Name: "b", Mbox: &config.Mbox{Path: "/var/mail/me$", LockTimeout: 90 * time.Second}},
		},
		Accounts: []config.Account{{
			Name: "one", Host: "2001:db8::1", Port: 1995, Protocol: config.POP3,
			Security: config.Security{TLS: config.TLSStart, Trust: channel.Trust{MinVersion: tls.VersionTLS10, Pins: []channel.Pin{{Sum: sum}}}},
			Login:    config.Login{User: "me", Auth: []string{"plain", "login"}},
			Deliver:  []string{"b"}, Quarantine: "a", Keep: fetch.Keep{For: 14 * 24 * time.Hour},
			MaxSize: 3 << 19, MaxMessages: 10, DeliveredTo: "me@example.org", ReturnPath: true,
			Timeout: 5 * time.Second, Every: 10 * time.Minute, TimeLimit: 24 * time.Hour, Window: 1,
		}, {
			Name: "two", Host: "pop.example.com", Protocol: config.POP3,
			Security: config.Security{TLS: config.TLSImplicit, Trust: channel.Trust{MinVersion: tls.VersionTLS10}},
			Login:    config.Login{User: "me"}, Deliver: []string{"a"}, ReceivedHeader: true, Window: 20,
		}},
	}
	if diff := cmp.Diff(want, got, ignoreUncomparable); diff != "" {
		t.Error(diff)
	}
}

// A name in another alphabet is converted to the form that the DNS and certificates use.
func TestAnotherAlphabet(t *testing.T) {
	cfg := load(t, strings.Replace(minimal, "pop.example.com", "pop.bücher.example:1995, tls_name: BÜCHER.example", 1))
	if a := cfg.Accounts[0]; a.Host != "pop.xn--bcher-kva.example" || a.Port != 1995 || a.Trust.Name != "xn--bcher-kva.example" {
		t.Errorf("host %q, port %d, name %q", a.Host, a.Port, a.Trust.Name)
	}
}

func TestByteOrderMark(t *testing.T) { load(t, "\xef\xbb\xbf"+minimal) }

// The example is what people start from: it must load, and name every key.
func TestExample(t *testing.T) {
	text, err := os.ReadFile("../../../../config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(write(t, string(text), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Accounts) < 2 || len(c.Sinks) < 2 {
		t.Errorf("got %d accounts, %d sinks", len(c.Accounts), len(c.Sinks))
	}
	for _, key := range config.Keys() {
		if !regexp.MustCompile(`(?m)^[ #]*` + key + `:`).Match(text) {
			t.Errorf("the key %s is not in config.example.yaml", key)
		}
	}
	// The manual page takes no other word before a colon for a key; ada is one of a map.
	known := append(config.Keys(), "ada")
	for _, found := range regexp.MustCompile(`(?m)^\.It "\\fB([a-z0-9_]+):`).FindAllStringSubmatch(manual.Config(text), -1) {
		if !slices.Contains(known, found[1]) {
			t.Errorf("mailhaul.yaml(5) takes %q for a key", found[1])
		}
	}
	// What is commented out must be right as well.
	var out []string
	for line := range strings.Lines(string(text)) {
		line = regexp.MustCompile(`^( *)# (notify|metrics|metrics_file|tls_ca|tls_fingerprint|tls_cert|tls_key|socks5|tunnel|source_ip|preconnect|postpoll|password_file|password_env|password|token_command|client_secret_file|client_secret_env|client_secret|sender):`).ReplaceAllString(line, "$1$2:")
		out = append(out, line)
	}
	_, err = config.Load(write(t, strings.Join(out, ""), 0o600))
	var mistakes *config.Error
	if !errors.As(err, &mistakes) {
		t.Fatalf("with everything set at once: %v", err)
	}
	for _, p := range mistakes.Problems {
		if strings.Contains(p.Text, "unknown key") || strings.Contains(p.Text, "line ") {
			t.Errorf("%v", p)
		}
	}
}

func TestOthersCanRead(t *testing.T) {
	secret := strings.Replace(minimal, "password_env: X", "password: hunter2", 1)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644} {
		path := write(t, secret, mode)
		_, err := config.Load(path)
		if err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	for _, mode := range []os.FileMode{0o600, 0o400} {
		if _, err := config.Load(write(t, secret, mode)); err != nil {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	// A file without a secret may be readable by all.
	if _, err := config.Load(write(t, minimal, 0o644)); err != nil {
		t.Error(err)
	}
}

// A configuration that comes from a pipe has no folder that paths could be relative to.
func TestPipe(t *testing.T) {
	loadFromPipe := func(text string) error {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := w.WriteString(text); err != nil {
			t.Fatal(err)
		}
		w.Close()
		path := fmt.Sprintf("/dev/fd/%d", r.Fd())
		if _, err := os.Stat(path); err != nil {
			t.Skipf("NOT TESTED: this system names no open files: %v", err)
		}
		_, err = config.Load(path)
		return err
	}
	absolute := "state: /var/lib/mailhaul\nsinks: { home: { maildir: /m } }\naccounts: { a: { server: b, user: c, password: d } }\n"
	if err := loadFromPipe(absolute); err != nil {
		t.Errorf("a configuration with absolute paths: %v", err)
	}
	err := loadFromPipe(strings.Replace(absolute, "maildir: /m", "maildir: m", 1))
	if err == nil || !strings.Contains(err.Error(), `line 2: sink home: maildir: "m" is relative to the configuration, which is no file (write the whole path)`) {
		t.Errorf("a configuration with a relative path: %v", err)
	}
}

// A mistake that many accounts share is listed once; other mistakes are listed as well.
func TestMistakeOfMany(t *testing.T) {
	var text strings.Builder
	text.WriteString("sinks: { home: { maildir: /m }, local: { lmtp: /run/lmtp } }\ndefaults: { server: x, password_env: P, deliver: hoem }\naccounts:\n")
	for i := range 150 {
		deliver := []string{"hmoe", "hmoe", "local"}[i%3]
		fmt.Fprintf(&text, "  u%d: { user: u%d, deliver: %s }\n", i, i, deliver)
	}
	text.WriteString("  odd: { user: u, deliver: home, evry: 5m }\n  two: { user: v, deliver: home, evry: 5m }\n")
	_, err := config.Parse("/c.yaml", []byte(text.String()))
	want := `/c.yaml: 153 mistakes
  line 2: defaults: deliver: there is no sink "hoem" (did you mean "home"?)
  line 4: account u0: deliver: there is no sink "hmoe" (did you mean "home"?)
    the same in 99 other accounts: u1, u3, u4, u6, u7, u9, u10, u12, u13, u15, u16, u18, u19, u21, u22, u24, u25, u27, u28, u30 and 79 more
  line 6: account u2: deliver: sink "local" does not say for whom the mail is (to: me@example.com in the sink, or a route in the account)
    the same in 49 other accounts: u5, u8, u11, u14, u17, u20, u23, u26, u29, u32, u35, u38, u41, u44, u47, u50, u53, u56, u59, u62 and 29 more
  line 154: account odd: unknown key "evry" (did you mean "every"?)
  line 155: account two: unknown key "evry" (did you mean "every"?)`
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

// Missing files count as the same mistake, although their names differ.
func TestMissingFilesOfMany(t *testing.T) {
	text := "sinks: { home: { maildir: /m } }\naccounts:\n"
	for _, name := range []string{"a", "b", "c", "d"} {
		text += fmt.Sprintf("  %s: { server: x, user: u, password_env: P, tls_ca: /nowhere/%[1]s.pem }\n", name)
	}
	_, err := config.Parse("/c.yaml", []byte(text))
	want := `/c.yaml: 4 mistakes
  line 3: account a: tls_ca: stat /nowhere/a.pem: no such file or directory
    the same in 3 other accounts: b, c, d`
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

// Mistakes in different values are listed one by one.
func TestOwnMistakesOfMany(t *testing.T) {
	text := "sinks: { home: { maildir: /m } }\naccounts:\n"
	want := "/c.yaml: 4 mistakes"
	for i, name := range []string{"a", "b", "c", "d"} {
		text += fmt.Sprintf("  %s: { server: \"http://%[1]s:995\", user: u, password_env: P }\n", name)
		want += fmt.Sprintf("\n  line %d: account %s: server: \"http://%[2]s:995\" is a URL (write host:port, and tls: for how it is protected)", 3+i, name)
	}
	_, err := config.Parse("/c.yaml", []byte(text))
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

func TestTooLarge(t *testing.T) {
	_, err := config.Load(write(t, minimal+strings.Repeat("#\n", 8<<20), 0o600))
	if err == nil || !strings.Contains(err.Error(), "is larger than 16 MiB") {
		t.Errorf("error %v", err)
	}
}

func TestFind(t *testing.T) {
	home, xdg := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", xdg)
	t.Setenv("MAILHAUL_CONFIG", "")
	_, err := config.Find("")
	var missing *config.NotFound
	want := []string{xdg + "/mailhaul/config.yaml", home + "/.config/mailhaul/config.yaml"}
	if !errors.As(err, &missing) || !slices.Equal(missing.Looked, want) {
		t.Fatalf("error %v, want it to name %v", err, want)
	}
	find := func(explicit, want string) {
		t.Helper()
		if got, err := config.Find(explicit); got != want || err != nil {
			t.Errorf("Find(%q) = %q, %v; want %q", explicit, got, err, want)
		}
	}
	for i := len(want) - 1; i >= 0; i-- { // the first comes before the second
		if err := os.MkdirAll(filepath.Dir(want[i]), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(want[i], nil, 0o600); err != nil {
			t.Fatal(err)
		}
		find("", want[i])
	}
	t.Setenv("MAILHAUL_CONFIG", "/from/env")
	find("", "/from/env")
	find("given", "given")
	find("~/given", home+"/given")
	find("~user/given", "~user/given")
	t.Setenv("MAILHAUL_CONFIG", "~/from/env")
	find("", home+"/from/env")
}

func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob(configs + "/broken/*.yaml")
	for _, file := range append(files, "../../../../config.example.yaml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(minimal))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse("/dir/config.yaml", data)
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v, error %v", c, err)
		}
		if c == nil {
			return
		}
		for _, a := range c.Accounts {
			if a.Host == "" || a.User == "" || len(a.Deliver) == 0 {
				t.Fatalf("an account that cannot be polled was accepted: %+v", a)
			}
			for _, name := range a.Sinks() {
				if c.Sink(name) == nil {
					t.Fatalf("an account that delivers to nowhere was accepted: %+v", a)
				}
			}
		}
	})
}
