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

// Trust says how the server proves its identity with TLS, and the client its own. The
// zero Trust requires a certificate for the server's name that the system trusts.
type Trust struct {
	// Name is the name that the certificate must be for, which is also sent to the
	// server (RFC 6066 §3). Empty means the name that is dialled.
	Name string
	// CAs, if not nil, replace the system's authorities.
	CAs []*x509.Certificate
	// Pins, if not nil, replace all other checks: the certificate must match one of
	// them.
	Pins []Pin
	// Certificate, if not nil, is sent to a server that asks for one.
	Certificate *tls.Certificate
	// MinVersion is the lowest TLS version that is accepted; 0 means TLS 1.2. A lower
	// one also enables the ciphers of old servers.
	MinVersion uint16
}

// Config returns the TLS configuration for connections to the server at addr,
// host:port. If s is not nil, it resumes their sessions, unless there is a client
// certificate.
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
		// VerifyConnection, unlike VerifyPeerCertificate, also runs when a session
		// is resumed. Without pins nothing is needed then: crypto/tls checks name,
		// dates and authority before it offers the session.
		c.InsecureSkipVerify = true
		c.VerifyConnection = t.verifyPins
	}
	if t.Certificate != nil {
		// Send it whatever authorities the server names.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.Certificate, nil }
	} else if s != nil {
		c.ClientSessionCache = &sessionCache{session: s.session(t.sessionKey(addr))}
	}
	return Named(c, addr)
}

// oldCiphers returns all ciphers but RC4 (RFC 7465). The default of crypto/tls has none
// without forward secrecy, and many servers from the time of TLS 1.0 support no other.
func oldCiphers() (ids []uint16) {
	for _, c := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if !strings.Contains(c.Name, "_RC4_") {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// Named returns c with the host of addr, host:port, as the ServerName unless it has
// one. A nil c means the configuration of the zero Trust.
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

// ShowsCertificate reports whether c has a client certificate.
func ShowsCertificate(c *tls.Config) bool { return c != nil && c.GetClientCertificate != nil }

// sessionKey returns a key for everything that decides whether a server is trusted: a
// session that began under another key was verified differently.
func (t Trust) sessionKey(addr string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %d %d %q\n", addr, t.Name, t.MinVersion, len(t.CAs), t.Pins)
	for _, ca := range t.CAs {
		fmt.Fprintf(h, "CA %x\n", sha256.Sum256(ca.Raw))
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:16])
}
