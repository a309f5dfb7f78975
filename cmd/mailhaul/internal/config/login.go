package config

import (
	"slices"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// Login is who logs in to a server, and with what.
type Login struct {
	User string
	// One of these is set: a password, an access token that a command prints,
	// or those of OAuth or Kerberos, if not nil.
	Password     Password
	TokenCommand Password
	OAuth        *OAuth
	Kerberos     *mech.Kerberos
	// Auth holds the mechanisms allowed; nil allows all.
	Auth []string
}

// credentialKeys are the keys that say what to log in with.
var credentialKeys = []string{"password", "password_file", "password_env", "password_command", "token_command", "oauth", "kerberos"}

// loginKeys are the keys of a login. of is where it goes, names what its auth
// may be.
func loginReaders[T any](names []string, of func(*T) *Login) keyReaders[T] {
	return keyReaders[T]{
		"user":          func(p *parser, v value, t *T) { of(t).User, _ = p.text(v) },
		"auth":          func(p *parser, v value, t *T) { p.readAuth(v, names, of(t)) },
		"token_command": func(p *parser, v value, t *T) { p.readTokenCommand(v, of(t)) },
		"oauth":         func(p *parser, v value, t *T) { p.readOAuth(v, of(t)) },
		"kerberos":      func(p *parser, v value, t *T) { p.readKerberos(v, of(t)) },
		"password_timeout": func(p *parser, v value, t *T) {
			p.duration(v, time.Second, time.Hour, &of(t).Password.timeout)
		},
	}.with(secretReaders("password", func(t *T) *Password { return of(t).resetPassword() }))
}

// password forgets what the defaults say to log in with, and returns what
// takes its place.
func (l *Login) resetPassword() *Password {
	*l = Login{User: l.User, Auth: l.Auth, Password: Password{timeout: l.Password.timeout}}
	return &l.Password
}

// proof is what the login shows a server.
func (l *Login) proofKind() mech.Proof {
	switch {
	case l.OAuth != nil, l.TokenCommand.IsSet():
		return mech.Token
	case l.Kerberos != nil:
		return mech.Ticket
	default:
		return mech.Password
	}
}

// hasCredentials reports whether some key says what to log in with.
func hasCredentials(lines map[string]int) bool {
	return slices.ContainsFunc(credentialKeys, func(key string) bool { return lines[key] > 0 })
}

func (p *parser) failNoCredentials(v value) {
	p.fail(v, "password_command, password_file, password_env, password, oauth or kerberos", "there is no password")
}

// sinkAuthNames are the values of the key auth of a sink beside auto, which
// allows all. Those of accounts, fetch.AuthNames, have what only POP3 has, too.
var sinkAuthNames = slices.DeleteFunc(slices.Clone(fetch.AuthNames), isPOP3Only)

// isPOPs reports whether only POP3 has a mechanism (RFC 1939 §7).
func isPOP3Only(name string) bool { return name == "user" || name == "apop" }

func (p *parser) readAuth(v value, known []string, l *Login) {
	names, ok := p.texts(v)
	if !ok {
		return
	}
	l.Auth = nil
	for _, name := range names {
		switch {
		case name == "auto" && len(names) == 1:
			return
		case name == "auto":
			p.fail(v, "write auto alone", "auto allows all, so the others have no effect")
			return
		case !slices.Contains(known, name):
			p.fail(v, "write auto, or some of "+strings.Join(known, ", "), "%s is not known", quote(name))
			return
		}
	}
	l.Auth = names
}

// checkAuth checks that what auth allows can be done with what there is to
// log in with.
func (p *parser) checkAuth(v value, lines map[string]int, l *Login) {
	if len(l.Auth) == 0 || !hasCredentials(lines) {
		return
	}
	needs := map[string]mech.Proof{}
	for _, m := range mech.Strongest(true) {
		needs[m.Name] = m.Needs
	}
	var missing []string
	for _, name := range l.Auth {
		need := needs[name]
		if isPOP3Only(name) {
			need = mech.Password
		}
		if need == l.proofKind() || need == mech.Certificate && lines["tls_cert"] > 0 {
			return
		}
		if !slices.Contains(missing, proofKeys[need]) {
			missing = append(missing, proofKeys[need])
		}
	}
	p.fail(value{line: lines["auth"], where: v.where}, "set "+orList(missing)+", or leave auth out",
		"auth allows %s, for which there is no %s", strings.Join(l.Auth, ", "), orList(missing))
}

// proofKeys are the keys that give a login each proof.
var proofKeys = map[mech.Proof]string{
	mech.Password: "password", mech.Token: "oauth", mech.Ticket: "kerberos", mech.Certificate: "tls_cert",
}
