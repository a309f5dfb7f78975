package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// metadata is what an issuer publishes about itself (RFC 8414 §2).
type metadata struct {
	Issuer      string   `json:"issuer"`
	AuthURL     string   `json:"authorization_endpoint"`
	TokenURL    string   `json:"token_endpoint"`
	DeviceURL   string   `json:"device_authorization_endpoint"`
	Scopes      []string `json:"scopes_supported"`
	AuthMethods []string `json:"token_endpoint_auth_methods_supported"`
}

// Discover asks the issuer of the client's provider for its endpoints, by RFC 8414
// and then by OpenID Connect Discovery §4. It does nothing if the provider has no
// issuer, or its token endpoint is known. Errors are *GrantError and *TemporaryError.
func (c *Client) Discover(ctx context.Context) error {
	p := &c.Provider
	if p.Issuer == "" || p.TokenURL != "" {
		return nil
	}
	if err := CheckURL(p.Issuer); err != nil {
		return &GrantError{Provider: p.Name, Text: "the issuer is " + err.Error(), Advice: "check issuer"}
	}
	u, err := url.Parse(p.Issuer)
	if err != nil {
		return err
	}
	path := strings.TrimSuffix(u.Path, "/")
	var unreadable error
	for _, place := range []string{
		"/.well-known/oauth-authorization-server" + path, // RFC 8414 §3.1
		path + "/.well-known/openid-configuration",
	} {
		at := url.URL{Scheme: u.Scheme, Host: u.Host, Path: place}
		status, body, err := c.get(ctx, at.String())
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			continue
		}
		var m metadata
		if json.Unmarshal(body, &m) == nil {
			return c.useMetadata(&m)
		}
		// Some servers, and captive portals, answer every request with a page.
		unreadable = &TemporaryError{Provider: p.Name, Err: errors.New("what it tells of its endpoints cannot be read")}
	}
	if unreadable != nil {
		return unreadable
	}
	return &GrantError{Provider: p.Name, Text: fmt.Sprintf("%q does not publish its endpoints", p.Issuer),
		Advice: "check issuer, or set auth_url and token_url instead"}
}

func (c *Client) get(ctx context.Context, address string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, nil, err
	}
	return c.do(req)
}

// useMetadata sets the endpoints of the provider from its metadata.
func (c *Client) useMetadata(m *metadata) error {
	p := &c.Provider
	if m.Issuer != p.Issuer {
		// RFC 8414 §3.3: otherwise one server could impersonate another.
		return &GrantError{Provider: p.Name, Text: fmt.Sprintf("the issuer calls itself %.200q", m.Issuer), Advice: "check issuer, to the last slash"}
	}
	for _, endpoint := range []string{m.AuthURL, m.TokenURL, m.DeviceURL} {
		if endpoint == "" {
			continue
		}
		if err := CheckURL(endpoint); err != nil {
			return &GrantError{Provider: p.Name, Text: "an endpoint that it tells is " + err.Error(), Advice: "tell the provider"}
		}
	}
	p.AuthURL, p.TokenURL, p.DeviceURL = m.AuthURL, m.TokenURL, m.DeviceURL
	if slices.Contains(m.Scopes, "offline_access") && len(c.Scopes) == 0 {
		c.Scopes = []string{"offline_access"}
	}
	// RFC 8414 §2: an absent list means client_secret_basic alone.
	p.Basic = !slices.Contains(m.AuthMethods, "client_secret_post")
	if p.TokenURL == "" {
		return &GrantError{Provider: p.Name, Text: fmt.Sprintf("%q publishes no token endpoint", p.Issuer), Advice: "set auth_url and token_url instead"}
	}
	return nil
}
