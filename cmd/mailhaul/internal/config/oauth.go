package config

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/mailhaul/mailhaul/fetch/oauth"
)

// OAuth is how an account or a sink gets its access tokens (RFC 6749).
type OAuth struct {
	// Name is the client's name in the file or, if it has none there, its provider.
	Name string
	// Provider is one of OAuthProviders. If it is empty, either Issuer is set, or
	// TokenURL with AuthURL, DeviceURL or both.
	Provider, Issuer             string
	AuthURL, TokenURL, DeviceURL string
	// ClientID and ClientSecret identify the client that the user has registered. A
	// public client has no secret.
	ClientID     string
	ClientSecret Password
	// Scopes are what to ask for; nil asks for what the users of the client need.
	Scopes []string
	// Tenant is Microsoft's name of the organisation; it may be empty.
	Tenant string
	// Via is how the provider is reached; nil is like the server that is logged in to,
	// by its proxy if it has one.
	Via *Via
}

// OAuthProviders are the providers whose endpoints are known.
var OAuthProviders = []string{"google", "microsoft", "yahoo"}

var oauthReaders = keyReaders[OAuth]{
	"provider":   func(p *parser, v value, o *OAuth) { o.Provider, _ = p.oneOf(v, OAuthProviders...) },
	"issuer":     func(p *parser, v value, o *OAuth) { o.Issuer = p.readURL(v) },
	"auth_url":   func(p *parser, v value, o *OAuth) { o.AuthURL = p.readURL(v) },
	"token_url":  func(p *parser, v value, o *OAuth) { o.TokenURL = p.readURL(v) },
	"device_url": func(p *parser, v value, o *OAuth) { o.DeviceURL = p.readURL(v) },
	"client_id":  func(p *parser, v value, o *OAuth) { o.ClientID, _ = p.text(v) },
	"scopes":     func(p *parser, v value, o *OAuth) { o.Scopes, _ = p.texts(v) },
	"tenant":     func(p *parser, v value, o *OAuth) { o.Tenant, _ = p.text(v) },
	"socks5": func(p *parser, v value, o *OAuth) {
		o.Via = new(Via)
		p.readSOCKS5(v, o.Via)
	},
}.with(secretReaders("client_secret", func(o *OAuth) *Password { return &o.ClientSecret }))

// readTokenCommand reads a command that prints an access token.
func (p *parser) readTokenCommand(v value, l *Login) {
	l.clearCredentials()
	p.readSecretCommand(v, "token", &l.TokenCommand)
}

// readOAuth reads the name of a client defined at the top of the file, or a mapping
// that defines one.
func (p *parser) readOAuth(v value, l *Login) {
	l.clearCredentials()
	if v.node.Kind == yaml.MappingNode {
		l.OAuth = p.readOAuthClient(v, "")
		return
	}
	name, ok := p.text(v)
	if !ok {
		return
	}
	if l.OAuth, ok = p.oauthClients[name]; !ok {
		hint := "add at the top: oauth: { " + name + ": { client_id: … } }"
		if len(p.oauthClients) > 0 && !slices.Contains(OAuthProviders, name) {
			_, hint = didYouMean(name, slices.Sorted(maps.Keys(p.oauthClients)))
		}
		p.fail(v, hint, "the client of %s is not known", quote(name))
	}
}

// readOAuthClients reads the clients at the top of the file.
func (p *parser) readOAuthClients(v value) map[string]*OAuth {
	all := map[string]*OAuth{}
	for _, e := range p.entries(v) {
		at := value{node: e.value.node, line: e.line, where: "oauth " + e.key}
		if p.checkName(at, e.key) {
			all[e.key] = p.readOAuthClient(at, e.key)
		}
	}
	return all
}

// readOAuthClient reads one client. If it names no provider, its own name may be that
// of one. The name is empty for a client that is defined where it is used.
func (p *parser) readOAuthClient(v value, name string) *OAuth {
	o := new(OAuth)
	lines := readMapping(p, v, oauthReaders, o)
	set := func(keys ...string) (found []string) {
		for _, key := range keys {
			if lines.has(key) {
				found = append(found, key)
			}
		}
		return found
	}
	places := set("provider", "issuer", "token_url")
	if len(places) == 0 && slices.Contains(OAuthProviders, name) {
		o.Provider, places = name, []string{"provider"}
	}
	switch {
	case len(places) == 0:
		p.fail(v, "provider: "+orList(OAuthProviders)+"; or issuer; or auth_url and token_url", "does not say which provider")
	case len(places) > 1:
		p.fail(v.at(lines[places[1]]), "keep one of them", "both %s and %s are set", places[0], places[1])
	case places[0] == "token_url" && len(set("auth_url", "device_url")) == 0:
		p.fail(v.at(lines["token_url"]), "add auth_url or device_url", "token_url alone is not enough to log in")
	}
	if !lines.has("token_url") {
		for _, key := range set("auth_url", "device_url") {
			p.fail(v.at(lines[key]), "add token_url", "%s has no effect without token_url", key)
		}
	}
	if lines.has("tenant") && o.Provider != "microsoft" {
		p.fail(v.at(lines["tenant"]), "", "tenant is for provider: microsoft")
	}
	if !lines.has("client_id") {
		p.fail(v, "register a client with the provider, as a desktop application", "client_id is missing")
	}
	if secrets := set("client_secret", "client_secret_file", "client_secret_env", "client_secret_command"); len(secrets) > 1 {
		p.fail(v.at(lines[secrets[1]]), "keep one of them", "both %s and %s are set", secrets[0], secrets[1])
	}
	o.Name = cmp.Or(name, o.Provider, strings.TrimPrefix(cmp.Or(o.Issuer, o.TokenURL), "https://"))
	return o
}

// readURL reads an address of an OAuth server.
func (p *parser) readURL(v value) string {
	s, ok := p.text(v)
	if !ok {
		return ""
	}
	if err := oauth.CheckURL(s); err != nil {
		p.fail(v, "write https://host/path", "is %v", err)
	}
	return s
}
