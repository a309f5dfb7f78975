package oauthtest

import (
	"net/http"
	"net/url"
	"slices"
	"time"
)

// serveAuthorization redirects the browser at once, with a code (RFC 6749 §4.1.2).
func (s *Server) serveAuthorization(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || back.Scheme != "http" || !slices.Contains([]string{"127.0.0.1", "localhost"}, back.Hostname()) || q.Get("client_id") != s.opts.ID {
		http.Error(w, "unknown client or redirect URI", http.StatusBadRequest) // RFC 6749 §4.1.2.1: no redirect
		return
	}
	answer := url.Values{"state": {q.Get("state")}}
	switch {
	case q.Get("response_type") != "code", q.Get("code_challenge_method") != "S256", len(q.Get("code_challenge")) != 43:
		answer.Set("error", "invalid_request")
	case s.opts.Deny != "":
		answer.Set("error", s.opts.Deny)
		answer.Set("error_description", "The user said no.")
	default:
		s.mu.Lock()
		code := s.newSecret("code")
		s.codes[code] = q
		s.mu.Unlock()
		answer.Set("code", code)
	}
	back.RawQuery = answer.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

// serveDeviceAuthorization issues a device code (RFC 8628 §3.1, §3.2).
func (s *Server) serveDeviceAuthorization(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.FormValue("client_id") != s.opts.ID {
		writeError(w, "invalid_client", "")
		return
	}
	code := s.newSecret("device")
	s.devices[code] = &device{ends: time.Now().Add(s.opts.DeviceLife), pending: s.opts.Pending}
	answer := map[string]any{
		"device_code": code, "user_code": "ABCD-EFGH", "verification_uri": s.URL + "/activate",
		"expires_in": int(s.opts.DeviceLife / time.Second),
	}
	if s.opts.Interval > 0 {
		answer["interval"] = int(s.opts.Interval / time.Second)
	}
	writeJSON(w, http.StatusOK, answer)
}

// deviceError returns the error for a poll for a device code, or "" if the tokens are due
// (RFC 8628 §3.5).
func (s *Server) deviceError(code string) string {
	d := s.devices[code]
	now := time.Now()
	switch {
	case d == nil:
		return "invalid_grant"
	case !now.Before(d.ends):
		return "expired_token"
	case now.Sub(d.last) < s.opts.Interval:
		return "slow_down"
	}
	d.last = now
	if len(d.pending) > 0 {
		answer := d.pending[0]
		d.pending = d.pending[1:]
		return answer
	}
	delete(s.devices, code)
	return ""
}
