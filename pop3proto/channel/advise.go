package channel

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// Advice is what the user can do about an error of a connection.
type Advice struct {
	// Person means that only a person can help. Otherwise, the next try may succeed.
	Person bool
	Hint   string
}

// Advise returns the advice for an error of a connection. ok is false for errors that it
// does not know.
func Advise(err error) (a Advice, ok bool) {
	if e, ok := errors.AsType[*ProxyError](err); ok {
		return adviseProxy(e), true
	}
	if e, ok := errors.AsType[*TunnelError](err); ok {
		if e.Unstarted {
			return Advice{true, "check tunnel: the program must be there and may be run"}, true
		}
		return Advice{false, "try the command of tunnel by hand; it must ask nobody anything"}, true
	}
	if _, ok := errors.AsType[*ResumeError](err); ok {
		return Advice{false, "the next poll begins a new one, and so do all after it"}, true
	}
	if hint, ok := certificateHint(err); ok {
		return Advice{true, hint}, true
	}
	if hint, ok := handshakeHint(err); ok {
		return Advice{true, hint}, true
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		if e.IsNotFound {
			return Advice{true, "check the spelling of the server's name"}, true
		}
		return Advice{false, "the name server did not answer: check the network"}, true
	}
	// Connecting fails with the same errno without IPv6 or a free port, but not in bind.
	if e, ok := errors.AsType[*os.SyscallError](err); ok && e.Syscall == "bind" && e.Err == syscall.EADDRNOTAVAIL {
		return Advice{false, "source_ip must be an address of this machine"}, true
	}
	if e, ok := errors.AsType[*net.AddrError](err); ok && strings.HasPrefix(e.Err, "no suitable address") {
		return Advice{true, "the server has no address of the family of source_ip (IPv4 or IPv6)"}, true
	}
	return Advice{}, false
}

// adviseProxy looks at the error's text, since package proxy has no error types.
func adviseProxy(e *ProxyError) Advice {
	text := e.Err.Error()
	switch {
	case strings.Contains(text, "no password"), strings.Contains(text, "authentication failed"):
		return Advice{true, "check user and password of socks5"}
	case strings.Contains(text, "no acceptable authentication methods"), strings.Contains(text, "unsupported authentication method"):
		return Advice{true, "the proxy wants another login: socks5: { server: …, user: …, password_file: … }"}
	case strings.Contains(text, "unexpected protocol version"):
		return Advice{true, "this is not a SOCKS5 proxy: check socks5"}
	case strings.Contains(text, "not allowed by ruleset"):
		return Advice{true, "the proxy does not allow this server or port: ask who runs it"}
	case e.Local:
		return Advice{false, "check socks5, and that the proxy is running"}
	default:
		return Advice{false, "the proxy cannot reach the server: check server and port, and the proxy's network"}
	}
}

// certificateHint covers errors of verifying the server's certificate.
func certificateHint(err error) (hint string, ok bool) {
	if _, ok := errors.AsType[*PinError](err); ok {
		return "compare with the provider; if the new certificate is right, set tls_fingerprint to it", true
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		if e.Cert != nil && time.Now().Before(e.Cert.NotBefore) {
			return "the server's certificate is not valid yet, or this machine's clock is wrong: check the clock, then tell the server's operator", true
		}
		return "the server's certificate is out of date (or this machine's clock is wrong): tell its operator", true
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		if name := certificateName(e.Certificate); name != "" {
			return fmt.Sprintf("use the name that the certificate is for, as in tls_name: %.100q, if the server is the right one; or pin it with tls_fingerprint",
				name), true
		}
		return "use the name that the certificate is for, or pin the certificate with the tls_fingerprint that mailhaul check prints", true
	}
	if e, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		if e.Cert != nil && e.Cert.CheckSignatureFrom(e.Cert) == nil {
			return "the certificate is its own authority: if the server is yours, name its file with tls_ca or pin it with the tls_fingerprint that mailhaul check prints", true
		}
		return "if the server is yours, name its authority with tls_ca or pin the certificate with the tls_fingerprint that mailhaul check prints", true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "the certificate is not valid; tls_fingerprint can pin one that you know to be right", true
	}
	return "", false
}

// certificateName returns a name that the certificate is valid for, or "". For a
// wildcard like *.example.com, it returns a name that matches.
func certificateName(c *x509.Certificate) string {
	if c == nil || len(c.DNSNames) == 0 {
		return ""
	}
	for _, name := range c.DNSNames {
		if !strings.Contains(name, "*") {
			return name
		}
	}
	return strings.Replace(c.DNSNames[0], "*", "mail", 1)
}

// handshakeHint covers all other errors of TLS handshakes.
func handshakeHint(err error) (hint string, ok bool) {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "the server does not speak TLS on this port: try tls: starttls, or another port", true
	}
	// crypto/tls does not export the type of the server's alerts.
	text := err.Error()
	_, alert, _ := strings.Cut(text, "remote error: tls: ")
	switch {
	case strings.Contains(text, "tls: protocol version not supported"),
		strings.Contains(text, "tls: server selected unsupported protocol version"):
		return "server and client have no TLS version in common; for an old server that you must use, lower tls_min", true
	case alert == "handshake failure": // RFC 5246 §7.2.2; OpenSSL also sends it if a client certificate is missing
		return "server and client have no cipher in common (for an old server that you must use, lower tls_min below 1.2), or it wants a client certificate (tls_cert)", true
	case strings.Contains(alert, "certificate"), strings.Contains(alert, "access denied"):
		return "the server wants a client certificate, or another one: check tls_cert and tls_key", true
	case alert != "":
		return "the server ended the TLS handshake: check server and port, or ask its operator", true
	}
	return "", false
}
