package config

import (
	"slices"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// Login is a user and the credentials to log in to a server with.
type Login struct {
	User string
	// At most one of these is set: a password, a command that prints an access token,
	// or where to get an access token or a ticket. None is needed with a client
	// certificate.
	Password     Password
	TokenCommand Password
	OAuth        *OAuth
	Kerberos     *mech.Kerberos
	// Auth holds the mechanisms allowed; nil allows all.
	Auth []string
}

// credentialKeys are the keys of credentials.
var credentialKeys = []string{"password", "password_file", "password_env", "password_command", "token_command", "oauth", "kerberos"}

// loginReaders returns the readers for the keys of a Login. login finds the field that
// they set; auth may name the mechanisms in authNames.
func loginReaders[T any](authNames []string, login func(*T) *Login) keyReaders[T] {
	return keyReaders[T]{
		"user":          func(p *parser, v value, t *T) { login(t).User, _ = p.text(v) },
		"auth":          func(p *parser, v value, t *T) { p.readAuth(v, authNames, login(t)) },
		"token_command": func(p *parser, v value, t *T) { p.readTokenCommand(v, login(t)) },
		"oauth":         func(p *parser, v value, t *T) { p.readOAuth(v, login(t)) },
		"kerberos":      func(p *parser, v value, t *T) { p.readKerberos(v, login(t)) },
		"password_timeout": func(p *parser, v value, t *T) {
			p.duration(v, time.Second, time.Hour, &login(t).Password.timeout)
		},
	}.with(secretReaders("password", func(t *T) *Password {
		login(t).clearCredentials()
		return &login(t).Password
	}))
}

// clearCredentials removes the credentials that came from defaults, whatever their
// kind: those of the account replace them.
func (l *Login) clearCredentials() {
	*l = Login{User: l.User, Auth: l.Auth, Password: Password{timeout: l.Password.timeout}}
}

// proofKind returns the kind of credentials that the login has.
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

// hasCredentials reports whether any of credentialKeys is set.
func hasCredentials(lines keyLines) bool {
	return slices.ContainsFunc(credentialKeys, func(key string) bool { return lines.has(key) })
}

func (p *parser) failNoCredentials(v value) {
	p.fail(v, "password_command, password_file, password_env, password, oauth or kerberos", "there is no password")
}

// sinkAuthNames are the mechanisms that auth of a sink may name: those of accounts,
// fetch.AuthNames, without those that only POP3 has.
var sinkAuthNames = slices.DeleteFunc(slices.Clone(fetch.AuthNames), isPOP3Only)

// isPOP3Only reports whether a mechanism belongs to POP3 alone (RFC 1939 §7).
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

// checkAuth checks that the credentials suit one of the mechanisms that auth allows.
func (p *parser) checkAuth(v value, lines keyLines, l *Login) {
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
		if need == l.proofKind() || need == mech.Certificate && lines.has("tls_cert") {
			return
		}
		if !slices.Contains(missing, proofKeys[need]) {
			missing = append(missing, proofKeys[need])
		}
	}
	p.fail(v.at(lines["auth"]), "set "+orList(missing)+", or leave auth out",
		"auth allows %s, for which there is no %s", strings.Join(l.Auth, ", "), orList(missing))
}

// proofKeys names the key that sets each kind of credentials.
var proofKeys = map[mech.Proof]string{
	mech.Password: "password", mech.Token: "oauth", mech.Ticket: "kerberos", mech.Certificate: "tls_cert",
}
