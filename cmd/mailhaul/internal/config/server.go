package config

import (
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/idna"

	"github.com/mailhaul/mailhaul/pop3proto/channel"
)

// Security is how a connection is protected, and whom it trusts.
type Security struct {
	TLS   TLS
	Trust channel.Trust

	certFile, keyFile string // of tls_cert and tls_key, until they are read
}

// tlsKeys are the keys of a Security. of is where it goes.
func tlsReaders[T any](of func(*T) *Security) keyReaders[T] {
	return keyReaders[T]{
		"tls":             func(p *parser, v value, t *T) { p.readTLS(v, of(t)) },
		"tls_ca":          func(p *parser, v value, t *T) { p.readTLSCA(v, &of(t).Trust) },
		"tls_fingerprint": func(p *parser, v value, t *T) { p.readFingerprint(v, &of(t).Trust) },
		"tls_cert":        func(p *parser, v value, t *T) { of(t).certFile, _ = p.path(v) },
		"tls_key":         func(p *parser, v value, t *T) { of(t).keyFile, _ = p.path(v) },
		"tls_name":        func(p *parser, v value, t *T) { p.readTLSName(v, &of(t).Trust) },
		"tls_min":         func(p *parser, v value, t *T) { p.readTLSMin(v, &of(t).Trust) },
	}
}

// tlsNames are the keys of a Security.
var tlsKeys = []string{"tls", "tls_ca", "tls_fingerprint", "tls_cert", "tls_key", "tls_name", "tls_min"}

// unused names the keys in lines that the kind of protection leaves without
// use. hint may say why it is as it is.
func (p *parser) rejectTLSKeys(v value, lines map[string]int, protection TLS, hint string) {
	if protection != TLSNone {
		return
	}
	for _, key := range tlsKeys[1:] {
		if line := lines[key]; line > 0 {
			p.fail(value{line: line, where: v.where}, hint, "%s has no effect with tls: none", key)
		}
	}
}

// hostPort reads host[:port]. The port is 0 if there is none. example and
// usual are what the hints name.
func (p *parser) readHostPort(v value, example string, usual int) (host string, number int, ok bool) {
	s, ok := p.text(v)
	if !ok {
		return "", 0, false
	}
	if login, _, ok := strings.Cut(s, "@"); ok && strings.Contains(login, ":") {
		// Which may be a password, so it is not repeated.
		p.fail(v, "write host:port; user and password have keys of their own", "holds more than a host and a port")
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
	var err error
	if strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }) {
		// As the DNS and certificates have it (RFC 5891 §4.4).
		host, err = idna.Lookup.ToASCII(host)
	}
	// One that begins with a hyphen would be an option of the program of tunnel.
	if err != nil || host == "" || len(host) > 253 || strings.ContainsAny(host, " /@\\") || host[0] == '-' {
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

func (p *parser) readTLS(v value, s *Security) {
	if word, ok := p.oneOf(v, string(TLSImplicit), string(TLSStart), string(TLSNone)); ok {
		s.TLS = TLS(word)
	}
}

// tlsName reads the name that a certificate must be for.
func (p *parser) readTLSName(v value, t *channel.Trust) {
	if host, port, ok := p.readHostPort(v, "mail.example.com", 995); ok && port == 0 {
		t.Name = host
	} else if ok {
		p.fail(v, "leave out the port", "is not a host name alone")
	}
}

func (p *parser) readFingerprint(v value, t *channel.Trust) {
	texts, ok := p.texts(v)
	if !ok {
		return
	}
	t.CAs, t.Pins = nil, nil
	for _, text := range texts {
		pin, err := channel.ParsePin(text)
		if err != nil {
			p.fail(v, "mailhaul check prints it", "%v", err)
			return
		}
		t.Pins = append(t.Pins, pin)
	}
}

func (p *parser) readTLSMin(v value, t *channel.Trust) {
	versions := map[string]uint16{
		"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13,
	}
	if word, ok := p.oneOf(v, "1.0", "1.1", "1.2", "1.3"); ok {
		t.MinVersion = versions[word]
	}
}
