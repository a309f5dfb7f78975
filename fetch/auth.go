package fetch

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"

	"github.com/mailhaul/mailhaul/pop3proto"
)

// AuthNames are the names of the mechanisms, the strongest first: "plain" and
// "login" of SASL (RFC 4616, RFC 5034), "user" for USER and PASS (RFC 1939
// §7), and "apop" (RFC 1939 §7), which is never chosen unless it is named:
// its MD5 protects no password against a server in the middle
// (CVE-2007-1558), and a server must keep the password in the clear for it.
var AuthNames = []string{"plain", "login", "user", "apop"}

// login logs in by the strongest mechanism that the server offers and the
// account allows, and returns its name.
func (a *Account) login(ctx context.Context, c *pop3proto.Client, caps pop3proto.Capabilities) (string, error) {
	mech, err := a.mechanism(c, caps)
	if err != nil {
		return "", &LoginError{Addr: a.Server.Addr(), User: a.User, Err: err}
	}
	if _, encrypted := c.TLS(); !encrypted && a.Server.Security != PlainText {
		return "", &LoginError{Addr: a.Server.Addr(), User: a.User, Err: errNotEncrypted}
	}
	secret, err := a.Secret(ctx)
	if err != nil {
		return "", &SecretError{Err: err}
	}
	switch mech {
	case "plain":
		err = c.Authenticate(ctx, sasl.NewPlainClient("", a.User, secret))
	case "login":
		err = c.Authenticate(ctx, sasl.NewLoginClient(a.User, secret))
	case "apop":
		err = c.APOP(ctx, a.User, secret)
	default:
		err = c.Login(ctx, a.User, secret)
	}
	if err != nil {
		return mech, &LoginError{Addr: a.Server.Addr(), User: a.User, Mechanism: mech, Err: err}
	}
	return mech, nil
}

// mechanism chooses among what the server offers and the account allows.
func (a *Account) mechanism(c *pop3proto.Client, caps pop3proto.Capabilities) (string, error) {
	offered := offers(c, caps)
	for _, m := range AuthNames {
		allowed := slices.Contains(a.Auth, m) || len(a.Auth) == 0 && m != "apop"
		if allowed && slices.Contains(offered, m) {
			return m, nil
		}
	}
	// RFC 2449 §6.3 lets a server leave USER unmentioned, and many know no
	// CAPA at all. A server that names mechanisms, but none of ours, means it.
	if !caps.Has("SASL") && (len(a.Auth) == 0 || slices.Contains(a.Auth, "user")) {
		return "user", nil
	}
	return "", &MechanismError{Offered: append(offered, unknownMechanisms(caps)...), Allowed: a.Auth}
}

// offers returns the mechanisms of AuthNames that the server offers.
func offers(c *pop3proto.Client, caps pop3proto.Capabilities) []string {
	var names []string
	for _, m := range AuthNames {
		var has bool
		switch m {
		case "user":
			has = caps.Has("USER")
		case "apop":
			_, has = c.Timestamp()
		default:
			has = slices.Contains(caps.SASL(), strings.ToUpper(m))
		}
		if has {
			names = append(names, m)
		}
	}
	return names
}

func unknownMechanisms(caps pop3proto.Capabilities) []string {
	var names []string
	for _, m := range caps.SASL() {
		if m = strings.ToLower(m); !slices.Contains(AuthNames, m) {
			names = append(names, m)
		}
	}
	return names
}

// MechanismError is the error of a server that offers no mechanism that the
// account can use.
type MechanismError struct {
	// Offered are the server's mechanisms, Allowed the account's; nil allows
	// all but APOP.
	Offered, Allowed []string
}

// Error names both lists.
func (e *MechanismError) Error() string {
	offered := "nothing"
	if len(e.Offered) > 0 {
		offered = strings.Join(e.Offered, ", ")
	}
	if e.Allowed == nil {
		return fmt.Sprintf("no common login mechanism: the server offers %s", offered)
	}
	return fmt.Sprintf("no common login mechanism: the server offers %s, auth allows %s", offered, strings.Join(e.Allowed, ", "))
}
