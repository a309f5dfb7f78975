package oauth

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// tokens is what a token endpoint gives (RFC 6749 §5.1).
type tokens struct {
	Access  string  `json:"access_token"`
	Type    string  `json:"token_type"`
	Life    seconds `json:"expires_in"`
	Refresh string  `json:"refresh_token"`
	Scope   string  `json:"scope"`
	// How long the refresh token lives: no standard has a name for it. The
	// first is Google's, who sends it for grants that end, and Microsoft's;
	// the second Keycloak's.
	RefreshLife      seconds `json:"refresh_token_expires_in"`
	OtherRefreshLife seconds `json:"refresh_expires_in"`
}

// seconds is a time that some providers write as a number, some as a string.
type seconds time.Duration

// UnmarshalJSON takes what cannot be a time for one that was left out.
func (s *seconds) UnmarshalJSON(b []byte) error {
	n, err := strconv.ParseFloat(strings.Trim(string(b), `"`), 64)
	const most = 10 * 365 * 24 * 3600
	if err == nil && n > 0 {
		*s = seconds(time.Duration(min(n, most)) * time.Second)
	}
	return nil
}

// ask sends a request to the token endpoint.
func (c *Client) ask(ctx context.Context, form url.Values) (*tokens, error) {
	var t tokens
	if err := c.post(ctx, c.Provider.TokenURL, form, &t); err != nil {
		return nil, err
	}
	switch {
	case !isToken(t.Access), t.Refresh != "" && !isToken(t.Refresh):
		return nil, &TemporaryError{Provider: c.Provider.Name, Err: errors.New("the answer holds no token")}
	case t.Type != "" && !strings.EqualFold(t.Type, "bearer"):
		// RFC 6749 §7.1: a client must not use a token of a type it does not
		// understand. XOAUTH2 and RFC 7628 take bearer tokens.
		return nil, &GrantError{Provider: c.Provider.Name, Text: "its tokens are not bearer tokens", Advice: "the client is registered for another use"}
	}
	return &t, nil
}

// isToken reports whether s can be sent as a token: of visible characters
// (RFC 6749 appendix A.12), so that it cannot break out of where it stands in
// a login.
func isToken(s string) bool {
	return s != "" && len(s) <= maxToken && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// grant makes a grant of the tokens that a login gave.
func (c *Client) grant(t *tokens) (Grant, error) {
	if t.Refresh == "" {
		return Grant{}, &GrantError{Provider: c.Provider.Name, Text: "gave access once, but no refresh token to renew it",
			Advice: "ask for it by scopes (offline_access, with most providers)"}
	}
	g := Grant{Provider: c.Provider.Name, User: c.User, Scopes: c.Scopes, Granted: now()}
	if t.Scope != "" {
		g.Scopes = strings.Fields(t.Scope)
	}
	g.renew(t)
	return g, nil
}

// now is the time as it is written into a grant.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
