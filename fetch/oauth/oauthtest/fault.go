package oauthtest

import (
	"io"
	"net/http"
)

// Fault answers a request in place of the server. If it returns false, the server
// answers as usual.
type Fault func(w http.ResponseWriter, r *http.Request) bool

// Next queues faults for the next requests to the token endpoint, one for each.
func (s *Server) Next(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

// Status answers with an HTTP status and an HTML page, as a proxy does.
func Status(status int) Fault {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<h1>Sorry</h1>")
		return true
	}
}

// Body answers 200 with a body that need not be JSON.
func Body(body string) Fault {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		_, _ = io.WriteString(w, body)
		return true
	}
}

// Refuse answers with an error code.
func Refuse(code string) Fault {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		writeError(w, code, "")
		return true
	}
}

// Hold sends on reached, unless it is nil, when the request arrives, and has the server
// answer once release is closed.
func Hold(reached chan<- struct{}, release <-chan struct{}) Fault {
	return func(_ http.ResponseWriter, r *http.Request) bool {
		if reached != nil {
			reached <- struct{}{}
		}
		select {
		case <-release:
			return false
		case <-r.Context().Done():
			return true
		}
	}
}
