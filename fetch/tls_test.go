package fetch_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// newTLSRig returns a rig whose server has a certificate, with implicit TLS or STLS.
func newTLSRig(t *testing.T, security fetch.Security, b pop3test.Behaviour, opts pop3test.CertOptions) (r *rig, cert tls.Certificate) {
	t.Helper()
	cert, ca, err := pop3test.Certificate(opts)
	check(t, err)
	r = newRig(t, b)
	server := pop3test.New(pop3test.Options{Behaviour: b, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	if security == fetch.ImplicitTLS {
		check(t, server.StartTLS())
	} else {
		check(t, server.Start())
	}
	t.Cleanup(func() { server.Close() })
	r.useServer(server)
	r.account.Server.Security = security
	r.account.Server.TLS = trusting(ca)
	return r, cert
}

// trusting returns a TLS configuration that trusts these certificates.
func trusting(ca []byte) *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

// pinned returns a TLS configuration that trusts one certificate.
func pinned(cert tls.Certificate) *tls.Config {
	return channel.Trust{Pins: []channel.Pin{{Sum: sha256.Sum256(cert.Certificate[0])}}}.Config("", nil)
}

// A certificate is accepted or refused as the configuration of the account says; the hint
// of a refusal names the reason. No login is tried after a refusal.
func TestCertificates(t *testing.T) {
	for _, test := range []struct {
		name string
		cert pop3test.CertOptions
		on   func(*fetch.Server, tls.Certificate)
		says string // a part of the error; "" if the login succeeds
		hint string
	}{
		{name: "a certificate to trust"},
		{name: "TLS 1.3 required", on: func(s *fetch.Server, _ tls.Certificate) { s.TLS.MinVersion = tls.VersionTLS13 }},
		{
			name: "for another name", cert: pop3test.CertOptions{Hosts: []string{"pop.example.com"}},
			says: "certificate", hint: "use the name that the certificate is for",
		},
		{
			name: "expired", cert: pop3test.CertOptions{NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour)},
			says: "expired", hint: "out of date",
		},
		{
			name: "not yet valid", cert: pop3test.CertOptions{NotBefore: time.Now().Add(24 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour)},
			says: "not yet valid", hint: "clock",
		},
		{
			name: "of an unknown authority", on: func(s *fetch.Server, _ tls.Certificate) { s.TLS.RootCAs = x509.NewCertPool() },
			says: "unknown authority", hint: "tls_ca",
		},
		{
			name: "the right fingerprint", cert: pop3test.CertOptions{Hosts: []string{"other"}, NotAfter: time.Now().Add(-time.Minute)},
			on: func(s *fetch.Server, cert tls.Certificate) { s.TLS = pinned(cert) },
		},
		{
			name: "the wrong fingerprint", on: func(s *fetch.Server, _ tls.Certificate) {
				s.TLS = channel.Trust{Pins: make([]channel.Pin, 1)}.Config("", nil)
			},
			says: "fingerprint is not tls_fingerprint but ", hint: "compare with the provider",
		},
	} {
		for security, by := range map[fetch.Security]string{fetch.ImplicitTLS: "implicit", fetch.StartTLS: "STLS"} {
			t.Run(test.name+", "+by, func(t *testing.T) {
				t.Parallel()
				r, cert := newTLSRig(t, security, pop3test.Behaviour{}, test.cert)
				if test.on != nil {
					test.on(&r.account.Server, cert)
				}
				want := r.fill(2)
				s := r.poll()
				if test.says == "" {
					if s.Class != fetch.ClassFine || eventsOf[fetch.Connected](r)[0].State == nil {
						t.Fatalf("%v: %v", s.Class, s.Err)
					}
					r.expectDelivered(want...)
					return
				}
				if s.Class != fetch.ClassOperator || !strings.Contains(s.Err.Error(), test.says) || !strings.Contains(fetch.Hint(s.Err), test.hint) {
					t.Errorf("%v: %v (%q)", s.Class, s.Err, fetch.Hint(s.Err))
				}
				r.expectNoLogin()
			})
		}
	}
}

// TLS below 1.2 is refused unless tls_min allows it.
func TestOldTLS(t *testing.T) {
	for _, security := range []fetch.Security{fetch.ImplicitTLS, fetch.StartTLS} {
		cert, ca, err := pop3test.SelfSigned()
		check(t, err)
		r := newRig(t, pop3test.Behaviour{})
		server := pop3test.New(pop3test.Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}})
		if security == fetch.ImplicitTLS {
			check(t, server.StartTLS())
		} else {
			check(t, server.Start())
		}
		t.Cleanup(func() { server.Close() })
		r.useServer(server)
		r.account.Server.Security = security
		r.account.Server.TLS = trusting(ca)
		if s := r.poll(); s.Class != fetch.ClassOperator || !strings.Contains(fetch.Hint(s.Err), "tls_min") {
			t.Errorf("%v: %v (%q)", s.Class, s.Err, fetch.Hint(s.Err))
		}
		r.expectNoLogin()
		r.account.Server.TLS.MinVersion = tls.VersionTLS10
		r.mustPoll()
	}
}

// With tls: starttls, nothing is sent in the clear if TLS cannot be had.
func TestNoDowngrade(t *testing.T) {
	for _, test := range []struct {
		name   string
		server pop3test.Behaviour
		faults []pop3test.Fault
		class  fetch.Class
		says   string
	}{
		{name: "STLS is unknown", server: pop3test.Behaviour{Without: []string{"STLS"}}, class: fetch.ClassOperator, says: "server refused STLS"},
		{name: "only PLAIN, and no STLS", server: pop3test.Behaviour{Capabilities: []string{"SASL PLAIN"}, Without: []string{"STLS"}}, class: fetch.ClassOperator, says: "server refused STLS"},
		{name: "STLS is refused", faults: []pop3test.Fault{pop3test.ReplyErr("STLS", "not today")}, class: fetch.ClassOperator, says: `server refused STLS: "not today"`},
		{name: "STLS fails for now", faults: []pop3test.Fault{pop3test.ReplyErr("STLS", "[SYS/TEMP] TLS not available")}, class: fetch.ClassRetry, says: "SYS/TEMP"},
		{name: "plaintext behind the reply to STLS", faults: []pop3test.Fault{pop3test.InjectAfterSTLS("+OK welcome\r\n")}, class: fetch.ClassOperator, says: "tampers with the connection"},
		{name: "no handshake after STLS", faults: []pop3test.Fault{pop3test.Replace("STLS", "+OK go on\r\n")}, class: fetch.ClassOperator, says: "went on in the clear"},
		{name: "hangs up after STLS", faults: []pop3test.Fault{pop3test.LoseReply("STLS", pop3test.HangUp)}, class: fetch.ClassRetry, says: "closed the connection"},
		{name: "logged in before TLS", faults: []pop3test.Fault{pop3test.Replace(pop3test.Greeting, "+OK ready\r\n+OK logged in\r\n")}, class: fetch.ClassRetry, says: "expected nothing before the command"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r, _ := newTLSRig(t, fetch.StartTLS, test.server, pop3test.CertOptions{})
			impatient(r.account)
			r.server.Order(test.faults...)
			s := r.poll()
			if s.Class != test.class || !strings.Contains(s.Err.Error(), test.says) || s.Class == fetch.ClassOperator && fetch.Hint(s.Err) == "" {
				t.Errorf("%v: %v (%q)", s.Class, s.Err, fetch.Hint(s.Err))
			}
			r.expectNoLogin()
		})
	}
}

func TestImplicitTLSOnPlainPort(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.account.Server.Security = fetch.ImplicitTLS
	if s := r.poll(); s.Class != fetch.ClassOperator || !strings.Contains(fetch.Hint(s.Err), "tls: starttls") {
		t.Errorf("%v: %v (%q)", s.Class, s.Err, fetch.Hint(s.Err))
	}
	r.expectNoLogin()
}
