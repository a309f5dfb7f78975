package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// Security is how a connection is protected, and whom it trusts.
type Security struct {
	TLS TLS
	// RootCAs are those of tls_ca, nil for the system's. Fingerprint is the
	// SHA-256 of the server's certificate or empty, TLSMin a version of
	// crypto/tls or 0.
	RootCAs     *x509.CertPool
	Fingerprint []byte
	TLSMin      uint16
}

// tlsKeys are the keys of a Security. of is where it goes.
func tlsKeys[T any](of func(*T) *Security) keys[T] {
	return keys[T]{
		"tls":             func(p *parser, v value, t *T) { p.tls(v, of(t)) },
		"tls_ca":          func(p *parser, v value, t *T) { p.tlsCA(v, of(t)) },
		"tls_fingerprint": func(p *parser, v value, t *T) { p.fingerprint(v, of(t)) },
		"tls_min":         func(p *parser, v value, t *T) { p.tlsMin(v, of(t)) },
	}
}

// tlsNames are the keys of a Security.
var tlsNames = []string{"tls", "tls_ca", "tls_fingerprint", "tls_min"}

// unused names the keys in lines that the kind of protection leaves without
// use. hint may say why it is as it is.
func (p *parser) unused(v value, lines map[string]int, protection TLS, hint string) {
	if protection != TLSNone {
		return
	}
	for _, key := range tlsNames[1:] {
		if line := lines[key]; line > 0 {
			p.fail(value{line: line, where: v.where}, hint, "%s has no use with tls: none", key)
		}
	}
}

// hostPort reads host[:port]. The port is 0 if there is none. example and
// usual are what the hints name.
func (p *parser) hostPort(v value, example string, usual int) (host string, number int, ok bool) {
	s, ok := p.text(v)
	if !ok {
		return "", 0, false
	}
	bracketed := fmt.Sprintf(`write "[2001:db8::1]:%d"`, usual)
	if strings.Contains(s, "://") {
		p.fail(v, "write host:port, and tls: for how it is protected", "%s is a URL", quote(s))
		return "", 0, false
	}
	host = s
	port := ""
	switch {
	case strings.HasPrefix(s, "["):
		end := strings.IndexByte(s, ']')
		if end < 0 || net.ParseIP(s[1:end]) == nil || (s[end+1:] != "" && s[end+1] != ':') {
			p.fail(v, bracketed, "%s is not an address in brackets", quote(s))
			return "", 0, false
		}
		host, port = s[1:end], strings.TrimPrefix(s[end+1:], ":")
		if port == "" && end+1 < len(s) {
			port = ":"
		}
	case strings.Count(s, ":") > 1:
		p.fail(v, bracketed, "an IPv6 address must be in brackets")
		return "", 0, false
	case strings.Contains(s, ":"):
		host, port, _ = strings.Cut(s, ":")
		if port == "" {
			port = ":"
		}
	}
	if host == "" || len(host) > 253 || strings.ContainsAny(host, " /@\\") {
		p.fail(v, fmt.Sprintf("write %s or %[1]s:%d", example, usual), "%s is not a host name", quote(s))
		return "", 0, false
	}
	if port == "" {
		return host, 0, true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		p.fail(v, "write a number from 1 to 65535", "%s is not a port", quote(port))
		return "", 0, false
	}
	return host, int(n), true
}

func (p *parser) tls(v value, s *Security) {
	if word, ok := p.oneOf(v, string(TLSImplicit), string(TLSStart), string(TLSNone)); ok {
		s.TLS = TLS(word)
	}
}

// tlsCA reads the certificates that take the place of the system's.
func (p *parser) tlsCA(v value, s *Security) {
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
	s.RootCAs, s.Fingerprint = pool, nil
}

func (p *parser) fingerprint(v value, s *Security) {
	text, ok := p.text(v)
	if !ok {
		return
	}
	sum, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil || len(sum) != 32 {
		p.fail(v, "mailhaul check prints it", "is not a SHA-256 of 64 hex digits")
		return
	}
	s.Fingerprint = sum
}

func (p *parser) tlsMin(v value, s *Security) {
	versions := map[string]uint16{
		"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13,
	}
	if word, ok := p.oneOf(v, "1.0", "1.1", "1.2", "1.3"); ok {
		s.TLSMin = versions[word]
	}
}
