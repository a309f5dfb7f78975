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

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// server is a TLS server that says a word to whoever comes.
type server struct {
	addr   string
	cert   *x509.Certificate
	config *tls.Config
}

// serve starts a server with a certificate of its own.
func serve(t *testing.T, o pop3test.CertOptions, also func(*tls.Config)) *server {
	t.Helper()
	pair, _, err := pop3test.Certificate(o)
	check(t, err)
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	check(t, err)
	s := &server{cert: cert, config: &tls.Config{Certificates: []tls.Certificate{pair}}}
	if also != nil {
		also(s.config)
	}
	s.addr = listen(t, func(conn net.Conn) {
		_, _ = tls.Server(conn, s.config).Write([]byte("+OK\r\n"))
	})
	return s
}

// listen answers connections until the test ends, and returns where.
func listen(t *testing.T, answer func(net.Conn)) string {
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
				answer(conn)
			}()
		}
	}()
	return l.Addr().String()
}

// talk connects and reads what the server says.
func talk(t *testing.T, addr string, c *tls.Config) (tls.ConnectionState, error) {
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
	_, err = secure.Read(make([]byte, 100)) // a ticket comes before it
	return secure.(*tls.Conn).ConnectionState(), err
}

func TestTrust(t *testing.T) {
	now := time.Now()
	good := serve(t, pop3test.CertOptions{}, nil)
	other := serve(t, pop3test.CertOptions{Hosts: []string{"mail.example.org"}}, nil)
	wild := serve(t, pop3test.CertOptions{Hosts: []string{"*.example.net"}}, nil)
	both := serve(t, pop3test.CertOptions{Hosts: []string{"*.example.net", "example.net"}}, nil)
	expired := serve(t, pop3test.CertOptions{NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)}, nil)
	early := serve(t, pop3test.CertOptions{NotBefore: now.Add(time.Hour)}, nil)
	old := serve(t, pop3test.CertOptions{}, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })
	plain := &server{addr: listen(t, func(conn net.Conn) { _, _ = conn.Write([]byte("+OK no TLS here\r\n")) })}
	by := func(s *server) channel.Trust { return channel.Trust{CAs: []*x509.Certificate{s.cert}} }
	pins := func(pins ...channel.Pin) channel.Trust { return channel.Trust{Pins: pins} }
	named := func(trust channel.Trust, name string) channel.Trust { trust.Name = name; return trust }
	from := func(trust channel.Trust, version uint16) channel.Trust { trust.MinVersion = version; return trust }
	for _, test := range []struct {
		what  string
		s     *server
		trust channel.Trust
		hint  string // empty if it is trusted
	}{
		{"its authority", good, by(good), ""},
		{"one of two authorities", good, channel.Trust{CAs: []*x509.Certificate{other.cert, good.cert}}, ""},
		{"the system's authorities", good, channel.Trust{}, "its own authority"},
		{"another authority", good, by(other), "its own authority"},
		{"no name but another", other, by(other), `tls_name: "mail.example.org"`},
		{"its name", other, named(by(other), "mail.example.org"), ""},
		{"the wrong name", other, named(by(other), "mail.example.com"), `tls_name: "mail.example.org"`},
		{"a name below", wild, by(wild), `tls_name: "mail.example.net"`},
		{"the name that was suggested", wild, named(by(wild), "mail.example.net"), ""},
		{"one of two names", both, by(both), `tls_name: "example.net"`},
		{"the certificate's pin", other, pins(channel.PinsOf(other.cert)[0]), ""},
		{"the key's pin", other, pins(channel.PinsOf(other.cert)[1]), ""},
		{"one of two pins", good, pins(channel.PinsOf(other.cert)[0], channel.PinsOf(good.cert)[1]), ""},
		{"a wrong pin", good, pins(channel.PinsOf(other.cert)...), "compare with the provider"},
		{"the right sum of the wrong thing", good, pins(channel.Pin{Key: true, Sum: channel.PinsOf(good.cert)[0].Sum}), "compare with the provider"},
		{"expired", expired, by(expired), "out of date"},
		{"not yet valid", early, by(early), "not valid yet"},
		{"expired, but pinned", expired, pins(channel.PinsOf(expired.cert)[0]), ""},
		{"TLS of old", old, by(old), "lower tls_min"},
		{"TLS of old, taken", old, from(by(old), tls.VersionTLS11), ""},
		{"newer TLS than it has", old, from(by(old), tls.VersionTLS13), "lower tls_min"},
		{"no TLS", plain, by(good), "does not speak TLS"},
	} {
		_, err := talk(t, test.s.addr, test.trust.Config(test.s.addr, nil))
		if test.hint == "" {
			if err != nil {
				t.Errorf("%s: %v", test.what, err)
			}
			continue
		}
		a, ok := channel.Advise(err)
		if err == nil || !ok || !a.Person || !strings.Contains(a.Hint, test.hint) {
			t.Errorf("%s: %v, %+v", test.what, err, a)
		}
	}
}

// A server may know no cipher with forward secrecy. It is taken as is one of TLS 1.0,
// and no sooner.
func TestOldCiphers(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS12} {
		var cert *x509.Certificate
		s := serve(t, pop3test.CertOptions{}, func(c *tls.Config) {
			like, err := x509.ParseCertificate(c.Certificates[0].Certificate[0])
			check(t, err)
			like.SignatureAlgorithm, like.PublicKey = 0, key.Public()
			raw, err := x509.CreateCertificate(rand.Reader, like, like, key.Public(), key)
			check(t, err)
			cert, err = x509.ParseCertificate(raw)
			check(t, err)
			c.Certificates = []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}}
			c.MinVersion, c.MaxVersion = version, version
			c.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}
		})
		trust := channel.Trust{Pins: channel.PinsOf(cert)}
		_, err = talk(t, s.addr, trust.Config(s.addr, nil))
		if a, ok := channel.Advise(err); err == nil || !ok || !a.Person || !strings.Contains(a.Hint, "lower tls_min") {
			t.Errorf("%#x: %v, %+v", version, err, a)
		}
		trust.MinVersion = tls.VersionTLS10
		if _, err = talk(t, s.addr, trust.Config(s.addr, nil)); err != nil {
			t.Errorf("%#x, taken: %v", version, err)
		}
	}
	for _, id := range (channel.Trust{MinVersion: tls.VersionTLS10}).Config("a:995", nil).CipherSuites {
		if strings.Contains(tls.CipherSuiteName(id), "RC4") {
			t.Errorf("%s is taken", tls.CipherSuiteName(id))
		}
	}
}

// The name to verify is told to the server as well.
func TestServerName(t *testing.T) {
	var told string
	s := serve(t, pop3test.CertOptions{Hosts: []string{"mail.example.org"}}, func(c *tls.Config) {
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) { told = hello.ServerName; return nil, nil }
	})
	_, err := talk(t, s.addr, channel.Trust{Name: "mail.example.org", CAs: []*x509.Certificate{s.cert}}.Config(s.addr, nil))
	if err != nil || told != "mail.example.org" {
		t.Errorf("told %q, %v", told, err)
	}
}

func TestClientCertificate(t *testing.T) {
	mine, _, err := pop3test.SelfSigned("me")
	check(t, err)
	other, _, err := pop3test.SelfSigned("other")
	check(t, err)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s := serve(t, pop3test.CertOptions{}, func(c *tls.Config) {
			c.MaxVersion, c.ClientAuth = version, tls.RequireAnyClientCert
			c.VerifyPeerCertificate = func(raw [][]byte, _ [][]*x509.Certificate) error {
				if string(raw[0]) != string(mine.Certificate[0]) {
					return errors.New("not the client")
				}
				return nil
			}
		})
		for what, test := range map[string]struct {
			cert *tls.Certificate
			ok   bool
		}{
			"the right one": {&mine, true}, "another": {&other, false}, "none": {nil, false},
			"with the wrong key": {&tls.Certificate{Certificate: mine.Certificate, PrivateKey: other.PrivateKey}, false},
		} {
			trust := channel.Trust{CAs: []*x509.Certificate{s.cert}, Certificate: test.cert}
			_, err := talk(t, s.addr, trust.Config(s.addr, nil))
			if test.ok {
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
				continue
			}
			if a, ok := channel.Advise(err); err == nil || !ok || !a.Person {
				t.Errorf("%s, %s: %v, %+v", tls.VersionName(version), what, err, a)
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
			t.Errorf("%v became %v, %v", want, got, err)
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
