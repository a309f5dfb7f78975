package channel

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Trust says which server is the right one, and who we are. The zero Trust
// takes a certificate for the server's name that the system trusts.
type Trust struct {
	// Name is what the certificate must be for, and what the server is told
	// (RFC 6066 §3); empty is the name that is dialled.
	Name string
	// CAs take the place of the system's authorities unless nil.
	CAs []*x509.Certificate
	// Pins, unless nil, take the place of all other checks: the certificate
	// must match one of them.
	Pins []Pin
	// Certificate, if not nil, is shown to a server that asks for one.
	Certificate *tls.Certificate
	// MinVersion is the lowest TLS version accepted; 0 is TLS 1.2. Below that, so are
	// the ciphers of servers that know no better.
	MinVersion uint16
}

// Config returns the configuration for connections to the server at addr,
// host:port. Their sessions are taken up again if s is not nil, unless they are
// begun with a certificate of ours.
func (t Trust) Config(addr string, s *Sessions) *tls.Config {
	c := &tls.Config{ServerName: t.Name, MinVersion: max(t.MinVersion, tls.VersionTLS10)}
	if t.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS12
	}
	if c.MinVersion < tls.VersionTLS12 {
		c.CipherSuites = oldCiphers()
	}
	if t.CAs != nil {
		c.RootCAs = x509.NewCertPool()
		for _, ca := range t.CAs {
			c.RootCAs.AddCert(ca)
		}
	}
	if t.Pins != nil {
		// VerifyConnection, unlike VerifyPeerCertificate, also runs when a
		// session is resumed. What else there is to check then, crypto/tls
		// looks at before it offers the session: name, dates and authority.
		c.InsecureSkipVerify = true
		c.VerifyConnection = t.match
	}
	if t.Certificate != nil {
		// Whatever authorities the server names: it is the one to show.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.Certificate, nil }
	} else if s != nil {
		c.ClientSessionCache = &offer{session: s.of(t.key(addr))}
	}
	return Named(c, addr)
}

// oldCiphers returns all but RC4 (RFC 7465). By itself crypto/tls offers none without
// forward secrecy, and many a server of the days of TLS 1.0 has no other.
func oldCiphers() (ids []uint16) {
	for _, c := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if !strings.Contains(c.Name, "_RC4_") {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// Named returns c with the host of addr, host:port, as the name to verify
// unless it has one. A nil c is that of the zero Trust.
func Named(c *tls.Config, addr string) *tls.Config {
	if c == nil {
		c = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if host, _, err := net.SplitHostPort(addr); err == nil && c.ServerName == "" {
		c = c.Clone()
		c.ServerName = host
	}
	return c
}

// ShowsCertificate reports whether c has a certificate to log in with.
func ShowsCertificate(c *tls.Config) bool { return c != nil && c.GetClientCertificate != nil }

// key names all that decides which server is trusted: a session begun under
// another key was not verified as this one would be.
func (t Trust) key(addr string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %d %d %q\n", addr, t.Name, t.MinVersion, len(t.CAs), t.Pins)
	for _, ca := range t.CAs {
		fmt.Fprintf(h, "CA %x\n", sha256.Sum256(ca.Raw))
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:16])
}
