package oauthtest

import (
	"io"
	"net/http"
)

// Fault takes the place of an answer. It returns false to have the request
// answered as usual after all.
type Fault func(w http.ResponseWriter, r *http.Request) bool

// Next has the next requests to the token endpoint meet faults, one each.
func (s *Server) Next(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

// Status answers with an HTTP status and a page in HTML, as a proxy does.
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
		refuse(w, code, "")
		return true
	}
}

// Hold sends on reached, if it is not nil, when the request has come, and
// answers when release is closed.
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
