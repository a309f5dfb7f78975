package oauthtest

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"time"
)

// serveToken serves the token endpoint (RFC 6749 §3.2).
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	refreshing := r.FormValue("grant_type") == "refresh_token"
	s.mu.Lock()
	if refreshing {
		s.refreshes++
	}
	var fault Fault
	if len(s.faults) > 0 {
		fault, s.faults = s.faults[0], s.faults[1:]
	}
	s.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isAuthenticated(r) {
		writeError(w, "invalid_client", "The client is not who it says it is.")
		return
	}
	switch r.FormValue("grant_type") {
	case "authorization_code":
		asked, ok := s.codes[r.FormValue("code")]
		delete(s.codes, r.FormValue("code")) // RFC 6749 §4.1.2: valid once
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if !ok || r.FormValue("redirect_uri") != asked.Get("redirect_uri") ||
			base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge") {
			writeError(w, "invalid_grant", "Bad code.")
			return
		}
		s.writeTokens(w, asked, true)
	case "urn:ietf:params:oauth:grant-type:device_code":
		if code := s.deviceError(r.FormValue("device_code")); code != "" {
			writeError(w, code, "")
			return
		}
		s.writeTokens(w, nil, true)
	case "refresh_token":
		old := r.FormValue("refresh_token")
		ends, ok := s.refresh[old]
		if !ok || !ends.IsZero() && !time.Now().Before(ends) {
			// As some providers do, which a careless client would log.
			writeError(w, "invalid_grant", "Token "+old+" has been expired or revoked.")
			return
		}
		if s.opts.Rotate {
			delete(s.refresh, old)
		}
		s.writeTokens(w, nil, s.opts.Rotate)
	default:
		writeError(w, "unsupported_grant_type", "")
	}
}

// isAuthenticated reports whether a request has the client's credentials (RFC 6749 §2.3.1).
func (s *Server) isAuthenticated(r *http.Request) bool {
	id, secret := r.FormValue("client_id"), r.FormValue("client_secret")
	if s.opts.Basic {
		id, secret, _ = r.BasicAuth()
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
	}
	return id == s.opts.ID && secret == s.opts.Secret
}

// writeTokens answers with an access token, and a new refresh token if refresh is set.
func (s *Server) writeTokens(w http.ResponseWriter, asked url.Values, refresh bool) {
	access := s.newSecret("access")
	s.access[access] = time.Now().Add(s.opts.AccessLife)
	answer := map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": int(s.opts.AccessLife / time.Second)}
	if scope := asked.Get("scope"); scope != "" {
		answer["scope"] = scope
	}
	if refresh {
		token := s.newSecret("refresh")
		s.refresh[token] = time.Time{}
		if s.opts.RefreshLife > 0 {
			s.refresh[token] = time.Now().Add(s.opts.RefreshLife)
			answer["refresh_token_expires_in"] = int(s.opts.RefreshLife / time.Second)
		}
		answer["refresh_token"] = token
	}
	writeJSON(w, http.StatusOK, answer)
}
