package oauth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto/mask"
)

// Browser lets a person log in with a browser on this machine (RFC 8252). The provider
// redirects the browser to a port of the loopback interface that is open only during
// the login. show gets the address to open; its error ends the login. Errors are
// *GrantError, *TemporaryError, or those of show and ctx.
func (c *Client) Browser(ctx context.Context, show func(address string) error) (Grant, error) {
	if err := c.Discover(ctx); err != nil {
		return Grant{}, err
	}
	if c.Provider.AuthURL == "" {
		return Grant{}, &GrantError{Provider: c.Provider.Name, Text: "has no login by a browser", Advice: "try --device"}
	}
	// RFC 8252 §8.3: the loopback interface alone.
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return Grant{}, err
	}
	host := cmp.Or(c.Provider.LocalName, "127.0.0.1")
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	login := &browserLogin{
		client: c, state: rand.Text(), verifier: rand.Text() + rand.Text(), // RFC 7636 §4.1: 43 characters or more
		redirect: "http://" + net.JoinHostPort(host, port), answered: make(chan struct{}, 1), result: make(chan loginResult, 1),
	}
	server := &http.Server{
		Handler: login, ErrorLog: log.New(io.Discard, "", 0), ReadTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	go server.Serve(listener) // ends by Close or Shutdown
	defer server.Close()

	if err := show(login.authURL()); err != nil {
		return Grant{}, err
	}
	select {
	case <-ctx.Done():
		return Grant{}, ctx.Err()
	case e := <-login.result:
		// Let the browser receive its page, but do not wait long for that.
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_ = server.Shutdown(short)
		return e.grant, e.err
	}
}

// browserLogin is a login by a browser, from the address that is shown to the request
// that comes back.
type browserLogin struct {
	client                    *Client
	state, verifier, redirect string
	answered                  chan struct{} // full once a request with the state came
	result                    chan loginResult
}

type loginResult struct {
	grant Grant
	err   error
}

// authURL returns the address to open in the browser (RFC 6749 §4.1.1, RFC 7636 §4.3).
func (b *browserLogin) authURL() string {
	c := b.client
	sum := sha256.Sum256([]byte(b.verifier))
	form := url.Values{
		"response_type":         {"code"},
		"client_id":             {c.ID},
		"redirect_uri":          {b.redirect},
		"state":                 {b.state},
		"code_challenge":        {base64.RawURLEncoding.EncodeToString(sum[:])},
		"code_challenge_method": {"S256"},
	}
	if len(c.Scopes) > 0 {
		form.Set("scope", strings.Join(c.Scopes, " "))
	}
	if c.User != "" {
		form.Set("login_hint", c.User)
	}
	for name, value := range c.Provider.AuthParams {
		form.Set(name, value)
	}
	sep := "?"
	if strings.Contains(c.Provider.AuthURL, "?") {
		sep = "&" // RFC 6749 §3.1: keep the query of the endpoint
	}
	return c.Provider.AuthURL + sep + form.Encode()
}

// ServeHTTP answers the browser. A request without our state does not belong to this
// login (RFC 6749 §10.12), and changes nothing.
func (b *browserLogin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", "default-src 'none'")
	header.Set("Referrer-Policy", "no-referrer") // the address holds the code
	q := r.URL.Query()
	if r.Method != http.MethodGet || r.URL.Path != "/" || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(b.state)) != 1 {
		w.WriteHeader(http.StatusBadRequest)
		writePage(w, "This is not the login that mailhaul waits for.")
		return
	}
	select {
	case b.answered <- struct{}{}:
	default:
		w.WriteHeader(http.StatusBadRequest)
		writePage(w, "This login has been used.")
		return
	}
	g, err := b.exchangeCode(r.Context(), q)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		writePage(w, "The login did not work. The terminal says why.")
	} else {
		writePage(w, "Done. You can close this window.")
	}
	b.result <- loginResult{g, err}
}

func writePage(w io.Writer, text string) {
	_, _ = io.WriteString(w, "<!DOCTYPE html><title>mailhaul</title><p>"+text+"</p>\n")
}

// exchangeCode exchanges the code in the redirect for tokens (RFC 6749 §4.1.3).
func (b *browserLogin) exchangeCode(ctx context.Context, q url.Values) (Grant, error) {
	c := b.client
	if code := q.Get("error"); code != "" {
		var secrets mask.Set
		secrets.Add(b.state)
		return Grant{}, c.newGrantError(secrets.Text(code), secrets.Text(q.Get("error_description")))
	}
	if q.Get("code") == "" {
		return Grant{}, &TemporaryError{Provider: c.Provider.Name, Err: errors.New("sent the browser back without a code")}
	}
	// The grant must not be lost if the browser hangs up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), RefreshLimit)
	defer cancel()
	t, err := c.requestTokens(ctx, url.Values{
		"grant_type":    {"authorization_code"},
		"code":          {q.Get("code")},
		"redirect_uri":  {b.redirect},
		"code_verifier": {b.verifier},
	})
	if err != nil {
		return Grant{}, err
	}
	return c.newGrant(t)
}
