package config

import (
	"slices"
	"time"
)

// Login is who logs in to a server, and with what.
type Login struct {
	User string
	// One of these is set: a password, an access token that a command prints,
	// or those of OAuth, if not nil.
	Password     Password
	TokenCommand Password
	OAuth        *OAuth
}

// credentialKeys are the keys that say what to log in with.
var credentialKeys = []string{"password", "password_file", "password_env", "password_command", "token_command", "oauth"}

// loginKeys are the keys of a login. of is where it goes.
func loginKeys[T any](of func(*T) *Login) keys[T] {
	return keys[T]{
		"user":          func(p *parser, v value, t *T) { of(t).User, _ = p.text(v) },
		"token_command": func(p *parser, v value, t *T) { p.tokenCommand(v, of(t)) },
		"oauth":         func(p *parser, v value, t *T) { p.oauth(v, of(t)) },
		"password_timeout": func(p *parser, v value, t *T) {
			p.duration(v, time.Second, time.Hour, &of(t).Password.timeout)
		},
	}.and(secretKeys("password", func(t *T) *Password { return of(t).password() }))
}

// password forgets what the defaults say to log in with, and returns what
// takes its place.
func (l *Login) password() *Password {
	*l = Login{User: l.User, Password: Password{timeout: l.Password.timeout}}
	return &l.Password
}

// hasCredentials reports whether some key says what to log in with.
func hasCredentials(lines map[string]int) bool {
	return slices.ContainsFunc(credentialKeys, func(key string) bool { return lines[key] > 0 })
}

func (p *parser) noCredentials(v value) {
	p.fail(v, "password_command, password_file, password_env, password or oauth", "there is no password")
}
