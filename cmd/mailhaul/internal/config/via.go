package config

import (
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"time"

	"gopkg.in/yaml.v3"
)

// Via is how a server is reached.
type Via struct {
	// SourceIP is the address to connect from, if it is valid.
	SourceIP netip.Addr
	// SOCKS5 is a proxy, nil if there is none.
	SOCKS5 *SOCKS5
	// Tunnel is a program and its arguments, nil if there is none.
	Tunnel []string
}

// SOCKS5 is a proxy.
type SOCKS5 struct {
	Addr     string // host:port
	User     string // empty if there is no login
	Password Password
}

// viaKeys are the keys of a Via. of is where it goes.
func viaReaders[T any](of func(*T) *Via) keyReaders[T] {
	return keyReaders[T]{
		"source_ip": func(p *parser, v value, t *T) { p.readSourceIP(v, of(t)) },
		"socks5":    func(p *parser, v value, t *T) { p.readSOCKS5(v, of(t)) },
		"tunnel":    func(p *parser, v value, t *T) { p.readTunnel(v, of(t)) },
	}
}

// viaNames are the keys of a Via.
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

// socks5 reads a proxy, host:port or a mapping; none undoes that of the
// defaults.
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
	if lines["server"] == 0 {
		p.fail(v, "server: proxy.example.com:1080", "server is missing")
	}
	p.checkLogin(v, lines)
}

func (p *parser) readProxyAddr(v value) string {
	const usual = 1080 // RFC 1928 §3
	host, port, ok := p.readHostPort(v, "proxy.example.com", usual)
	if !ok {
		return ""
	}
	if port == 0 {
		port = usual
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

var placeholder = regexp.MustCompile(`\{[a-z]+\}`)

// foreignHost are placeholders of fetchmail, and ours for them.
var foreignHostPlaceholders = map[string]string{"%h": "{host}", "%p": "{port}", "%h:%p": "{host}:{port}"}

// tunnel reads a program and its arguments.
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
