package main

import (
	"context"
	"reflect"
	"slices"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch/oauth"
)

// serverLogin is how an account or a sink logs in to its server.
type serverLogin struct {
	name     string // of the account or the sink
	protocol oauth.Protocol
	config.Login
	via config.Via // the way to that server
}

// oauthLogins returns the logins by OAuth: those of the accounts, then those of the
// sinks.
func oauthLogins(cfg *config.Config) []serverLogin {
	var all []serverLogin
	for _, a := range cfg.Accounts {
		all = append(all, accountLogin(a))
	}
	for _, s := range cfg.Sinks {
		all = append(all, sinkLogin(s))
	}
	return slices.DeleteFunc(all, func(l serverLogin) bool { return l.OAuth == nil })
}

func accountLogin(a config.Account) serverLogin {
	return serverLogin{a.Name, oauth.POP, a.Login, a.Via}
}

// sinkLogin returns the login of a sink. For a sink without a server it has only a name.
func sinkLogin(s config.Sink) serverLogin {
	switch {
	case s.SMTP != nil:
		return serverLogin{s.Name, oauth.SMTP, s.SMTP.Login, s.SMTP.Via}
	case s.IMAP != nil:
		return serverLogin{s.Name, oauth.IMAP, s.IMAP.Login, s.IMAP.Via}
	default:
		return serverLogin{name: s.Name}
	}
}

// oauthClient returns the client that gets access tokens for the login.
func (l serverLogin) oauthClient() *oauth.Client {
	o := l.OAuth
	p := oauth.Provider{Name: o.Name, Issuer: o.Issuer, AuthURL: o.AuthURL, TokenURL: o.TokenURL, DeviceURL: o.DeviceURL}
	switch o.Provider {
	case "google":
		p = oauth.Google()
	case "microsoft":
		p = oauth.Microsoft(o.Tenant)
	case "yahoo":
		p = oauth.Yahoo()
	}
	c := &oauth.Client{Provider: p, ID: o.ClientID, Scopes: o.Scopes, User: l.User, Account: l.name}
	if c.Scopes == nil {
		c.Scopes = p.ScopesFor(l.protocol)
	}
	if o.ClientSecret.IsSet() {
		c.Secret = o.ClientSecret.Read
	}
	if via := l.providerVia(); via.SOCKS5 != nil {
		c.Dial = channelVia(via, nil).DialContext
	}
	return c
}

// providerVia returns the way to the OAuth provider: what the section oauth says, else
// the way of the account or the sink if that is a proxy. Otherwise theirs does not
// apply: a tunnel may lead only to their own server, and source_ip may be of an address
// family that the provider does not have.
func (l serverLogin) providerVia() config.Via {
	switch {
	case l.OAuth.Via != nil:
		return *l.OAuth.Via
	case l.via.SOCKS5 != nil:
		return l.via
	default:
		return config.Via{}
	}
}

// oauthClientForAll returns the client of l with the scopes of all logins that share
// its grant.
func (l serverLogin) oauthClientForAll(all []serverLogin) *oauth.Client {
	c := l.oauthClient()
	for _, other := range all {
		o := other.oauthClient()
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

// sharedTokenSource is a source of access tokens, and the configuration that it was
// made from.
type sharedTokenSource struct {
	*oauth.Source
	config *config.OAuth
	via    config.Via // the way to the provider
}

// tokenFunc returns the function that gets an access token for a login, nil for a login
// without tokens.
func (w *wiring) tokenFunc(l serverLogin) func(context.Context) (string, error) {
	switch {
	case l.OAuth != nil:
		return w.tokenSource(l).Token
	case l.TokenCommand.IsSet():
		return l.TokenCommand.Read
	default:
		return nil
	}
}

// tokenSource returns the source of a login's access tokens. Logins that share a grant
// share the source.
func (w *wiring) tokenSource(l serverLogin) *oauth.Source {
	c := l.oauthClient()
	s, ok := w.tokenSources[c.Key()]
	if !ok {
		s = &sharedTokenSource{oauth.NewSource(c, w.grants), l.OAuth, l.providerVia()}
		w.tokenSources[c.Key()] = s
	}
	return s.Source
}

// reusableSource returns the token source of w for a login if it was made for the same
// client and the same way to the provider, else nil. w may be nil.
func (w *wiring) reusableSource(l serverLogin) *sharedTokenSource {
	if w == nil {
		return nil
	}
	s := w.tokenSources[l.oauthClient().Key()]
	if s == nil || !reflect.DeepEqual(s.config, l.OAuth) || !reflect.DeepEqual(s.via, l.providerVia()) {
		return nil
	}
	return s
}

// isRenewingToken reports whether a request for a new token is under way. The provider
// may have voided the old one already: if the program ended now, the new one would be
// lost, and somebody would have to log in again. w may be nil.
func (w *wiring) isRenewingToken() bool {
	if w == nil {
		return false
	}
	for _, s := range w.tokenSources {
		if s.Refreshing() {
			return true
		}
	}
	return false
}

// awaitTokenRenewals waits until no request for a new token is under way.
func (w *wiring) awaitTokenRenewals() {
	for _, s := range w.tokenSources {
		s.Close()
	}
}

// tokenWaitText is the answer to a signal that would end the program while a token is
// being renewed.
var tokenWaitText = "waiting for a new access token, for " + span(oauth.RefreshLimit) + " at most; without it somebody may have to log in again"
