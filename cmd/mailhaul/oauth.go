package main

import (
	"fmt"
	"io"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch/oauth"
)

// oauthClient returns the client by which an account gets access tokens.
func oauthClient(a config.Account) *oauth.Client {
	o := a.OAuth
	p := oauth.Provider{Name: o.Name, Issuer: o.Issuer, AuthURL: o.AuthURL, TokenURL: o.TokenURL, DeviceURL: o.DeviceURL}
	switch o.Provider {
	case "google":
		p = oauth.Google()
	case "microsoft":
		p = oauth.Microsoft(o.Tenant)
	case "yahoo":
		p = oauth.Yahoo()
	}
	c := &oauth.Client{Provider: p, ID: o.ClientID, Scopes: o.Scopes, User: a.User, Account: a.Name}
	if c.Scopes == nil {
		c.Scopes = p.ScopesFor(oauth.POP)
	}
	if o.ClientSecret.IsSet() {
		c.Secret = o.ClientSecret.Read
	}
	return c
}

// source returns the source of an account's access tokens, the same for all
// accounts that share a grant.
func (w *wiring) source(a config.Account) *oauth.Source {
	c := oauthClient(a)
	s, ok := w.sources[c.Key()]
	if !ok {
		s = oauth.NewSource(c, w.grants)
		w.sources[c.Key()] = s
	}
	return s
}

// grantText says in a line what an account may do by OAuth, and warns of an
// end that is known.
func grantText(g oauth.Grant, account string, now time.Time) (text, warning string) {
	text = fmt.Sprintf("%s gave access %s, last refreshed %s", g.Provider, ago(g.Granted.Unix(), now), ago(g.Refreshed.Unix(), now))
	if ends, known := g.Ends(); known {
		warning = fmt.Sprintf("it ends in %s; before then run mailhaul login %s", span(ends.Sub(now)), account)
		if !ends.After(now) {
			warning = fmt.Sprintf("it ended %s; run mailhaul login %s", ago(ends.Unix(), now), account)
		}
	}
	return text, warning
}

// writeGrants tells of the accounts that log in by OAuth.
func writeGrants(out io.Writer, accounts []config.Account, grants *oauth.Store, now time.Time) {
	for _, a := range accounts {
		if a.OAuth == nil {
			continue
		}
		g, err := grants.Load(oauthClient(a))
		text, warning := grantText(g, a.Name, now)
		if err != nil {
			text, warning = err.Error(), oauthHint(err)
		}
		fmt.Fprintf(out, "\n%s: %s\n", a.Name, text)
		if warning != "" {
			fmt.Fprintf(out, "  %s\n", warning)
		}
	}
}

// grant reports on what an account that logs in by OAuth was granted.
func (l *checklist) grant(a config.Account, grants *oauth.Store, now time.Time) {
	if a.OAuth == nil {
		return
	}
	g, err := grants.Load(oauthClient(a))
	if err != nil {
		l.bad(err.Error(), oauthHint(err))
		return
	}
	text, warning := grantText(g, a.Name, now)
	l.good("%s", text)
	if warning != "" {
		l.more("%s", l.paint(yellow, warning))
	}
}
