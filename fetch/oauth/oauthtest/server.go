// Package oauthtest is an OAuth 2.0 provider for tests. It supports authorization codes
// with PKCE, device codes, refresh tokens that rotate and expire, discovery, and
// introspection for mail servers. A Server grants every login without asking, checks
// what clients must send, is configured by Options, and fails as a Fault tells it.
package oauthtest

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options configures a Server. It must not change once the server is in use.
type Options struct {
	// ID and Secret are the credentials of the only client; empty means
	// "client" and a random secret. A Public client has no secret.
	ID, Secret string
	Public     bool
	// Basic accepts the secret in an Authorization header only.
	Basic bool
	// User is the mailbox that access is granted to.
	User string
	// Rotate replaces the refresh token at each refresh.
	Rotate bool
	// AccessLife is how long access tokens live; 0 is an hour. RefreshLife is
	// how long refresh tokens live, announced as refresh_token_expires_in; 0
	// is for ever, and not announced.
	AccessLife, RefreshLife time.Duration
	// DeviceLife is how long device codes live; 0 is 10 minutes. Interval is
	// the pause between polls for them; 0 is none, and not announced.
	DeviceLife, Interval time.Duration
	// Pending lists the errors that answer the first polls for a device code,
	// such as authorization_pending and slow_down.
	Pending []string
	// Deny is the error that answers authorization requests.
	Deny string
	// Mix makes the metadata name another issuer.
	Mix bool
}

// Server is a provider. Its methods may be called while it serves.
type Server struct {
	// URL is the base of its addresses, and its issuer.
	URL string

	opts Options
	mux  *http.ServeMux
	http *httptest.Server // nil unless started

	mu        sync.Mutex
	codes     map[string]url.Values // the authorization requests, by code
	devices   map[string]*device
	refresh   map[string]time.Time // when each valid refresh token expires
	access    map[string]time.Time // when each access token expires
	faults    []Fault
	refreshes int
	secrets   []string
}

type device struct {
	ends    time.Time
	pending []string
	last    time.Time
}

// New returns a provider that is not on the network until Start: use its RoundTrip.
func New(o Options) *Server {
	if o.ID == "" {
		o.ID = "client"
	}
	if o.Secret == "" && !o.Public {
		o.Secret = rand.Text()
	}
	if o.AccessLife == 0 {
		o.AccessLife = time.Hour
	}
	if o.DeviceLife == 0 {
		o.DeviceLife = 10 * time.Minute
	}
	s := &Server{
		URL: "https://provider.test", opts: o, mux: http.NewServeMux(), codes: map[string]url.Values{}, devices: map[string]*device{},
		refresh: map[string]time.Time{}, access: map[string]time.Time{},
	}
	if o.Secret != "" {
		s.secrets = append(s.secrets, o.Secret)
	}
	s.mux.HandleFunc("GET /.well-known/oauth-authorization-server", s.serveMetadata)
	s.mux.HandleFunc("GET /authorize", s.serveAuthorization)
	s.mux.HandleFunc("POST /device", s.serveDeviceAuthorization)
	s.mux.HandleFunc("POST /token", s.serveToken)
	s.mux.HandleFunc("POST /introspect", s.serveIntrospection)
	return s
}

// Start serves on a loopback port, without TLS, until Close.
func (s *Server) Start() {
	s.http = httptest.NewServer(s.mux)
	s.URL = s.http.URL
}

// Close stops what Start began.
func (s *Server) Close() { s.http.Close() }

// RoundTrip answers a request without a network, so that a Server can be the
// Transport of an http.Client.
func (s *Server) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	r = r.Clone(r.Context())
	r.RequestURI = r.URL.RequestURI()
	s.mux.ServeHTTP(w, r)
	return w.Result(), nil
}

// ID returns the client's id.
func (s *Server) ID() string { return s.opts.ID }

// Secret returns the client's secret, empty for a public client.
func (s *Server) Secret() string { return s.opts.Secret }

// Secrets returns the client's secret and all codes and tokens issued so far.
func (s *Server) Secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.secrets)
}

// Refreshes returns how many refreshes were requested.
func (s *Server) Refreshes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refreshes
}

// Revoke revokes all tokens: refreshes fail with invalid_grant.
func (s *Server) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.refresh)
	clear(s.access)
}

// newSecret returns a random code or token, and adds it to Secrets.
func (s *Server) newSecret(kind string) string {
	// Longer than a line of POP3, as the tokens of large providers are.
	secret := kind + "-" + strings.Repeat(rand.Text(), 12)
	s.secrets = append(s.secrets, secret)
	return secret
}

// serveMetadata serves the metadata (RFC 8414 §3.2).
func (s *Server) serveMetadata(w http.ResponseWriter, _ *http.Request) {
	issuer, method := s.URL, "client_secret_post"
	if s.opts.Mix {
		issuer = "https://elsewhere.test"
	}
	if s.opts.Basic {
		method = "client_secret_basic"
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                issuer,
		"authorization_endpoint":                s.URL + "/authorize",
		"token_endpoint":                        s.URL + "/token",
		"device_authorization_endpoint":         s.URL + "/device",
		"introspection_endpoint":                s.URL + "/introspect",
		"scopes_supported":                      []string{"mail", "offline_access"},
		"token_endpoint_auth_methods_supported": []string{method},
	})
}

// serveIntrospection serves RFC 7662 without asking for credentials, for mail servers on
// this machine.
func (s *Server) serveIntrospection(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ends, ok := s.access[r.FormValue("token")]
	if !ok || !time.Now().Before(ends) {
		writeJSON(w, http.StatusOK, map[string]any{"active": false})
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"active": true, "username": s.opts.User, "exp": ends.Unix(), "scope": "mail"})
}

func writeJSON(w http.ResponseWriter, status int, answer map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// writeError answers with an error (RFC 6749 §5.2).
func writeError(w http.ResponseWriter, code, description string) {
	writeJSON(w, http.StatusBadRequest, map[string]any{"error": code, "error_description": description})
}
