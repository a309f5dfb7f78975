package metrics

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Server serves /metrics, /healthz and /livez.
type Server struct {
	http *http.Server
	addr net.Addr
	done chan struct{}
}

// Listen starts a server at addr, which is host:port.
func Listen(ctx context.Context, addr string, m *Metrics, h *Health) (*Server, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry}))
	mux.HandleFunc("GET /healthz", h.serveHealth)
	mux.HandleFunc("GET /livez", h.serveAlive)
	s := &Server{addr: l.Addr(), done: make(chan struct{}), http: &http.Server{
		Handler: mux, MaxHeaderBytes: 16 << 10,
		ErrorLog:    log.New(io.Discard, "", 0), // its lines would not have the form of the daemon's
		ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
	}}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(l) // until Close
	}()
	return s, nil
}

// Addr returns the address at which the server listens.
func (s *Server) Addr() string { return s.addr.String() }

// Close stops the server.
func (s *Server) Close() {
	_ = s.http.Close() // requests under way may be dropped
	<-s.done
}
