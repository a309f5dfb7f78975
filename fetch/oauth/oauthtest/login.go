package oauthtest

import (
	"net/http"
	"net/url"
	"slices"
	"time"
)

// authorize sends the browser back at once, with a code (RFC 6749 §4.1.2).
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || back.Scheme != "http" || !slices.Contains([]string{"127.0.0.1", "localhost"}, back.Hostname()) || q.Get("client_id") != s.opts.ID {
		http.Error(w, "unknown client or redirect URI", http.StatusBadRequest) // and no redirect: §4.1.2.1
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
		code := s.mint("code")
		s.codes[code] = q
		s.mu.Unlock()
		answer.Set("code", code)
	}
	back.RawQuery = answer.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

// authorizeDevice is RFC 8628 §3.1 and §3.2.
func (s *Server) authorizeDevice(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.FormValue("client_id") != s.opts.ID {
		refuse(w, "invalid_client", "")
		return
	}
	code := s.mint("device")
	s.devices[code] = &device{ends: time.Now().Add(s.opts.DeviceLife), pending: s.opts.Pending}
	answer := map[string]any{
		"device_code": code, "user_code": "ABCD-EFGH", "verification_uri": s.URL + "/activate",
		"expires_in": int(s.opts.DeviceLife / time.Second),
	}
	if s.opts.Interval > 0 {
		answer["interval"] = int(s.opts.Interval / time.Second)
	}
	reply(w, http.StatusOK, answer)
}

// pollDevice returns the error that a poll is answered with, "" to give the
// tokens (RFC 8628 §3.5). One that comes too soon is told to slow down.
func (s *Server) pollDevice(code string) string {
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
