package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// The mechanisms of RFC 1939 §7, which are no SASL. APOP is never used unless
// it is named: its MD5 protects no password against a server in the middle
// (CVE-2007-1558), and a server must keep the password in the clear for it.
var (
	userPass = mech.Info{Name: "user", Needs: mech.Password, Reveals: true}
	apop     = mech.Info{Name: "apop", Needs: mech.Password, OnlyNamed: true}
)

// strongest returns the mechanisms for such a connection, the strongest first.
func strongest(encrypted bool) []mech.Info {
	all := mech.Strongest(encrypted)
	// USER and PASS are as good as LOGIN.
	login := slices.IndexFunc(all, func(m mech.Info) bool { return m.Name == "login" })
	return append(slices.Insert(all, login+1, userPass), apop)
}

// AuthNames are the names that Account.Auth may hold, the strongest first:
// SASL mechanisms in lower case, "user" for USER and PASS, and "apop".
var AuthNames = func() (names []string) {
	for _, m := range strongest(true) {
		names = append(names, m.Name)
	}
	return names
}()

// login logs in by the strongest mechanism that the server offers and the
// account allows, and returns its name.
func (a *Account) login(ctx context.Context, c *pop3proto.Client, caps pop3proto.Capabilities) (string, error) {
	failed := func(mechanism string, err error) error {
		return &LoginError{Addr: a.Server.Addr(), User: a.User, Mechanism: mechanism, Err: err}
	}
	cs, encrypted := c.TLS()
	if !encrypted && a.Server.Security != PlainText {
		return "", failed("", errNotEncrypted)
	}
	if a.Server.KPOP != nil {
		return a.openMaildrop(ctx, c)
	}
	m, err := a.mechanism(c, caps, encrypted)
	if err != nil {
		return "", failed("", err)
	}
	cred := mech.Credentials{User: a.User, Host: a.Server.Host, Port: a.Server.port(), Kerberos: a.Kerberos}
	switch m.Needs {
	case mech.Certificate:
		cred.Authzid = a.User // a certificate may be good for several
	case mech.Password:
		cred.Password, err = a.Secret(ctx)
	case mech.Token:
		cred.Token, err = a.Token(ctx)
	}
	if err != nil {
		return m.Name, &SecretError{Needs: string(m.Needs), Err: err}
	}
	switch m.Name {
	case userPass.Name:
		err = c.Login(ctx, a.User, cred.Password)
	case apop.Name:
		err = c.APOP(ctx, a.User, cred.Password)
	default:
		if encrypted {
			cred.TLS = &cs
		}
		cred.PlusOffered = slices.ContainsFunc(caps.SASL(), func(name string) bool { return strings.HasSuffix(name, "-PLUS") })
		client, newErr := mech.New(m.Name, cred)
		if newErr != nil {
			return m.Name, failed(m.Name, newErr)
		}
		err = c.Authenticate(ctx, client)
	}
	if err != nil {
		return m.Name, failed(m.Name, err)
	}
	return m.Name, nil
}

// mechanism chooses among what the server offers and the account allows.
func (a *Account) mechanism(c *pop3proto.Client, caps pop3proto.Capabilities, encrypted bool) (mech.Info, error) {
	offered := offers(c, caps)
	for _, m := range strongest(encrypted) {
		if a.allows(m) && slices.Contains(offered, m.Name) {
			return m, nil
		}
	}
	// RFC 2449 §6.3 lets a server leave USER unmentioned, and many know no
	// CAPA at all. A server that names mechanisms, but none of ours, means it.
	if !caps.Has("SASL") {
		for _, m := range []mech.Info{userPass, {Name: "xoauth2", Needs: mech.Token}} {
			if a.allows(m) {
				return m, nil
			}
		}
	}
	return mech.Info{}, &MechanismError{Offered: offered, Allowed: a.Auth}
}

// allows reports whether the account may use a mechanism and has what it
// needs. What has to be set up for it is used only if it is named.
func (a *Account) allows(m mech.Info) bool {
	named := slices.Contains(a.Auth, m.Name)
	if !named && (len(a.Auth) > 0 || m.OnlyNamed) {
		return false
	}
	switch m.Needs {
	case mech.Password:
		return a.Secret != nil
	case mech.Token:
		return a.Token != nil
	case mech.Certificate:
		// Beside a password it may be there for the connection alone.
		return channel.ShowsCertificate(a.Server.TLS) && (named || a.Secret == nil && a.Token == nil)
	default:
		return named
	}
}

// offers returns the mechanisms that the server offers, ours first.
func offers(c *pop3proto.Client, caps pop3proto.Capabilities) []string {
	var names []string
	for _, m := range caps.SASL() {
		names = append(names, strings.ToLower(m))
	}
	if caps.Has("USER") {
		names = append(names, userPass.Name)
	}
	if _, ok := c.Timestamp(); ok {
		names = append(names, apop.Name)
	}
	rank := func(name string) int {
		if i := slices.Index(AuthNames, name); i >= 0 {
			return i
		}
		return len(AuthNames)
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	return slices.Compact(names)
}

// MechanismError is the error of a server that offers no mechanism that the
// account can use.
type MechanismError struct {
	// Offered are the server's mechanisms, Allowed the account's; nil allows
	// all that need not be named.
	Offered, Allowed []string
}

// Error names both lists.
func (e *MechanismError) Error() string {
	offered := "nothing"
	if len(e.Offered) > 0 {
		offered = strings.Join(e.Offered, ", ")
	}
	if e.Allowed == nil {
		return fmt.Sprintf("no common login mechanism: the server offers %.200s", offered)
	}
	return fmt.Sprintf("no common login mechanism: the server offers %.200s, auth allows %s", offered, strings.Join(e.Allowed, ", "))
}

// adviseLogin tells whose turn it is after a login failed for a reason that is
// not a plain refusal.
func adviseLogin(err error) (Class, string, bool) {
	switch {
	case errors.Is(err, mech.ErrUnproven):
		return ClassOperator, "do not trust this network, or this server; the password was not sent", true
	case errors.Is(err, mech.ErrBinding):
		return ClassOperator, "leave the mechanisms with -plus out of auth for this server", true
	}
	if e, ok := errors.AsType[*mech.OAuthError](err); ok && e.Reply != nil {
		return ClassOperator, "run: mailhaul login for this account, with the scope for POP", true
	}
	return 0, "", false
}
