package channel_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// check fails the test if err is not nil.
func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// server is a TLS server that sends a greeting.
type server struct {
	addr   string
	cert   *x509.Certificate
	config *tls.Config
}

// startServer starts a server with a self-signed certificate. configure, if not nil, changes
// its configuration.
func startServer(t *testing.T, o pop3test.CertOptions, configure func(*tls.Config)) *server {
	t.Helper()
	pair, _, err := pop3test.Certificate(o)
	check(t, err)
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	check(t, err)
	s := &server{cert: cert, config: &tls.Config{Certificates: []tls.Certificate{pair}}}
	if configure != nil {
		configure(s.config)
	}
	s.addr = listen(t, func(conn net.Conn) {
		_, _ = tls.Server(conn, s.config).Write([]byte("+OK\r\n"))
	})
	return s
}

// listen calls serve with each connection until the test ends, and returns the address.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return l.Addr().String()
}

// connect connects with TLS and reads the greeting.
func connect(t *testing.T, addr string, c *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := channel.Via{}.DialContext(ctx, "tcp", addr)
	check(t, err)
	defer conn.Close()
	secure, err := channel.Secure(ctx, conn, c)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	_, err = secure.Read(make([]byte, 100)) // the session ticket comes first
	return secure.(*tls.Conn).ConnectionState(), err
}

func TestTrust(t *testing.T) {
	now := time.Now()
	good := startServer(t, pop3test.CertOptions{}, nil)
	other := startServer(t, pop3test.CertOptions{Hosts: []string{"mail.example.org"}}, nil)
	wildcard := startServer(t, pop3test.CertOptions{Hosts: []string{"*.example.net"}}, nil)
	both := startServer(t, pop3test.CertOptions{Hosts: []string{"*.example.net", "example.net"}}, nil)
	expired := startServer(t, pop3test.CertOptions{NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)}, nil)
	early := startServer(t, pop3test.CertOptions{NotBefore: now.Add(time.Hour)}, nil)
	old := startServer(t, pop3test.CertOptions{}, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })
	plain := &server{addr: listen(t, func(conn net.Conn) { _, _ = conn.Write([]byte("+OK no TLS here\r\n")) })}
	byCA := func(s *server) channel.Trust { return channel.Trust{CAs: []*x509.Certificate{s.cert}} }
	pins := func(pins ...channel.Pin) channel.Trust { return channel.Trust{Pins: pins} }
	withName := func(trust channel.Trust, name string) channel.Trust { trust.Name = name; return trust }
	withMinVersion := func(trust channel.Trust, version uint16) channel.Trust { trust.MinVersion = version; return trust }
	for _, test := range []struct {
		name  string
		s     *server
		trust channel.Trust
		hint  string // empty if it is trusted
	}{
		{"its authority", good, byCA(good), ""},
		{"one of two authorities", good, channel.Trust{CAs: []*x509.Certificate{other.cert, good.cert}}, ""},
		{"the system's authorities", good, channel.Trust{}, "its own authority"},
		{"another authority", good, byCA(other), "its own authority"},
		{"another name", other, byCA(other), `tls_name: "mail.example.org"`},
		{"its name as Trust.Name", other, withName(byCA(other), "mail.example.org"), ""},
		{"the wrong name", other, withName(byCA(other), "mail.example.com"), `tls_name: "mail.example.org"`},
		{"a wildcard", wildcard, byCA(wildcard), `tls_name: "mail.example.net"`},
		{"the name of the hint", wildcard, withName(byCA(wildcard), "mail.example.net"), ""},
		{"one of two names", both, byCA(both), `tls_name: "example.net"`},
		{"the certificate's pin", other, pins(channel.PinsOf(other.cert)[0]), ""},
		{"the key's pin", other, pins(channel.PinsOf(other.cert)[1]), ""},
		{"one of two pins", good, pins(channel.PinsOf(other.cert)[0], channel.PinsOf(good.cert)[1]), ""},
		{"a wrong pin", good, pins(channel.PinsOf(other.cert)...), "compare with the provider"},
		{"the certificate's sum as a key's pin", good, pins(channel.Pin{Key: true, Sum: channel.PinsOf(good.cert)[0].Sum}), "compare with the provider"},
		{"expired", expired, byCA(expired), "out of date"},
		{"not yet valid", early, byCA(early), "not valid yet"},
		{"expired, but pinned", expired, pins(channel.PinsOf(expired.cert)[0]), ""},
		{"old TLS", old, byCA(old), "lower tls_min"},
		{"old TLS, accepted", old, withMinVersion(byCA(old), tls.VersionTLS11), ""},
		{"newer TLS than it has", old, withMinVersion(byCA(old), tls.VersionTLS13), "lower tls_min"},
		{"no TLS", plain, byCA(good), "does not speak TLS"},
	} {
		_, err := connect(t, test.s.addr, test.trust.Config(test.s.addr, nil))
		if test.hint == "" {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		a, ok := channel.Advise(err)
		if err == nil || !ok || !a.Person || !strings.Contains(a.Hint, test.hint) {
			t.Errorf("%s: %v, %+v", test.name, err, a)
		}
	}
}

// TestOldCiphers has a server without a cipher with forward secrecy. It is accepted only if
// Trust.MinVersion is below TLS 1.2, and RC4 never.
func TestOldCiphers(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS12} {
		var cert *x509.Certificate
		s := startServer(t, pop3test.CertOptions{}, func(c *tls.Config) {
			template, err := x509.ParseCertificate(c.Certificates[0].Certificate[0])
			check(t, err)
			template.SignatureAlgorithm, template.PublicKey = 0, key.Public()
			raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
			check(t, err)
			cert, err = x509.ParseCertificate(raw)
			check(t, err)
			c.Certificates = []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}}
			c.MinVersion, c.MaxVersion = version, version
			c.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}
		})
		trust := channel.Trust{Pins: channel.PinsOf(cert)}
		_, err = connect(t, s.addr, trust.Config(s.addr, nil))
		if a, ok := channel.Advise(err); err == nil || !ok || !a.Person || !strings.Contains(a.Hint, "lower tls_min") {
			t.Errorf("%#x: %v, %+v", version, err, a)
		}
		trust.MinVersion = tls.VersionTLS10
		if _, err = connect(t, s.addr, trust.Config(s.addr, nil)); err != nil {
			t.Errorf("%#x, accepted: %v", version, err)
		}
	}
	for _, id := range (channel.Trust{MinVersion: tls.VersionTLS10}).Config("a:995", nil).CipherSuites {
		if strings.Contains(tls.CipherSuiteName(id), "RC4") {
			t.Errorf("%s is accepted", tls.CipherSuiteName(id))
		}
	}
}

// TestServerName checks that Trust.Name is also sent to the server.
func TestServerName(t *testing.T) {
	var serverName string
	s := startServer(t, pop3test.CertOptions{Hosts: []string{"mail.example.org"}}, func(c *tls.Config) {
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) { serverName = hello.ServerName; return nil, nil }
	})
	_, err := connect(t, s.addr, channel.Trust{Name: "mail.example.org", CAs: []*x509.Certificate{s.cert}}.Config(s.addr, nil))
	if err != nil || serverName != "mail.example.org" {
		t.Errorf("the server received the name %q, %v", serverName, err)
	}
}

func TestClientCertificate(t *testing.T) {
	cert, _, err := pop3test.SelfSigned("me")
	check(t, err)
	other, _, err := pop3test.SelfSigned("other")
	check(t, err)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s := startServer(t, pop3test.CertOptions{}, func(c *tls.Config) {
			c.MaxVersion, c.ClientAuth = version, tls.RequireAnyClientCert
			c.VerifyPeerCertificate = func(raw [][]byte, _ [][]*x509.Certificate) error {
				if string(raw[0]) != string(cert.Certificate[0]) {
					return errors.New("not the client")
				}
				return nil
			}
		})
		for name, test := range map[string]struct {
			cert *tls.Certificate
			ok   bool
		}{
			"the right one": {&cert, true}, "another": {&other, false}, "none": {nil, false},
			"with the wrong key": {&tls.Certificate{Certificate: cert.Certificate, PrivateKey: other.PrivateKey}, false},
		} {
			trust := channel.Trust{CAs: []*x509.Certificate{s.cert}, Certificate: test.cert}
			_, err := connect(t, s.addr, trust.Config(s.addr, nil))
			if test.ok {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			if a, ok := channel.Advise(err); err == nil || !ok || !a.Person {
				t.Errorf("%s, %s: %v, %+v", tls.VersionName(version), name, err, a)
			}
		}
	}
}

func TestParsePin(t *testing.T) {
	cert, _, err := pop3test.SelfSigned()
	check(t, err)
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	check(t, err)
	for _, want := range channel.PinsOf(leaf) {
		got, err := channel.ParsePin(want.String())
		if got != want || err != nil {
			t.Errorf("%v parsed as %v, %v", want, got, err)
		}
	}
	const sum = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	colons := strings.TrimPrefix(strings.ReplaceAll(sum, "00", ":00"), ":")
	for text, want := range map[string]string{
		sum: sum, strings.ToUpper(sum): sum, colons: sum, "key:" + colons: "key:" + sum,
		"sha256//ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=": "key:" + sum,
		"": "", "key:": "", sum[2:]: "", sum + "00": "", "sha256//": "", "sha256//AAAA": "", "KEY:" + sum: "", "sha256:" + sum: "",
	} {
		got, err := channel.ParsePin(text)
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
