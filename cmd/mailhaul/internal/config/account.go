package config

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/mailhaul/mailhaul/fetch"
)

// accountReaders are the readers for the keys of an account and of defaults.
var accountReaders = keyReaders[Account]{
	"server": func(p *parser, v value, a *Account) {
		if host, port, ok := p.readHostPort(v, "pop.example.com", 995); ok {
			a.Host, a.Port = host, port
		}
	},
	"protocol":        func(p *parser, v value, a *Account) { p.readProtocol(v, a) },
	"deliver":         func(p *parser, v value, a *Account) { a.Deliver = p.readSinkNames(v) },
	"refused":         func(p *parser, v value, a *Account) { p.readRefused(v, a) },
	"quarantine":      func(p *parser, v value, a *Account) { p.readQuarantine(v, a) },
	"route":           func(p *parser, v value, a *Account) { p.readRoute(v, a) },
	"filter":          func(p *parser, v value, a *Account) { a.Filter = p.readFilter(v) },
	"keep":            func(p *parser, v value, a *Account) { p.readKeep(v, a) },
	"max_size":        func(p *parser, v value, a *Account) { p.size(v, &a.MaxSize) },
	"max_messages":    func(p *parser, v value, a *Account) { p.number(v, 1, 1_000_000, &a.MaxMessages) },
	"received_header": func(p *parser, v value, a *Account) { p.boolean(v, &a.ReceivedHeader) },
	"delivered_to":    func(p *parser, v value, a *Account) { p.readDeliveredTo(v, a) },
	"return_path":     func(p *parser, v value, a *Account) { p.boolean(v, &a.ReturnPath) },
	"every": func(p *parser, v value, a *Account) {
		p.duration(v, 10*time.Second, 30*24*time.Hour, &a.Every)
	},
	"timeout": func(p *parser, v value, a *Account) {
		p.duration(v, time.Second, time.Hour, &a.Timeout)
	},
	"time_limit": func(p *parser, v value, a *Account) {
		p.duration(v, time.Second, 30*24*time.Hour, &a.TimeLimit)
	},
	"pipelining": func(p *parser, v value, a *Account) { p.readPipelining(v, a) },
	"preconnect": func(p *parser, v value, a *Account) { a.Preconnect = p.readHook(v) },
	"postpoll":   func(p *parser, v value, a *Account) { a.Postpoll = p.readHook(v) },
}.with(tlsReaders(func(a *Account) *Security { return &a.Security })).
	with(viaReaders(func(a *Account) *Via { return &a.Via })).
	with(loginReaders(fetch.AuthNames, func(a *Account) *Login { return &a.Login }))

// newAccount reads the account at v, completes it and checks it. defaults has what
// the account does not set itself.
func (p *parser) newAccount(v value, name string, defaults Account) Account {
	a := defaults
	a.Name = name
	own := p.readAccount(v, &a)
	if a.Protocol == KPOP {
		p.applyKPOP(v, own, &a)
	}
	p.rejectTLSKeys(v, own, a.TLS, "")
	a.lines = maps.Clone(defaults.lines)
	maps.Copy(a.lines, own)

	if v.node.Kind != yaml.MappingNode && !isNull(v.node) {
		return a // readAccount has reported that
	}
	if !a.lines.has("server") {
		p.fail(v, "server: pop.example.com", "server is missing")
	}
	if !a.lines.has("user") {
		p.fail(v, "", "user is missing")
	}
	byCertificate := a.lines.has("tls_cert") && a.TLS != TLSNone && (a.Auth == nil || slices.Contains(a.Auth, "external"))
	if !hasCredentials(a.lines) && a.Protocol != KPOP && !byCertificate {
		p.failNoCredentials(v)
	}
	a.TokenCommand.timeout = a.Password.timeout
	p.checkAuth(v, a.lines, &a.Login)
	p.checkDeliveries(v, &a)
	return a
}

// readAccount reads one mapping, an account or defaults, into a, and returns its
// keys. The default of a route counts as deliver.
func (p *parser) readAccount(v value, a *Account) keyLines {
	a.routeDefaultLine = 0
	lines := readMapping(p, v, accountReaders, a)
	p.checkConflicts(v, lines)
	p.loadClientCertificate(v, lines, &a.Security)
	if a.routeDefaultLine > 0 {
		if line := lines["deliver"]; line > 0 {
			p.fail(v.at(max(line, a.routeDefaultLine)), "keep one of them", "both deliver and the default of route are set")
		}
		lines["deliver"] = a.routeDefaultLine
	}
	return lines
}

// checkConflicts checks that no two keys of one mapping exclude each other.
func (p *parser) checkConflicts(v value, lines keyLines) {
	previous := ""
	for _, key := range credentialKeys {
		if !lines.has(key) {
			continue
		}
		if previous != "" {
			p.fail(v.at(max(lines[key], lines[previous])), "keep one of them", "both %s and %s are set", previous, key)
		}
		previous = key
	}
	if lines.has("tls_ca") && lines.has("tls_fingerprint") {
		p.fail(v.at(lines["tls_ca"]), "keep one of them", "tls_ca has no effect with tls_fingerprint")
	}
	for _, key := range []string{"socks5", "source_ip"} {
		if lines.has(key) && lines.has("tunnel") {
			p.fail(v.at(lines[key]), "keep one of them", "%s has no effect with tunnel", key)
		}
	}
}

// readKeep reads how long messages stay on the server. It accepts nothing that could
// be misunderstood, since it decides what is deleted.
func (p *parser) readKeep(v value, a *Account) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	const hint = "write false to delete at once, 14d, or forever"
	switch strings.ToLower(s) {
	case "0":
		p.fail(v, hint, "%s could mean never or for ever", s)
		return
	case "false", "no", "off":
		a.Keep = fetch.Keep{}
		return
	case "forever":
		a.Keep = fetch.Keep{Forever: true}
		return
	case "true", "yes", "on":
		p.fail(v, hint, "%s does not say for how long", s)
		return
	}
	d, err := parseDuration(s)
	switch {
	case err != nil:
		p.fail(v, hint, "%s %v", quote(s), err)
	case d == 0:
		p.fail(v, hint, "%s could mean never or for ever", s)
	default:
		a.Keep = fetch.Keep{For: d}
	}
}

func (p *parser) readRefused(v value, a *Account) {
	s, _ := p.oneOf(v, "keep", "quarantine")
	a.quarantineRefused = s == "quarantine"
}

func (p *parser) readDeliveredTo(v value, a *Account) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	if p.checkAddress(v, s, false) {
		a.DeliveredTo = s
	}
}

func (p *parser) readPipelining(v value, a *Account) {
	const most = 128 // auto has no such limit: it counts octets
	s, ok := p.text(v)
	if !ok {
		return
	}
	switch strings.ToLower(s) {
	case "auto":
		a.Window = 0
	case "off", "no", "false":
		a.Window = 1
	default:
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > most {
			p.fail(v, "write auto, off or a number of commands from 1 to 128", "%s cannot be used", quote(s))
			return
		}
		a.Window = n
	}
}
