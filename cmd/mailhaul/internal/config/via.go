package config

import (
	"cmp"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"time"

	"gopkg.in/yaml.v3"
)

// Via is how a server is reached, if not directly.
type Via struct {
	// SourceIP is the local address to connect from; the zero Addr is any.
	SourceIP netip.Addr
	// SOCKS5 is the proxy to connect through, nil if there is none.
	SOCKS5 *SOCKS5
	// Tunnel is a program and its arguments whose standard input and output are the
	// connection, nil if there is none. It excludes the others.
	Tunnel []string
}

// SOCKS5 is a SOCKS5 proxy (RFC 1928).
type SOCKS5 struct {
	Addr     string // host:port
	User     string // empty if the proxy asks for no login
	Password Password
}

// viaReaders returns the readers for viaKeys. via finds the field that they set.
func viaReaders[T any](via func(*T) *Via) keyReaders[T] {
	return keyReaders[T]{
		"source_ip": func(p *parser, v value, t *T) { p.readSourceIP(v, via(t)) },
		"socks5":    func(p *parser, v value, t *T) { p.readSOCKS5(v, via(t)) },
		"tunnel":    func(p *parser, v value, t *T) { p.readTunnel(v, via(t)) },
	}
}

// viaKeys are the keys of a Via.
var viaKeys = []string{"source_ip", "socks5", "tunnel"}

func (p *parser) readSourceIP(v value, via *Via) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	ip, err := netip.ParseAddr(s)
	if err != nil {
		p.fail(v, "write an address of this machine: 192.0.2.7 or 2001:db8::7", "%s is not an IP address", quote(s))
		return
	}
	via.SourceIP, via.Tunnel = ip.Unmap(), nil
}

var proxyReaders = keyReaders[SOCKS5]{
	"server": func(p *parser, v value, s *SOCKS5) { s.Addr = p.readProxyAddr(v) },
	"user":   func(p *parser, v value, s *SOCKS5) { s.User, _ = p.text(v) },
	"password_timeout": func(p *parser, v value, s *SOCKS5) {
		p.duration(v, time.Second, time.Hour, &s.Password.timeout)
	},
}.with(secretReaders("password", func(s *SOCKS5) *Password { return &s.Password }))

// readSOCKS5 reads a proxy, host:port or a mapping. none cancels the proxy and the
// tunnel of defaults.
func (p *parser) readSOCKS5(v value, via *Via) {
	via.Tunnel, via.SOCKS5 = nil, nil
	if isNone(v.node) {
		return
	}
	via.SOCKS5 = new(SOCKS5)
	if v.node.Kind != yaml.MappingNode {
		via.SOCKS5.Addr = p.readProxyAddr(v)
		return
	}
	lines := readMapping(p, v, proxyReaders, via.SOCKS5)
	p.checkConflicts(v, lines)
	if !lines.has("server") {
		p.fail(v, "server: proxy.example.com:1080", "server is missing")
	}
	p.checkLogin(v, lines)
}

func (p *parser) readProxyAddr(v value) string {
	const defaultPort = 1080 // RFC 1928 §3
	host, port, ok := p.readHostPort(v, "proxy.example.com", defaultPort)
	if !ok {
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(cmp.Or(port, defaultPort)))
}

var placeholder = regexp.MustCompile(`\{[a-z]+\}`)

// foreignHostPlaceholders maps placeholders of fetchmail to ours.
var foreignHostPlaceholders = map[string]string{"%h": "{host}", "%p": "{port}", "%h:%p": "{host}:{port}"}

// readTunnel reads a program and its arguments. It replaces the other ways to the
// server that defaults may have.
func (p *parser) readTunnel(v value, via *Via) {
	words, ok := p.readArgs(v, foreignHostPlaceholders)
	if !ok {
		return
	}
	for _, word := range words {
		for _, name := range placeholder.FindAllString(word, -1) {
			if name != "{host}" && name != "{port}" {
				p.fail(v, "only {host} and {port} are filled in", "%s is not known", quote(name))
				return
			}
		}
	}
	*via = Via{Tunnel: words}
}
