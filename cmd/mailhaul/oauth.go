package main

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"slices"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch/oauth"
)

// grantee is an account or a sink that logs in by OAuth.
type grantee struct {
	name     string
	protocol oauth.Protocol
	config.Login
	way config.Via // to its own server
}

// granteesOf returns the accounts, and then the sinks, that log in by OAuth.
func granteesOf(cfg *config.Config) []grantee {
	var all []grantee
	for _, a := range cfg.Accounts {
		all = append(all, ofAccount(a))
	}
	for _, s := range cfg.Sinks {
		all = append(all, ofSink(s))
	}
	return slices.DeleteFunc(all, func(g grantee) bool { return g.OAuth == nil })
}

func ofAccount(a config.Account) grantee { return grantee{a.Name, oauth.POP, a.Login, a.Via} }

// ofSink returns who logs in to the server of a sink: nobody, where it is none.
func ofSink(s config.Sink) grantee {
	switch {
	case s.SMTP != nil:
		return grantee{s.Name, oauth.SMTP, s.SMTP.Login, s.SMTP.Via}
	case s.IMAP != nil:
		return grantee{s.Name, oauth.IMAP, s.IMAP.Login, s.IMAP.Via}
	default:
		return grantee{name: s.Name}
	}
}

// client returns the client by which the grantee gets access tokens.
func (g grantee) client() *oauth.Client {
	o := g.OAuth
	p := oauth.Provider{Name: o.Name, Issuer: o.Issuer, AuthURL: o.AuthURL, TokenURL: o.TokenURL, DeviceURL: o.DeviceURL}
	switch o.Provider {
	case "google":
		p = oauth.Google()
	case "microsoft":
		p = oauth.Microsoft(o.Tenant)
	case "yahoo":
		p = oauth.Yahoo()
	}
	c := &oauth.Client{Provider: p, ID: o.ClientID, Scopes: o.Scopes, User: g.User, Account: g.name}
	if c.Scopes == nil {
		c.Scopes = p.ScopesFor(g.protocol)
	}
	if o.ClientSecret.IsSet() {
		c.Secret = o.ClientSecret.Read
	}
	if v := g.via(); v.SOCKS5 != nil {
		c.Dial = via(v, nil).DialContext
	}
	return c
}

// via is how the provider is reached: by the proxy that the client names, or
// else by that of the grantee. A tunnel may lead to the grantee's server alone,
// and source_ip to one that has an address of that kind.
func (g grantee) via() config.Via {
	switch {
	case g.OAuth.Via != nil:
		return *g.OAuth.Via
	case g.way.SOCKS5 != nil:
		return g.way
	default:
		return config.Via{}
	}
}

// shared returns the grantee's client, which asks for what all that share the
// grant need of it.
func (g grantee) shared(all []grantee) *oauth.Client {
	c := g.client()
	for _, other := range all {
		o := other.client()
		if o.Key() != c.Key() {
			continue
		}
		for _, scope := range o.Scopes {
			if !slices.Contains(c.Scopes, scope) {
				c.Scopes = append(c.Scopes, scope)
			}
		}
	}
	return c
}

// token returns what gets an access token for a login, nil if that is not by
// OAuth.
func (w *wiring) token(g grantee) func(context.Context) (string, error) {
	switch {
	case g.OAuth != nil:
		return w.source(g).Token
	case g.TokenCommand.IsSet():
		return g.TokenCommand.Read
	default:
		return nil
	}
}

// source returns the source of a grantee's access tokens, the same for all
// that share a grant.
func (w *wiring) source(g grantee) *oauth.Source {
	c := g.client()
	s, ok := w.sources[c.Key()]
	if !ok {
		s = &source{oauth.NewSource(c, w.grants), g.OAuth, g.via()}
		w.sources[c.Key()] = s
	}
	return s.Source
}

// renewing reports whether a new token is on its way, and awaitTokens waits for it: the
// provider may take the old one no more, and then somebody would have to log in again.
func (w *wiring) renewing() bool {
	if w == nil {
		return false
	}
	for _, s := range w.sources {
		if s.Renewing() {
			return true
		}
	}
	return false
}

func (w *wiring) awaitTokens() {
	for _, s := range w.sources {
		s.Close()
	}
}

// waitsForToken is what a signal is answered by that would end a run at once.
var waitsForToken = "waiting for a new access token, for " + span(oauth.RenewalLimit) + " at most; without it somebody may have to log in again"

// shared returns the source of a grantee's access tokens if there is one by the
// same client, reached in the same way, else nil.
func (w *wiring) shared(g grantee) *source {
	if w == nil {
		return nil
	}
	s := w.sources[g.client().Key()]
	if s == nil || !reflect.DeepEqual(s.client, g.OAuth) || !reflect.DeepEqual(s.via, g.via()) {
		return nil
	}
	return s
}

// grantText says in a line what is granted by OAuth, and warns of an end that
// is known.
func grantText(g oauth.Grant, name string, now time.Time) (text, warning string) {
	text = fmt.Sprintf("%s gave access %s, last refreshed %s", g.Provider, ago(g.Granted.Unix(), now), ago(g.Refreshed.Unix(), now))
	if ends := g.Expires; !ends.IsZero() {
		warning = fmt.Sprintf("it ends in %s; before then run mailhaul login %s", span(ends.Sub(now)), name)
		if !ends.After(now) {
			warning = fmt.Sprintf("it ended %s; run mailhaul login %s", ago(ends.Unix(), now), name)
		}
	}
	return text, warning
}

// writeGrants tells what was granted to some. Of many, those who have access would hide
// those who need a login.
func writeGrants(out io.Writer, all []grantee, grants *oauth.Store, now time.Time) {
	const many = 20
	well := 0
	for _, to := range all {
		g, err := grants.Load(to.client())
		text, warning := grantText(g, to.name, now)
		if err != nil {
			text, warning = err.Error(), oauthHint(err)
		} else if warning == "" && len(all) > many {
			well++
			continue
		}
		fmt.Fprintf(out, "\n%s: %s\n", to.name, text)
		if warning != "" {
			fmt.Fprintf(out, "  %s\n", warning)
		}
	}
	if well > 0 {
		fmt.Fprintf(out, "\n%d of %d that log in by OAuth have access\n", well, len(all))
	}
}

// grant reports on what an account or a sink that logs in by OAuth was granted.
func (l *checklist) grant(to grantee, grants *oauth.Store, now time.Time) {
	if to.OAuth == nil {
		return
	}
	g, err := grants.Load(to.client())
	if err != nil {
		l.fail(err.Error(), oauthHint(err))
		return
	}
	text, warning := grantText(g, to.name, now)
	l.pass("%s", text)
	if warning != "" {
		l.detail("%s", l.paint(yellow, warning))
	}
}
