// Package oauthtest is an OAuth 2.0 provider for tests: authorization codes
// with PKCE, device codes, refresh tokens that rotate and die, discovery, and
// introspection for mail servers. It consents to everything by itself, checks
// what clients must send, and fails to order.
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

// Options says what a provider is like. Its fields are not changed once the
// provider is in use.
type Options struct {
	// ID and Secret are those of the one client; empty ones are "client" and
	// a random secret. Public leaves out the secret.
	ID, Secret string
	Public     bool
	// Basic takes the secret from an Authorization header only.
	Basic bool
	// User is the mailbox that access is granted to.
	User string
	// Rotate gives a new refresh token at each refresh and kills the old one.
	Rotate bool
	// AccessLife is how long access tokens live; 0 is an hour. RefreshLife is
	// how long refresh tokens do, and told by refresh_token_expires_in; 0 is
	// for ever, and not told.
	AccessLife, RefreshLife time.Duration
	// DeviceLife is how long device codes live, Interval how often to ask for
	// them; 0 are 10 minutes and not told.
	DeviceLife, Interval time.Duration
	// Pending are the errors that the polls of a device code are answered
	// with, before the tokens: authorization_pending, slow_down and others.
	Pending []string
	// Deny refuses authorization requests with this error.
	Deny string
	// Mix has the metadata name another issuer.
	Mix bool
}

// Server is a provider. Its methods may be called while it serves.
type Server struct {
	// URL is where it is, and its issuer.
	URL string

	opts Options
	mux  *http.ServeMux
	http *httptest.Server // nil unless started

	mu        sync.Mutex
	codes     map[string]url.Values // the authorization requests, by code
	devices   map[string]*device
	refresh   map[string]time.Time // of those that live, when they end
	access    map[string]time.Time
	faults    []Fault
	refreshes int
	secrets   []string
}

type device struct {
	ends    time.Time
	pending []string
	last    time.Time
}

// New returns a provider that is reached by its RoundTrip alone, without a
// network. Start puts it on one.
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
	s.mux.HandleFunc("GET /.well-known/oauth-authorization-server", s.metadata)
	s.mux.HandleFunc("GET /authorize", s.authorize)
	s.mux.HandleFunc("POST /device", s.authorizeDevice)
	s.mux.HandleFunc("POST /token", s.token)
	s.mux.HandleFunc("POST /introspect", s.introspect)
	return s
}

// Start serves on a port of the loopback interface, without TLS, until Close.
func (s *Server) Start() {
	s.http = httptest.NewServer(s.mux)
	s.URL = s.http.URL
}

// Close ends what Start began.
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

// Secrets returns everything that nobody is to see: the client's secret and
// all codes and tokens so far.
func (s *Server) Secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.secrets)
}

// Refreshes returns how many refreshes were asked for.
func (s *Server) Refreshes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refreshes
}

// Revoke withdraws all access: refreshes are answered with invalid_grant.
func (s *Server) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.refresh)
	clear(s.access)
}

// mint makes a secret.
func (s *Server) mint(kind string) string {
	// Longer than a line of POP3, as the tokens of large providers are.
	secret := kind + "-" + strings.Repeat(rand.Text(), 12)
	s.secrets = append(s.secrets, secret)
	return secret
}

// metadata is RFC 8414 §3.2.
func (s *Server) metadata(w http.ResponseWriter, _ *http.Request) {
	issuer, method := s.URL, "client_secret_post"
	if s.opts.Mix {
		issuer = "https://elsewhere.test"
	}
	if s.opts.Basic {
		method = "client_secret_basic"
	}
	reply(w, http.StatusOK, map[string]any{
		"issuer":                                issuer,
		"authorization_endpoint":                s.URL + "/authorize",
		"token_endpoint":                        s.URL + "/token",
		"device_authorization_endpoint":         s.URL + "/device",
		"introspection_endpoint":                s.URL + "/introspect",
		"scopes_supported":                      []string{"mail", "offline_access"},
		"token_endpoint_auth_methods_supported": []string{method},
	})
}

// introspect is RFC 7662. It asks for no credentials: it is for mail servers
// on this machine.
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ends, ok := s.access[r.FormValue("token")]
	if !ok || !time.Now().Before(ends) {
		reply(w, http.StatusOK, map[string]any{"active": false})
		return
	}
	reply(w, http.StatusOK, map[string]any{"active": true, "username": s.opts.User, "exp": ends.Unix(), "scope": "mail"})
}

func reply(w http.ResponseWriter, status int, answer map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// refuse answers with an error of RFC 6749 §5.2.
func refuse(w http.ResponseWriter, code, description string) {
	reply(w, http.StatusBadRequest, map[string]any{"error": code, "error_description": description})
}
