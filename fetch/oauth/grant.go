package oauth

import (
	"cmp"
	"time"
)

// Grant is the access to a mailbox that a person gave.
type Grant struct {
	// Provider is the name of who gave it, User the mailbox.
	Provider, User string
	// Scopes is what it allows.
	Scopes []string
	// Granted is when a person gave it, Refreshed when it was last exchanged
	// for an access token.
	Granted, Refreshed time.Time
	// Expires is when it ends if nothing renews it, after which a person must log in
	// again; zero if that is unknown. Google's end within a week for a client that
	// is registered as a test.
	Expires time.Time

	// refresh is the refresh token. Of a pointer, fmt prints the address.
	refresh *string
}

// renew notes the answer to a request for tokens.
func (g *Grant) renew(t *tokens) {
	g.Refreshed = now()
	life := time.Duration(cmp.Or(t.RefreshLife, t.OtherRefreshLife))
	switch {
	case life > 0:
		g.Expires = g.Refreshed.Add(life)
	case t.Refresh != "":
		g.Expires = time.Time{} // it was the old token's
	}
	if t.Refresh != "" {
		g.refresh = &t.Refresh
	}
}
