package oauth_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mailhaul/mailhaul/fetch/oauth"
	"github.com/mailhaul/mailhaul/fetch/oauth/oauthtest"
)

// The addresses and parameters of each provider are those of its documentation.
func TestProviders(t *testing.T) {
	for _, test := range []struct {
		provider oauth.Provider
		scopes   string // for all protocols
		local    string
		params   string
	}{
		{oauth.Google(), "https://mail.google.com/", "127.0.0.1", "access_type=offline&prompt=consent"},
		{oauth.Microsoft(""), "https://outlook.office.com/POP.AccessAsUser.All https://outlook.office.com/IMAP.AccessAsUser.All " +
			"https://outlook.office.com/SMTP.Send offline_access", "localhost", ""},
		{oauth.Yahoo(), "mail-w", "localhost", ""},
	} {
		p := test.provider
		t.Run(p.Name, func(t *testing.T) {
			if got := strings.Join(p.ScopesFor(oauth.POP, oauth.IMAP, oauth.SMTP), " "); got != test.scopes {
				t.Errorf("scopes %q, want %q", got, test.scopes)
			}
			c := oauth.Client{Provider: p, ID: "id", Scopes: p.ScopesFor(oauth.POP)}
			var asked url.Values
			_, _ = c.Browser(t.Context(), func(address string) error {
				u, err := url.Parse(address)
				asked = u.Query()
				if err != nil {
					return err
				}
				return http.ErrAbortHandler
			})
			if at := "http://" + test.local + ":"; !strings.HasPrefix(asked.Get("redirect_uri"), at) {
				t.Errorf("redirect_uri %q, want %s…", asked.Get("redirect_uri"), at)
			}
			want, _ := url.ParseQuery(test.params)
			for name := range want {
				if asked.Get(name) != want.Get(name) {
					t.Errorf("%s is %q, want %q", name, asked.Get(name), want.Get(name))
				}
			}
			for _, endpoint := range []string{p.AuthURL, p.TokenURL} {
				if err := oauth.CheckURL(endpoint); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if p := oauth.Microsoft("a b/c"); !strings.Contains(p.TokenURL, "/a%20b%2Fc/oauth2/") {
		t.Errorf("the tenant is not escaped: %s", p.TokenURL)
	}
}

func TestCheckURL(t *testing.T) {
	for address, good := range map[string]bool{
		"https://sso.example.com/token": true, "http://127.0.0.1:80/token": true, "http://localhost/": true, "http://[::1]:1/": true,
		"http://sso.example.com/token": false, "http://localhost.example.com/": false, "ftp://127.0.0.1/": false, "sso.example.com": false,
		"https://": false, "https://me:hunter2@sso.example.com/": false, "https://sso.example.com/#x": false, "": false, "https://%zz": false,
		"https://sso.example.com/" + strings.Repeat("x", 2000): false,
	} {
		if err := oauth.CheckURL(address); (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{Basic: true})
		c := client(p)
		c.Provider = oauth.Provider{Name: "sso", Issuer: p.URL}
		c.Scopes = nil
		store := storeWithGrant(t, c)
		if c.Provider.TokenURL != p.URL+"/token" || c.Provider.DeviceURL != p.URL+"/device" || !c.Provider.Basic || !slices.Equal(c.Scopes, []string{"offline_access"}) {
			t.Errorf("learned %+v, scopes %v", c.Provider, c.Scopes)
		}
		// Another process knows the issuer alone, and finds the same grant.
		other := client(p)
		other.Provider = oauth.Provider{Name: "sso", Issuer: p.URL}
		token(t, oauth.NewSource(other, store))
	})
}

// If one of the two well-known addresses serves a page, the other one is used. If both do,
// as behind a captive portal, the error is temporary.
func TestDiscoverySkipsPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{})
		c := client(p)
		portal := true
		c.HTTP.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			switch {
			case portal || strings.HasSuffix(r.URL.Path, "/oauth-authorization-server"):
				w := httptest.NewRecorder()
				_, _ = w.WriteString("<h1>Welcome</h1>")
				return w.Result(), nil
			case strings.HasSuffix(r.URL.Path, "/openid-configuration"):
				r = r.Clone(r.Context())
				r.URL.Path = "/.well-known/oauth-authorization-server"
			}
			return p.RoundTrip(r)
		})
		c.Provider = oauth.Provider{Name: "sso", Issuer: p.URL}
		checkTemporary(t, c.Discover(t.Context()))
		portal = false
		if err := c.Discover(t.Context()); err != nil || c.Provider.TokenURL != p.URL+"/token" {
			t.Errorf("learned %+v, error %v", c.Provider, err)
		}
	})
}

func TestDiscoveryRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		issuer string
		opts   oauthtest.Options
	}{
		"another issuer":  {"https://provider.test", oauthtest.Options{Mix: true}},
		"nothing there":   {"https://provider.test/tenant", oauthtest.Options{}},
		"no TLS":          {"http://provider.test", oauthtest.Options{}},
		"another's slash": {"https://provider.test/", oauthtest.Options{}},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(oauthtest.New(test.opts))
			c.Provider = oauth.Provider{Name: "sso", Issuer: test.issuer}
			checkGrantError(t, c.Discover(t.Context()), "")
		})
	}
}
