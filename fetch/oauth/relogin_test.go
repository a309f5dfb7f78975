package oauth_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/fetch/oauth"
	"github.com/mailhaul/mailhaul/fetch/oauth/oauthtest"
)

// Token uses a new grant at once after a login by another process, whether there was no
// grant, a revoked one, or a valid one.
func TestTokenAfterLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{})
		c := client(p)
		store := oauth.NewStore(t.TempDir())
		s := oauth.NewSource(c, store)
		if _, err := s.Token(t.Context()); err == nil {
			t.Fatal("got a token without a grant")
		}
		if !s.Granted().IsZero() {
			t.Errorf("granted at %v, before any login", s.Granted())
		}
		g := login(t, c, store)
		first := token(t, s)
		if !s.Granted().Equal(g.Granted) {
			t.Errorf("granted at %v, want %v", s.Granted(), g.Granted)
		}
		login(t, c, store)
		if second := token(t, s); second == first || token(t, s) != second {
			t.Error("the token is not of the last grant")
		}

		p.Revoke()
		time.Sleep(24 * time.Hour)
		_, err := s.Token(t.Context())
		checkGrantError(t, err, "invalid_grant")
		login(t, c, store)
		token(t, s)
	})
}

// A refresh that fails with the new grant, too, is followed by a pause.
func TestPauseAfterLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{})
		c := client(p)
		store := storeWithGrant(t, c)
		s := oauth.NewSource(c, store)
		for want := 1; want <= 2; want++ {
			p.Next(oauthtest.Status(500))
			_, first := s.Token(t.Context())
			checkTemporary(t, first)
			if _, again := s.Token(t.Context()); again != first || p.Refreshes() != want {
				t.Errorf("no pause: %v, %d requests, want %d", again, p.Refreshes(), want)
			}
			login(t, c, store)
		}
	})
}
