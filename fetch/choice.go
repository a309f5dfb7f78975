package fetch

import (
	"cmp"
	"slices"
	"strings"

	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// Choice is how a login was chosen.
type Choice struct {
	// Mechanism is the strongest that the server offers and the account can
	// use, as in AuthNames; empty if there is none.
	Mechanism string
	// Assumed means that the server names no mechanism, and is taken to know
	// this one.
	Assumed bool
	// Reveals means that the mechanism tells the server the password or token.
	Reveals bool
	// Strippable means that the connection is not encrypted, and that the account could
	// also use a mechanism that reveals the password or token: somebody in the middle who
	// removes the chosen one from the server's offer gets the secret.
	Strippable bool
	// Offered are the mechanisms that the server offers, as in AuthNames where
	// they are there. Unused are those that were not chosen.
	Offered []string
	Unused  []Unused

	needs mech.Proof
}

// Secret is what the account logs in with: "password" or "token".
func (c Choice) Secret() string { return string(c.needs) }

const onlyNamed = "only if auth names it"

// named returns the mechanisms that the server offers and that would do if auth named
// them, the strongest first.
func (c Choice) named() (names []string) {
	for _, u := range c.Unused {
		if u.Why == onlyNamed {
			names = append(names, u.Mechanism)
		}
	}
	return names
}

// Unused is a mechanism that the server offers and that was not chosen.
type Unused struct{ Mechanism, Why string }

// choose chooses the strongest mechanism that the server offers and the account allows.
// Somebody who removes mechanisms from the offer brings about a weaker one only if Auth
// allows that.
func (a *Account) choose(c *pop3proto.Client, caps pop3proto.Capabilities) Choice {
	if a.Server.KPOP != nil {
		return Choice{Mechanism: kpopName} // Kerberos has identified the user already
	}
	_, encrypted := c.TLS()
	all := strongest(encrypted)
	choice := Choice{Offered: offers(c, caps)}
	use := func(m mech.Info, assumed bool) {
		choice.Mechanism, choice.Assumed, choice.Reveals, choice.needs = m.Name, assumed, m.Reveals, m.Needs
	}
	if i := slices.IndexFunc(all, func(m mech.Info) bool {
		return a.unfit(m) == "" && slices.Contains(choice.Offered, m.Name)
	}); i >= 0 {
		use(all[i], false)
	} else if !caps.Has("SASL") {
		// RFC 2449 §6.3 lets a server that knows USER not announce it, and many know
		// no CAPA at all. A server that does announce mechanisms, but none that the
		// account can use, is taken at its word.
		for _, m := range []mech.Info{userPass, {Name: "xoauth2", Needs: mech.Token, Reveals: true}} {
			if a.unfit(m) == "" {
				use(m, true)
				break
			}
		}
	}
	choice.Strippable = choice.Mechanism != "" && !encrypted && slices.ContainsFunc(all, func(m mech.Info) bool { return m.Reveals && a.unfit(m) == "" })
	for _, name := range choice.Offered {
		if name != choice.Mechanism {
			choice.Unused = append(choice.Unused, Unused{name, a.unused(name, encrypted)})
		}
	}
	return choice
}

// unused says why an offered mechanism was not chosen.
func (a *Account) unused(name string, encrypted bool) string {
	all := strongest(true)
	i := slices.IndexFunc(all, func(m mech.Info) bool { return m.Name == name })
	switch {
	case i < 0:
		return "unknown"
	case all[i].NeedsTLS && !encrypted:
		return "needs TLS"
	}
	return cmp.Or(a.unfit(all[i]), "weaker")
}

// unfit says why an account does not use a mechanism, "" if it does: what auth
// does not allow, and what needs something that the account does not have.
func (a *Account) unfit(m mech.Info) string {
	named := slices.Contains(a.Auth, m.Name)
	switch {
	case len(a.Auth) > 0 && !named:
		return "not in auth"
	case m.Needs == mech.Password && a.Secret == nil:
		return "no password"
	case m.Needs == mech.Token && a.Token == nil:
		return "no token"
	case m.Needs == mech.Ticket && a.Kerberos == nil:
		return "no kerberos"
	case m.Needs == mech.Certificate && !channel.ShowsCertificate(a.Server.TLS):
		return "no certificate"
	case m.OnlyNamed && !named:
		return onlyNamed
	case m.Needs == mech.Certificate && !named && (a.Secret != nil || a.Token != nil || a.Kerberos != nil):
		return onlyNamed // it may be there for the connection alone
	}
	return ""
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
