package config

import (
	"slices"

	"gopkg.in/yaml.v3"

	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

func (p *parser) readProtocol(v value, a *Account) {
	if word, ok := p.oneOf(v, string(POP3), string(KPOP)); ok {
		a.Protocol = Protocol(word)
	}
}

// applyKPOP sets what KPOP implies, Kerberos as the login and no TLS, and reports the
// keys that contradict it.
func (p *parser) applyKPOP(v value, own keyLines, a *Account) {
	for _, key := range slices.Concat([]string{"auth", "password_timeout"}, credentialKeys) {
		if own.has(key) && key != "kerberos" {
			p.fail(v.at(own[key]), "Kerberos is the login", "%s has no effect with protocol: kpop", key)
		}
	}
	if own.has("tls") && a.TLS != TLSNone {
		p.fail(v.at(own["tls"]), "a server that has TLS takes auth: gssapi with protocol: pop3", "protocol: kpop has no TLS")
	}
	if a.Kerberos == nil {
		a.Kerberos = new(mech.Kerberos)
	}
	a.TLS, a.Login = TLSNone, Login{User: a.User, Kerberos: a.Kerberos}
}

var kerberosReaders = keyReaders[mech.Kerberos]{
	"keytab":    func(p *parser, v value, k *mech.Kerberos) { k.Keytab, _ = p.path(v) },
	"principal": func(p *parser, v value, k *mech.Kerberos) { k.Principal, _ = p.text(v) },
	"cache":     func(p *parser, v value, k *mech.Kerberos) { k.Cache, _ = p.path(v) },
	"config":    func(p *parser, v value, k *mech.Kerberos) { k.Config, _ = p.path(v) },
}

// readKerberos reads where tickets come from: true is where kinit puts them.
func (p *parser) readKerberos(v value, l *Login) {
	l.clearCredentials()
	l.Kerberos = new(mech.Kerberos)
	if v.node.Kind != yaml.MappingNode {
		if s, ok := p.text(v); ok && s != "true" {
			p.fail(v, "write true for the tickets of kinit, or { keytab: … }", "%s does not say where the tickets are", quote(s))
		}
		return
	}
	lines := readMapping(p, v, kerberosReaders, l.Kerberos)
	if lines.has("keytab") && lines.has("cache") {
		p.fail(v.at(lines["cache"]), "keep one of them", "both keytab and cache are set")
	}
	if lines.has("principal") && !lines.has("keytab") {
		p.fail(v.at(lines["principal"]), "add keytab", "principal has no effect without keytab: a cache has one of its own")
	}
}
