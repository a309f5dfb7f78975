package oauth_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/fetch/oauth"
	"github.com/mailhaul/mailhaul/fetch/oauth/oauthtest"
)

// startProvider returns a provider on the network and a client of it.
func startProvider(t *testing.T, o oauthtest.Options) (*oauthtest.Server, *oauth.Client) {
	t.Helper()
	p := oauthtest.New(o)
	p.Start()
	t.Cleanup(p.Close)
	c := client(p)
	c.HTTP = nil
	return p, c
}

// browse opens an address, follows redirects, and returns the page.
func browse(t *testing.T, address string) (status int, page string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(text)
}

// browseInBackground opens an address in a goroutine, which sends the page.
func browseInBackground(t *testing.T, address string) <-chan string {
	page := make(chan string)
	go func() {
		_, text := browse(t, address)
		page <- text
	}()
	return page
}

func TestBrowser(t *testing.T) {
	p, c := startProvider(t, oauthtest.Options{})
	c.Provider.AuthParams = map[string]string{"prompt": "consent"}
	var page <-chan string
	g, err := c.Browser(t.Context(), func(address string) error {
		u, err := url.Parse(address)
		if err != nil {
			return err
		}
		q := u.Query()
		if q.Get("login_hint") != mailbox || q.Get("prompt") != "consent" || q.Get("scope") != "mail" || !strings.HasPrefix(q.Get("redirect_uri"), "http://127.0.0.1:") {
			t.Errorf("the request has the parameters %v", q)
		}
		page = browseInBackground(t, address)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if text := <-page; !strings.Contains(text, "You can close this window") {
		t.Errorf("the browser shows %q", text)
	}
	store := oauth.NewStore(t.TempDir())
	if err := store.Save(t.Context(), c, g); err != nil {
		t.Fatal(err)
	}
	token(t, oauth.NewSource(c, store))
	if n := p.Refreshes(); n != 1 {
		t.Errorf("%d refreshes", n)
	}
}

// Requests without the state of the login change nothing.
func TestBrowserIgnoresOthers(t *testing.T) {
	_, c := startProvider(t, oauthtest.Options{})
	var page <-chan string
	_, err := c.Browser(t.Context(), func(address string) error {
		u, err := url.Parse(address)
		if err != nil {
			return err
		}
		redirect := u.Query().Get("redirect_uri")
		for _, other := range []string{
			"/favicon.ico", "/?state=guessed&code=stolen", "/?code=stolen", "/?error=access_denied", "/other?state=" + u.Query().Get("state"),
		} {
			if status, _ := browse(t, redirect+other); status != http.StatusBadRequest {
				t.Errorf("%s: answered %d", other, status)
			}
		}
		page = browseInBackground(t, address)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	<-page
}

func TestBrowserRefused(t *testing.T) {
	for name, test := range map[string]struct {
		opts  oauthtest.Options
		fault oauthtest.Fault
		code  string // "" for a temporary error
	}{
		"access denied": {opts: oauthtest.Options{Deny: "access_denied"}, code: "access_denied"},
		"code refused":  {fault: oauthtest.Refuse("invalid_grant"), code: "invalid_grant"},
		"server error":  {fault: oauthtest.Status(500)},
	} {
		t.Run(name, func(t *testing.T) {
			p, c := startProvider(t, test.opts)
			if test.fault != nil {
				p.Next(test.fault)
			}
			var page <-chan string
			_, err := c.Browser(t.Context(), func(address string) error {
				page = browseInBackground(t, address)
				return nil
			})
			if test.code == "" {
				checkTemporary(t, err)
			} else {
				checkGrantError(t, err, test.code)
			}
			if text := <-page; !strings.Contains(text, "did not work") {
				t.Errorf("the browser shows %q", text)
			}
			checkNoSecrets(t, p, err.Error())
		})
	}
}

func TestBrowserContext(t *testing.T) {
	_, c := startProvider(t, oauthtest.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var redirect string
	_, err := c.Browser(ctx, func(address string) error {
		u, err := url.Parse(address)
		redirect = u.Query().Get("redirect_uri")
		cancel()
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if resp, err := http.Get(redirect); err == nil {
		resp.Body.Close()
		t.Error("the port is still open")
	}
}

func TestNoRefreshToken(t *testing.T) {
	p, c := startProvider(t, oauthtest.Options{})
	p.Next(oauthtest.Body(`{"access_token":"access-only","token_type":"Bearer","expires_in":3600}`))
	var page <-chan string
	_, err := c.Browser(t.Context(), func(address string) error {
		page = browseInBackground(t, address)
		return nil
	})
	<-page
	checkGrantError(t, err, "")
}
