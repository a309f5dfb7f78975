package oauth_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/fetch/oauth"
	"github.com/mailhaul/mailhaul/fetch/oauth/oauthtest"
)

// A login by another process is noticed at once, whether there was no grant, or
// one that has ended, or one that is as good as ever.
func TestLoginIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{})
		c := client(p)
		store := oauth.NewStore(t.TempDir())
		s := oauth.NewSource(c, store)
		if _, err := s.Token(t.Context()); err == nil {
			t.Fatal("a token without a grant")
		}
		if !s.Granted().IsZero() {
			t.Errorf("granted at %v, by nobody", s.Granted())
		}
		g := login(t, c, store)
		first := token(t, s)
		if !s.Granted().Equal(g.Granted) {
			t.Errorf("granted at %v, want %v", s.Granted(), g.Granted)
		}
		login(t, c, store)
		if second := token(t, s); second == first || token(t, s) != second {
			t.Error("the token is not one of what was granted last")
		}

		p.Revoke()
		time.Sleep(24 * time.Hour)
		_, err := s.Token(t.Context())
		needsPerson(t, err, "invalid_grant")
		login(t, c, store)
		token(t, s)
	})
}

// What fails by the new grant as well is left alone again.
func TestLoginThatDoesNotHelp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{})
		c := client(p)
		store := granted(t, c)
		s := oauth.NewSource(c, store)
		for want := 1; want <= 2; want++ {
			p.Next(oauthtest.Status(500))
			_, first := s.Token(t.Context())
			isTemporary(t, first)
			if _, again := s.Token(t.Context()); again != first || p.Refreshes() != want {
				t.Errorf("asked again at once: %v, %d requests, want %d", again, p.Refreshes(), want)
			}
			login(t, c, store)
		}
	})
}
