package oauth_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/fetch/oauth"
	"github.com/mailhaul/mailhaul/fetch/oauth/oauthtest"
)

func TestStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{RefreshLife: 7 * 24 * time.Hour})
		c := client(p)
		state := t.TempDir()
		store := oauth.NewStore(state)
		_, err := store.Load(c)
		checkGrantError(t, err, "")
		if _, err := os.Stat(filepath.Join(state, "oauth")); !errors.Is(err, fs.ErrNotExist) {
			t.Error("Load created the folder")
		}

		saved := login(t, c, store)
		g, err := store.Load(c)
		if err != nil {
			t.Fatal(err)
		}
		if !g.Granted.Equal(saved.Granted) || !g.Refreshed.Equal(saved.Refreshed) || g.User != mailbox || g.Provider != "test" || len(g.Scopes) != 1 {
			t.Errorf("loaded %+v, saved %+v", g, saved)
		}
		if !g.Expires.Equal(g.Granted.Add(7 * 24 * time.Hour)) {
			t.Errorf("ends %v; it was granted at %v for a week", g.Expires, g.Granted)
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			checkNoSecrets(t, p, fmt.Sprintf(verb+verb, g, &g))
			checkNoSecrets(t, p, fmt.Sprintf(verb+verb, *c, store))
		}

		// A refresh whose response has no new expiry keeps the stored one. After
		// it, a person must log in.
		s := oauth.NewSource(c, store)
		token(t, s)
		if g, err = store.Load(c); err != nil || !g.Expires.Equal(saved.Expires) {
			t.Errorf("ends %v, want %v; error %v", g.Expires, saved.Expires, err)
		}
		time.Sleep(7 * 24 * time.Hour)
		_, err = s.Token(t.Context())
		checkGrantError(t, err, "invalid_grant")
	})
}

func TestStoreIsPrivate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{})
		c := client(p)
		state := t.TempDir()
		store := oauth.NewStore(state)
		login(t, c, store)
		if err := filepath.WalkDir(filepath.Join(state, "oauth"), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %04o", path, info.Mode().Perm())
			}
			if strings.Contains(path, "me@") || strings.Contains(path, ".new") {
				t.Errorf("there is a file %s", path)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		file, err := filepath.Glob(filepath.Join(state, "oauth", "*.json"))
		if err != nil || len(file) != 1 {
			t.Fatal(file, err)
		}
		for path, mode := range map[string]fs.FileMode{file[0]: 0o640, filepath.Dir(file[0]): 0o701} {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			_, err = store.Load(c)
			checkGrantError(t, err, "")
			if err := os.Chmod(path, info.Mode()); err != nil {
				t.Fatal(err)
			}
		}

		text, err := os.ReadFile(file[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file[0], text[:len(text)-5], 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = store.Load(c)
		checkGrantError(t, err, "")
		checkNoSecrets(t, p, err.Error())
	})
}

// Clients for the same mailbox with the same id at the same provider have the same key,
// and no others.
func TestKey(t *testing.T) {
	c := client(oauthtest.New(oauthtest.Options{}))
	same := *c
	same.Account, same.Scopes = "other", nil
	if same.Key() != c.Key() {
		t.Error("accounts of one mailbox have different keys")
	}
	for name, change := range map[string]func(*oauth.Client){
		"user":     func(c *oauth.Client) { c.User = "you@example.com" },
		"client":   func(c *oauth.Client) { c.ID = "other" },
		"provider": func(c *oauth.Client) { c.Provider.TokenURL += "2" },
		"issuer":   func(c *oauth.Client) { c.Provider.Issuer = "https://sso.example.com" },
	} {
		other := *c
		change(&other)
		if other.Key() == c.Key() {
			t.Errorf("another %s has the same key", name)
		}
	}
}

// Save waits for a refresh of the old grant, which could otherwise overwrite the new one.
func TestSaveWaitsForARefresh(t *testing.T) {
	p := oauthtest.New(oauthtest.Options{Rotate: true})
	c := client(p)
	store := oauth.NewStore(t.TempDir())
	var old oauth.Grant
	synctest.Test(t, func(t *testing.T) { old = login(t, c, store) })
	reached, release := make(chan struct{}), make(chan struct{})
	p.Next(oauthtest.Hold(reached, release))
	s := oauth.NewSource(c, store)
	done := make(chan error)
	go func() {
		_, err := s.Token(t.Context())
		done <- err
	}()
	<-reached
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := store.Save(ctx, c, old); !errors.Is(err, context.Canceled) {
		t.Errorf("Save did not wait: %v", err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := store.Save(t.Context(), c, old); err != nil {
		t.Error(err)
	}
}
