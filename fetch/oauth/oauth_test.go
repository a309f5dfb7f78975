package oauth_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/fetch/oauth"
	"github.com/mailhaul/mailhaul/fetch/oauth/oauthtest"
)

const mailbox = "me@example.com"

// client returns a client of a provider, which it reaches without a network
// unless the provider was started.
func client(p *oauthtest.Server) *oauth.Client {
	return &oauth.Client{
		Provider: oauth.Provider{Name: "test", AuthURL: p.URL + "/authorize", TokenURL: p.URL + "/token", DeviceURL: p.URL + "/device"},
		ID:       p.ID(),
		Secret:   func(context.Context) (string, error) { return p.Secret(), nil },
		Scopes:   []string{"mail"},
		User:     mailbox,
		Account:  "work",
		HTTP:     &http.Client{Transport: p},
	}
}

// storeWithGrant returns a store that holds a grant for the client.
func storeWithGrant(t *testing.T, c *oauth.Client) *oauth.Store {
	t.Helper()
	store := oauth.NewStore(t.TempDir())
	login(t, c, store)
	return store
}

// login logs in by a device code, and saves the grant.
func login(t *testing.T, c *oauth.Client, store *oauth.Store) oauth.Grant {
	t.Helper()
	g, err := c.Device(t.Context(), func(oauth.DeviceCode) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Save(t.Context(), c, g); err != nil {
		t.Fatal(err)
	}
	return g
}

// checkGrantError checks that err is a *GrantError with a code and a hint.
func checkGrantError(t *testing.T, err error, code string) {
	t.Helper()
	var e *oauth.GrantError
	if !errors.As(err, &e) || e.Code != code || e.Hint() == "" {
		t.Errorf("got %v (%T), want a GrantError with code %q and a hint", err, err, code)
	}
}

// checkTemporary checks that err is a *TemporaryError.
func checkTemporary(t *testing.T, err error) {
	t.Helper()
	var e *oauth.TemporaryError
	if !errors.As(err, &e) || !e.Temporary() {
		t.Errorf("got %v (%T), want a TemporaryError", err, err)
	}
}

// checkNoSecrets checks that text holds none of the provider's secrets, plain or encoded.
func checkNoSecrets(t *testing.T, p *oauthtest.Server, text string) {
	t.Helper()
	secrets := p.Secrets()
	if len(secrets) == 0 {
		t.Fatal("the provider has no secrets")
	}
	for _, secret := range secrets {
		for _, form := range []string{
			secret, secret[:len(secret)/2], secret[len(secret)/2:], hex.EncodeToString([]byte(secret)), fmt.Sprint([]byte(secret)),
			// In base64, at each offset from a multiple of three bytes.
			base64.StdEncoding.EncodeToString([]byte(secret))[:16],
			base64.StdEncoding.EncodeToString([]byte(secret)[1:])[:16],
			base64.StdEncoding.EncodeToString([]byte(secret)[2:])[:16],
		} {
			if strings.Contains(text, form) {
				t.Errorf("%q is in: %s", form, text)
			}
		}
	}
}
