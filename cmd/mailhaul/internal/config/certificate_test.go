package config_test

import (
	"bytes"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// pair returns a new certificate and its key, in PEM.
func pair(t *testing.T) (cert, key []byte) {
	t.Helper()
	made, cert, err := pop3test.SelfSigned("me")
	if err != nil {
		t.Fatal(err)
	}
	if key, err = pop3test.KeyPEM(made); err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestClientCertificate(t *testing.T) {
	cert, key := pair(t)
	_, other := pair(t)
	der, _ := pem.Decode(key)
	encrypted := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der.Bytes})
	old := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: der.Bytes})
	for what, test := range map[string]struct {
		files map[string][]byte
		mode  os.FileMode
		keys  string
		says  string // empty if it loads
	}{
		"two files":                      {map[string][]byte{"a": cert, "b": key}, 0o600, "tls_cert: a, tls_key: b", ""},
		"one file":                       {map[string][]byte{"a": append(bytes.Clone(key), cert...)}, 0o600, "tls_cert: a", ""},
		"readable by the group":          {map[string][]byte{"a": cert, "b": key}, 0o640, "tls_cert: a, tls_key: b", ""},
		"key readable by everyone":       {map[string][]byte{"a": cert, "b": key}, 0o604, "tls_cert: a, tls_key: b", "tls_key: everyone can read the key in"},
		"one file, readable by everyone": {map[string][]byte{"a": append(bytes.Clone(key), cert...)}, 0o644, "tls_cert: a", "tls_cert: everyone can read the key in"},
		"no key":                         {map[string][]byte{"a": cert}, 0o600, "tls_cert: a", "tls_cert: found a certificate rather than a key in the PEM for the private key (name its key with tls_key)"},
		"key of another certificate":     {map[string][]byte{"a": cert, "b": other}, 0o600, "tls_cert: a, tls_key: b", "tls_key: private key does not match public key"},
		"encrypted":                      {map[string][]byte{"a": cert, "b": encrypted}, 0o600, "tls_cert: a, tls_key: b", "is encrypted, and mailhaul asks for no passphrase"},
		"encrypted, old format":          {map[string][]byte{"a": cert, "b": old}, 0o600, "tls_cert: a, tls_key: b", "is encrypted, and mailhaul asks for no passphrase"},
		"the key only":                   {map[string][]byte{"a": key}, 0o600, "tls_cert: a", "holds no PEM certificate"},
		"key file missing":               {map[string][]byte{"a": cert}, 0o600, "tls_cert: a, tls_key: b", "no such file"},
	} {
		for _, text := range []string{
			"sinks: { home: { maildir: m } }\naccounts: { a: { server: pop.example.com, user: me, KEYS } }\n",
			"sinks: { home: { maildir: m } }\ndefaults: { KEYS }\naccounts: { a: { server: pop.example.com, user: me } }\n",
			"sinks: { home: { smtp: mail.example.com, to: me@example.com, user: me, KEYS } }\n" + accounts,
		} {
			path := write(t, strings.NewReplacer("KEYS", test.keys, "deliver: a", "deliver: home").Replace(text), 0o600)
			for name, content := range test.files {
				file := filepath.Join(filepath.Dir(path), name)
				if err := os.WriteFile(file, content, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(file, test.mode); err != nil {
					t.Fatal(err)
				}
			}
			c, err := config.Load(path)
			switch {
			case test.says != "":
				if err == nil || !strings.Contains(err.Error(), test.says) {
					t.Errorf("%s: %v", what, err)
				}
			case err != nil:
				t.Errorf("%s: %v", what, err)
			case c.Accounts[0].Trust.Certificate == nil && (c.Sinks[0].SMTP == nil || c.Sinks[0].SMTP.Trust.Certificate == nil):
				t.Errorf("%s: the certificate is lost", what)
			}
		}
	}
}

// A folder of authorities may hold other files, and the same certificate twice.
func TestAuthorities(t *testing.T) {
	one, _ := pair(t)
	two, key := pair(t)
	path := write(t, "sinks: { home: { maildir: m } }\naccounts: { a: { server: pop.example.com, user: me, password_env: X, tls_ca: ca } }\n", 0o600)
	ca := filepath.Join(filepath.Dir(path), "ca")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(ca, "more"), 0o700),
		os.WriteFile(filepath.Join(ca, "both.pem"), append(append([]byte("# two\n"), one...), two...), 0o600),
		os.WriteFile(filepath.Join(ca, "key.pem"), key, 0o600),
		os.WriteFile(filepath.Join(ca, "README"), []byte("hello"), 0o600),
		os.Symlink("nowhere", filepath.Join(ca, "dangling")),
		os.Symlink("both.pem", filepath.Join(ca, "1234.0")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Accounts[0].Trust.CAs; len(got) != 4 || !got[0].Equal(got[2]) {
		t.Errorf("%d authorities", len(got))
	}
}

// The keys of an account that say how to reach the server replace those of the defaults.
func TestVia(t *testing.T) {
	got := load(t, `
sinks: { home: { maildir: /m } }
defaults: { server: pop.example.com, user: me, password_env: X, socks5: "[::1]:1081", source_ip: 192.0.2.1, preconnect: a, postpoll: b }
accounts:
  same: {}
  straight: { socks5: none, preconnect: none, postpoll: none }
  tunnel: { tunnel: [bin/nc, "{host}"], preconnect: [a, b] }
  other: { socks5: { server: proxy.example.com, user: me, password: secret }, source_ip: "::ffff:192.0.2.2" }
`).Accounts
	for i, want := range []string{
		`192.0.2.1 [::1]:1081  [] [sh -c a] [sh -c b]`,
		`192.0.2.1 none  [] none none`,
		`invalid IP none  [DIR/bin/nc {host}] [a b] [sh -c b]`,
		`192.0.2.2 proxy.example.com:1080 me [] [sh -c a] [sh -c b]`,
	} {
		a := got[i]
		proxy, user := "none", ""
		if a.SOCKS5 != nil {
			proxy, user = a.SOCKS5.Addr, a.SOCKS5.User
		}
		hook := func(h *config.Hook) string {
			if h == nil {
				return "none"
			}
			return "[" + strings.Join(h.Argv, " ") + "]"
		}
		tunnel := "[" + strings.Join(a.Tunnel, " ") + "]"
		if i == 2 {
			tunnel = "[DIR/bin/nc " + a.Tunnel[1] + "]"
			if !filepath.IsAbs(a.Tunnel[0]) {
				t.Errorf("the program is %q", a.Tunnel[0])
			}
		}
		if seen := strings.Join([]string{a.SourceIP.String(), proxy, user, tunnel, hook(a.Preconnect), hook(a.Postpoll)}, " "); seen != want {
			t.Errorf("%s: %s, want %s", a.Name, seen, want)
		}
	}
}
