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

// accountKeys are the keys of an account, and of defaults.
var accountKeys keys[Account]

func init() {
	accountKeys = keys[Account]{
		"server": func(p *parser, v value, a *Account) {
			if host, port, ok := p.hostPort(v, "pop.example.com", 995); ok {
				a.Host, a.Port = host, port
			}
		},
		"protocol":        func(p *parser, v value, a *Account) { p.protocol(v, a) },
		"deliver":         func(p *parser, v value, a *Account) { a.Deliver = p.sinkNames(v) },
		"refused":         func(p *parser, v value, a *Account) { p.refused(v, a) },
		"quarantine":      func(p *parser, v value, a *Account) { p.quarantine(v, a) },
		"route":           func(p *parser, v value, a *Account) { p.route(v, a) },
		"filter":          func(p *parser, v value, a *Account) { a.Filter = p.filter(v) },
		"keep":            func(p *parser, v value, a *Account) { p.keep(v, a) },
		"max_size":        func(p *parser, v value, a *Account) { p.size(v, &a.MaxSize) },
		"max_messages":    func(p *parser, v value, a *Account) { p.number(v, 1, 1_000_000, &a.MaxMessages) },
		"received_header": func(p *parser, v value, a *Account) { p.boolean(v, &a.ReceivedHeader) },
		"delivered_to":    func(p *parser, v value, a *Account) { p.deliveredTo(v, a) },
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
		"pipelining": func(p *parser, v value, a *Account) { p.pipelining(v, a) },
		"preconnect": func(p *parser, v value, a *Account) { a.Preconnect = p.hook(v) },
		"postpoll":   func(p *parser, v value, a *Account) { a.Postpoll = p.hook(v) },
	}.and(tlsKeys(func(a *Account) *Security { return &a.Security })).
		and(viaKeys(func(a *Account) *Via { return &a.Via })).
		and(loginKeys(fetch.AuthNames, func(a *Account) *Login { return &a.Login }))
}

// account reads the account at v. What it does not say is as in base, the
// defaults.
func (p *parser) account(v value, name string, base Account) Account {
	a := base
	a.Name = name
	own := p.readAccount(v, &a)
	if a.Protocol == KPOP {
		p.kpop(v, own, &a)
	}
	p.unused(v, own, a.TLS, "")
	a.lines = maps.Clone(base.lines)
	maps.Copy(a.lines, own)

	if v.node.Kind != yaml.MappingNode && !isNull(v.node) {
		return a // which is a mistake of its own
	}
	if a.lines["server"] == 0 {
		p.fail(v, "server: pop.example.com", "server is missing")
	}
	if a.lines["user"] == 0 {
		p.fail(v, "", "user is missing")
	}
	byCertificate := a.lines["tls_cert"] > 0 && a.TLS != TLSNone && (a.Auth == nil || slices.Contains(a.Auth, "external"))
	if !hasCredentials(a.lines) && a.Protocol != KPOP && !byCertificate {
		p.noCredentials(v)
	}
	a.TokenCommand.timeout = a.Password.timeout
	p.checkAuth(v, a.lines, &a.Login)
	p.deliveries(v, &a)
	return a
}

// readAccount reads the keys of one mapping, which must not say the same thing
// twice.
func (p *parser) readAccount(v value, a *Account) map[string]int {
	a.defaultLine = 0
	lines := read(p, v, accountKeys, a)
	p.exclusive(v, lines)
	p.clientCertificate(v, lines, &a.Security)
	if a.defaultLine > 0 {
		if line := lines["deliver"]; line > 0 {
			p.fail(value{line: max(line, a.defaultLine), where: v.where}, "keep one of them", "both deliver and the default of route are set")
		}
		lines["deliver"] = a.defaultLine
	}
	return lines
}

// exclusive checks that one mapping does not say the same thing twice.
func (p *parser) exclusive(v value, own map[string]int) {
	was := ""
	for _, key := range credentialKeys {
		if own[key] == 0 {
			continue
		}
		if was != "" {
			p.fail(value{line: max(own[key], own[was]), where: v.where}, "keep one of them", "both %s and %s are set", was, key)
		}
		was = key
	}
	if line := own["tls_ca"]; line > 0 && own["tls_fingerprint"] > 0 {
		p.fail(value{line: line, where: v.where}, "keep one of them", "tls_ca has no effect with tls_fingerprint")
	}
	for _, key := range []string{"socks5", "source_ip"} {
		if line := own[key]; line > 0 && own["tunnel"] > 0 {
			p.fail(value{line: line, where: v.where}, "keep one of them", "%s has no effect with tunnel", key)
		}
	}
}

// keep is read with care: it decides what is deleted.
func (p *parser) keep(v value, a *Account) {
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

func (p *parser) refused(v value, a *Account) {
	s, _ := p.oneOf(v, "keep", "quarantine")
	a.quarantineRefused = s == "quarantine"
}

func (p *parser) deliveredTo(v value, a *Account) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	if p.checkAddress(v, s, false) {
		a.DeliveredTo = s
	}
}

func (p *parser) pipelining(v value, a *Account) {
	const most = 128 // who wants more is served best by auto, which goes by octets
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
