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

// Browser has a person log in by a browser on this machine (RFC 8252), whose
// answer comes to a port of the loopback interface that is open only for the
// while. show is given the address to open; its error ends the login. Errors
// are *GrantError, *TemporaryError, or those of show and ctx.
func (c *Client) Browser(ctx context.Context, show func(address string) error) (Grant, error) {
	if err := c.Discover(ctx); err != nil {
		return Grant{}, err
	}
	if c.Provider.AuthURL == "" {
		return Grant{}, &GrantError{Provider: c.Provider.Name, Text: "has no login by a browser", Advice: "try --device"}
	}
	// RFC 8252 §8.3: the loopback interface alone.
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return Grant{}, err
	}
	host := cmp.Or(c.Provider.LocalName, "127.0.0.1")
	_, port, _ := net.SplitHostPort(l.Addr().String())
	v := &visit{
		client: c, state: rand.Text(), verifier: rand.Text() + rand.Text(), // RFC 7636 §4.1: 43 characters or more
		redirect: "http://" + net.JoinHostPort(host, port), turn: make(chan struct{}, 1), end: make(chan ending, 1),
	}
	server := &http.Server{
		Handler: v, ErrorLog: log.New(io.Discard, "", 0), ReadTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	go server.Serve(l) // ends by Close or Shutdown
	defer server.Close()

	if err := show(v.address()); err != nil {
		return Grant{}, err
	}
	select {
	case <-ctx.Done():
		return Grant{}, ctx.Err()
	case e := <-v.end:
		// The page is still on its way; should it get stuck, that is no harm.
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_ = server.Shutdown(short)
		return e.grant, e.err
	}
}

// visit is one login by a browser, from the address that is shown to the
// request that comes back.
type visit struct {
	client                    *Client
	state, verifier, redirect string
	turn                      chan struct{} // has room for the one answer that counts
	end                       chan ending
}

type ending struct {
	grant Grant
	err   error
}

// address returns where to send the browser (RFC 6749 §4.1.1, RFC 7636 §4.3).
func (v *visit) address() string {
	c := v.client
	sum := sha256.Sum256([]byte(v.verifier))
	form := url.Values{
		"response_type":         {"code"},
		"client_id":             {c.ID},
		"redirect_uri":          {v.redirect},
		"state":                 {v.state},
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
		sep = "&" // RFC 6749 §3.1: a query in the endpoint is kept
	}
	return c.Provider.AuthURL + sep + form.Encode()
}

// ServeHTTP answers the browser. What has not our state does not come from
// the login that we began (RFC 6749 §10.12), and changes nothing.
func (v *visit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", "default-src 'none'")
	header.Set("Referrer-Policy", "no-referrer") // the address holds the code
	q := r.URL.Query()
	if r.Method != http.MethodGet || r.URL.Path != "/" || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(v.state)) != 1 {
		w.WriteHeader(http.StatusBadRequest)
		page(w, "This is not the login that mailhaul waits for.")
		return
	}
	select {
	case v.turn <- struct{}{}:
	default:
		w.WriteHeader(http.StatusBadRequest)
		page(w, "This login has been used.")
		return
	}
	g, err := v.redeem(r.Context(), q)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		page(w, "The login did not work. The terminal says why.")
	} else {
		page(w, "Done. You can close this window.")
	}
	v.end <- ending{g, err}
}

func page(w io.Writer, text string) {
	_, _ = io.WriteString(w, "<!DOCTYPE html><title>mailhaul</title><p>"+text+"</p>\n")
}

// redeem exchanges the code that the browser brought (RFC 6749 §4.1.3).
func (v *visit) redeem(ctx context.Context, q url.Values) (Grant, error) {
	c := v.client
	if code := q.Get("error"); code != "" {
		var secrets mask.Set
		secrets.Add(v.state)
		return Grant{}, c.refusal(secrets.Text(code), secrets.Text(q.Get("error_description")))
	}
	if q.Get("code") == "" {
		return Grant{}, &TemporaryError{Provider: c.Provider.Name, Err: errors.New("sent the browser back without a code")}
	}
	// That the browser hangs up is no reason to lose the grant.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), RenewalLimit)
	defer cancel()
	t, err := c.ask(ctx, url.Values{
		"grant_type":    {"authorization_code"},
		"code":          {q.Get("code")},
		"redirect_uri":  {v.redirect},
		"code_verifier": {v.verifier},
	})
	if err != nil {
		return Grant{}, err
	}
	return c.grant(t)
}
