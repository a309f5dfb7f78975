package oauth

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// tokenResponse is the response of a token endpoint (RFC 6749 §5.1).
type tokenResponse struct {
	Access    string  `json:"access_token"`
	Type      string  `json:"token_type"`
	ExpiresIn seconds `json:"expires_in"`
	Refresh   string  `json:"refresh_token"`
	Scope     string  `json:"scope"`
	// How long the refresh token lives has no standard name. The first is that
	// of Google, which sends it for grants that end, and of Microsoft.
	RefreshExpiresIn         seconds `json:"refresh_token_expires_in"`
	RefreshExpiresInKeycloak seconds `json:"refresh_expires_in"`
}

// seconds is a duration that some providers write as a number, others as a string.
type seconds time.Duration

// UnmarshalJSON ignores what is not a positive number.
func (s *seconds) UnmarshalJSON(b []byte) error {
	n, err := strconv.ParseFloat(strings.Trim(string(b), `"`), 64)
	const tenYears = 10 * 365 * 24 * 3600
	if err == nil && n > 0 {
		*s = seconds(time.Duration(min(n, tenYears)) * time.Second)
	}
	return nil
}

// requestTokens sends a request to the token endpoint.
func (c *Client) requestTokens(ctx context.Context, form url.Values) (*tokenResponse, error) {
	var t tokenResponse
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

// isToken reports whether s can be sent as a token: it has only visible characters
// (RFC 6749 appendix A.12), so that it cannot inject anything into a login.
func isToken(s string) bool {
	return s != "" && len(s) <= maxToken && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// newGrant returns the grant for the tokens that a login gave.
func (c *Client) newGrant(t *tokenResponse) (Grant, error) {
	if t.Refresh == "" {
		return Grant{}, &GrantError{Provider: c.Provider.Name, Text: "gave access once, but no refresh token to renew it",
			Advice: "ask for it by scopes (offline_access, with most providers)"}
	}
	g := Grant{Provider: c.Provider.Name, User: c.User, Scopes: c.Scopes, Granted: now()}
	if t.Scope != "" {
		g.Scopes = strings.Fields(t.Scope)
	}
	g.applyResponse(t)
	return g, nil
}

// now returns the current time as it is stored in a grant.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
