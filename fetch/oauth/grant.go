package oauth

import (
	"cmp"
	"time"
)

// Grant is the access to a mailbox that a person has granted.
type Grant struct {
	// Provider is the name of the provider, User the mailbox.
	Provider, User string
	// Scopes is what the grant allows.
	Scopes []string
	// Granted is when a person logged in, Refreshed when the grant last gave
	// an access token.
	Granted, Refreshed time.Time
	// Expires is when the grant ends unless it is renewed; zero if that is not
	// known. Google's end within a week if the client is registered as a test.
	Expires time.Time

	// refresh is the refresh token. It is a pointer so that fmt does not
	// print the token.
	refresh *string
}

// applyResponse updates the grant by the response to a request for tokens.
func (g *Grant) applyResponse(t *tokenResponse) {
	g.Refreshed = now()
	life := time.Duration(cmp.Or(t.RefreshExpiresIn, t.RefreshExpiresInKeycloak))
	switch {
	case life > 0:
		g.Expires = g.Refreshed.Add(life)
	case t.Refresh != "":
		g.Expires = time.Time{} // which was that of the old token
	}
	if t.Refresh != "" {
		g.refresh = &t.Refresh
	}
}
