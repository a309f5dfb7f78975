package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto/mask"
)

// Client is an OAuth client, registered with a provider, that acts for one mailbox.
type Client struct {
	Provider Provider
	ID       string
	// Secret returns the client's secret; nil for a public client (RFC 6749
	// §2.1), which has none.
	Secret func(ctx context.Context) (string, error)
	// Scopes are the scopes to request.
	Scopes []string
	// User is the mailbox, which providers get as a hint (login_hint).
	User string
	// Account is the argument of mailhaul login, for the advice in errors.
	Account string
	// Dial opens connections to the provider; nil connects directly, or by the
	// proxy of the environment (HTTPS_PROXY).
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// HTTP sends the requests; nil is a client with a timeout of 30 seconds.
	// Redirects are never followed, since requests hold secrets.
	HTTP *http.Client
}

// Key names the grant of the mailbox to the client at the provider. Clients
// with the same key share a grant.
func (c *Client) Key() string {
	server := c.Provider.Issuer
	if server == "" { // with an issuer, Discover may be setting TokenURL
		server = c.Provider.TokenURL
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", server, c.ID, c.User))
	return hex.EncodeToString(sum[:16])
}

// maxResponse bounds the response of a provider, in bytes.
const maxResponse = 256 << 10

// maxToken bounds a token, in bytes. Tokens with many claims have a few thousand.
const maxToken = 16 << 10

// errorResponse is the response to a request that failed (RFC 6749 §5.2).
type errorResponse struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

// post sends a form to an endpoint with the client's credentials, and decodes the JSON
// of the response. If the provider refuses, the error is a *GrantError.
func (c *Client) post(ctx context.Context, endpoint string, form url.Values, into any) error {
	secret := ""
	if c.Secret != nil {
		var err error
		if secret, err = c.Secret(ctx); err != nil {
			return &GrantError{Provider: c.Provider.Name, Text: "no client secret: " + err.Error(), Advice: "check the options of client_secret"}
		}
	}
	form.Set("client_id", c.ID)
	if !c.Provider.Basic && secret != "" {
		form.Set("client_secret", secret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if c.Provider.Basic && secret != "" {
		// RFC 6749 §2.3.1: both are form-encoded first.
		req.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(secret))
	}
	status, body, err := c.do(req)
	if err != nil {
		return err
	}
	var fail errorResponse
	parsed := json.Unmarshal(body, &fail)
	switch {
	case fail.Code == "server_error", fail.Code == "temporarily_unavailable":
		return &TemporaryError{Provider: c.Provider.Name, Err: fmt.Errorf("answered %s", fail.Code)}
	case fail.Code != "": // some answer 200 all the same
		secrets := formSecrets(form)
		secrets.Add(secret)
		return c.newGrantError(secrets.Text(fail.Code), secrets.Text(fail.Description))
	case status != http.StatusOK:
		return &GrantError{Provider: c.Provider.Name, Text: fmt.Sprintf("%s answered %d", endpoint, status), Advice: "check the addresses of the provider"}
	case parsed != nil || json.Unmarshal(body, into) != nil:
		// The parser's error would quote the answer.
		return &TemporaryError{Provider: c.Provider.Name, Err: errors.New("the answer cannot be read")}
	}
	return nil
}

// do sends a request and reads the response. If the provider cannot answer for now,
// the error is a *TemporaryError.
func (c *Client) do(req *http.Request) (status int, body []byte, err error) {
	client := &http.Client{Timeout: 30 * time.Second}
	switch {
	case c.HTTP != nil:
		copied := *c.HTTP
		client = &copied
	case c.Dial != nil:
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.Proxy, t.DialContext, t.DisableKeepAlives = nil, c.Dial, true
		client.Transport = t
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err == nil {
		defer resp.Body.Close()
		body, err = io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	}
	switch {
	case errors.Is(req.Context().Err(), context.Canceled):
		return 0, nil, req.Context().Err()
	case err != nil:
		return 0, nil, &TemporaryError{Provider: c.Provider.Name, Err: err}
	case len(body) > maxResponse:
		return 0, nil, &TemporaryError{Provider: c.Provider.Name, Err: fmt.Errorf("answered more than %d bytes", maxResponse)}
	}
	// Captive portals answer with a redirect.
	if s := resp.StatusCode; s >= 500 || s == http.StatusTooManyRequests || s == http.StatusRequestTimeout || s/100 == 3 {
		after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return 0, nil, &TemporaryError{Provider: c.Provider.Name, Err: fmt.Errorf("answered %d", s),
			After: time.Duration(min(max(after, 0), 3600)) * time.Second}
	}
	return resp.StatusCode, body, nil
}

// formSecrets returns the secrets in a form.
func formSecrets(form url.Values) *mask.Set {
	s := new(mask.Set)
	for _, name := range []string{"client_secret", "refresh_token", "code", "device_code", "code_verifier"} {
		s.Add(form.Get(name))
	}
	return s
}
