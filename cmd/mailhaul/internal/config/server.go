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

// Security is how a connection is protected, and which certificates it trusts.
type Security struct {
	TLS   TLS
	Trust channel.Trust

	certFile, keyFile string // values of tls_cert and tls_key, for loadClientCertificate
}

// tlsReaders returns the readers for tlsKeys. security finds the field that they set.
func tlsReaders[T any](security func(*T) *Security) keyReaders[T] {
	return keyReaders[T]{
		"tls":             func(p *parser, v value, t *T) { p.readTLS(v, security(t)) },
		"tls_ca":          func(p *parser, v value, t *T) { p.readTLSCA(v, &security(t).Trust) },
		"tls_fingerprint": func(p *parser, v value, t *T) { p.readFingerprint(v, &security(t).Trust) },
		"tls_cert":        func(p *parser, v value, t *T) { security(t).certFile, _ = p.path(v) },
		"tls_key":         func(p *parser, v value, t *T) { security(t).keyFile, _ = p.path(v) },
		"tls_name":        func(p *parser, v value, t *T) { p.readTLSName(v, &security(t).Trust) },
		"tls_min":         func(p *parser, v value, t *T) { p.readTLSMin(v, &security(t).Trust) },
	}
}

// tlsKeys are the keys of a Security.
var tlsKeys = []string{"tls", "tls_ca", "tls_fingerprint", "tls_cert", "tls_key", "tls_name", "tls_min"}

// rejectTLSKeys reports the other TLS keys in lines if protection is TLSNone. The hint
// may say why it is.
func (p *parser) rejectTLSKeys(v value, lines keyLines, protection TLS, hint string) {
	if protection != TLSNone {
		return
	}
	for _, key := range tlsKeys[1:] {
		if lines.has(key) {
			p.fail(v.at(lines[key]), hint, "%s has no effect with tls: none", key)
		}
	}
}

// readHostPort reads host[:port]. The port is 0 if there is none. Hints show
// exampleHost and examplePort.
func (p *parser) readHostPort(v value, exampleHost string, examplePort int) (host string, port int, ok bool) {
	s, ok := p.text(v)
	if !ok {
		return "", 0, false
	}
	host, portText, ok := p.splitHostPort(v, s, examplePort)
	if !ok {
		return "", 0, false
	}
	var err error
	if strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }) {
		// The form that the DNS and certificates use (RFC 5891 §4.4).
		host, err = idna.Lookup.ToASCII(host)
	}
	// The program of tunnel would take a host that begins with a hyphen for an option.
	if err != nil || host == "" || len(host) > 253 || strings.ContainsAny(host, " /@\\") || host[0] == '-' {
		p.fail(v, fmt.Sprintf("write %s or %[1]s:%d", exampleHost, examplePort), "%s is not a host name", quote(s))
		return "", 0, false
	}
	if portText == "" {
		return host, 0, true
	}
	n, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || n == 0 {
		p.fail(v, "write a number from 1 to 65535", "%s is not a port", quote(portText))
		return "", 0, false
	}
	return host, int(n), true
}

// splitHostPort splits s, the text of v, into a host without brackets and a port,
// which is empty if there is none, and ":" if nothing follows the colon.
func (p *parser) splitHostPort(v value, s string, examplePort int) (host, port string, ok bool) {
	bracketed := fmt.Sprintf(`write "[2001:db8::1]:%d"`, examplePort)
	rest := ""
	if login, _, ok := strings.Cut(s, "@"); ok && strings.Contains(login, ":") {
		// The message does not repeat s, which may hold a password.
		p.fail(v, "write host:port; user and password have keys of their own", "holds more than a host and a port")
		return "", "", false
	}
	switch {
	case strings.Contains(s, "://"):
		p.fail(v, "write host:port, and tls: for how it is protected", "%s is a URL", quote(s))
		return "", "", false
	case strings.HasPrefix(s, "["):
		end := strings.IndexByte(s, ']')
		if end < 0 || net.ParseIP(s[1:end]) == nil || (s[end+1:] != "" && s[end+1] != ':') {
			p.fail(v, bracketed, "%s is not an address in brackets", quote(s))
			return "", "", false
		}
		host, rest = s[1:end], s[end+1:]
	case strings.Count(s, ":") > 1:
		p.fail(v, bracketed, "an IPv6 address must be in brackets")
		return "", "", false
	default:
		host, _, _ = strings.Cut(s, ":")
		rest = s[len(host):]
	}
	if rest == ":" {
		return host, ":", true
	}
	return host, strings.TrimPrefix(rest, ":"), true
}

func (p *parser) readTLS(v value, s *Security) {
	if word, ok := p.oneOf(v, string(TLSImplicit), string(TLSStart), string(TLSNone)); ok {
		s.TLS = TLS(word)
	}
}

// readTLSName reads the name that the server's certificate must have.
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
