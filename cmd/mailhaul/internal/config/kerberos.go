package config

import "slices"

func (p *parser) protocol(v value, a *Account) {
	if word, ok := p.oneOf(v, string(POP3), string(KPOP)); ok {
		a.Protocol = Protocol(word)
	}
}

// kpop settles what KPOP implies: Kerberos is the login, and there is no TLS.
func (p *parser) kpop(v value, own map[string]int, a *Account) {
	for _, key := range slices.Concat([]string{"auth", "password_timeout"}, credentialKeys) {
		if line := own[key]; line > 0 {
			p.fail(value{line: line, where: v.where}, "Kerberos is the login", "%s has no use with protocol: kpop", key)
		}
	}
	if line := own["tls"]; line > 0 && a.TLS != TLSNone {
		p.fail(value{line: line, where: v.where}, "a server that has TLS takes auth: gssapi with protocol: pop3", "protocol: kpop has no TLS")
	}
	a.TLS, a.Auth, a.Login = TLSNone, nil, Login{User: a.User}
}

// usesKerberos reports whether the account may log in with a ticket.
func (a *Account) usesKerberos() bool {
	return a.Protocol == KPOP || slices.Contains(a.Auth, "gssapi")
}
