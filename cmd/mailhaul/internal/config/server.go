package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"net"
	"os"
	"strconv"
	"strings"
)

// server reads host[:port].
func (p *parser) server(v value, a *Account) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	if strings.Contains(s, "://") {
		p.fail(v, "write host:port, and tls: for how it is protected", "%s is a URL", quote(s))
		return
	}
	host, port := s, ""
	switch {
	case strings.HasPrefix(s, "["):
		end := strings.IndexByte(s, ']')
		if end < 0 || net.ParseIP(s[1:end]) == nil || (s[end+1:] != "" && s[end+1] != ':') {
			p.fail(v, `write "[2001:db8::1]:995"`, "%s is not an address in brackets", quote(s))
			return
		}
		host, port = s[1:end], strings.TrimPrefix(s[end+1:], ":")
		if port == "" && end+1 < len(s) {
			port = ":"
		}
	case strings.Count(s, ":") > 1:
		p.fail(v, `write "[2001:db8::1]:995"`, "an IPv6 address must be in brackets")
		return
	case strings.Contains(s, ":"):
		host, port, _ = strings.Cut(s, ":")
		if port == "" {
			port = ":"
		}
	}
	if host == "" || len(host) > 253 || strings.ContainsAny(host, " /@\\") {
		p.fail(v, "write pop.example.com or pop.example.com:995", "%s is not a host name", quote(s))
		return
	}
	a.Host, a.Port = host, 0
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			p.fail(v, "write a number from 1 to 65535", "%s is not a port", quote(port))
			return
		}
		a.Port = int(n)
	}
}

func (p *parser) tls(v value, a *Account) {
	if s, ok := p.oneOf(v, string(TLSImplicit), string(TLSStart), string(TLSNone)); ok {
		a.TLS = TLS(s)
	}
}

// tlsCA reads the certificates that take the place of the system's.
func (p *parser) tlsCA(v value, a *Account) {
	path, ok := p.path(v)
	if !ok {
		return
	}
	// A device or a pipe could hold up the load for ever.
	if info, err := os.Stat(path); err != nil {
		p.fail(v, "", "%v", err)
		return
	} else if !info.Mode().IsRegular() || info.Size() > maxFile {
		p.fail(v, "", "%s is not a file of certificates", quote(path))
		return
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		p.fail(v, "", "%v", err)
		return
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		p.fail(v, "it must start with -----BEGIN CERTIFICATE-----", "%s holds no PEM certificate", quote(path))
		return
	}
	a.RootCAs, a.Fingerprint = pool, nil
}

func (p *parser) fingerprint(v value, a *Account) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	sum, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(sum) != 32 {
		p.fail(v, "mailhaul check prints it", "is not a SHA-256 of 64 hex digits")
		return
	}
	a.Fingerprint = sum
}

func (p *parser) tlsMin(v value, a *Account) {
	versions := map[string]uint16{
		"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13,
	}
	if s, ok := p.oneOf(v, "1.0", "1.1", "1.2", "1.3"); ok {
		a.TLSMin = versions[s]
	}
}
