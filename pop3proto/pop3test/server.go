// Package pop3test is a POP3 server on loopback with the maildrop semantics of RFC 1939,
// for tests and for the demonstration in the program. Faults make it misbehave.
//
// A [Server] serves accounts, each with a [Maildrop]. A [Behaviour] describes what the
// server supports, within the standards. A [Fault] violates them, for the whole server
// or for one maildrop:
//
//	s := pop3test.New(pop3test.Options{})
//	m := s.Account("alice", "secret")
//	m.Add("uid-1", []byte("Subject: one\n\nbody\n"))
//	m.Order(pop3test.CutIn("RETR", 10, pop3test.Reset).Times(1))
//	if err := s.Start(); err != nil { … }
//	defer s.Close()
//
// Each connection is a session, with a goroutine of its own (session.go). It reads a
// command line and makes an [Exchange] of it. The faults that apply see the exchange one
// after another, each around those ordered later, and the command itself runs last:
// auth.go and sasl.go have those before the login, transaction.go those after it. The
// reply is an io.Reader, so that it can be endless, and faults can wrap it (faults.go,
// readers.go). Maildrops are in maildrop.go, their locks in lock.go, and what sessions
// have done in log.go.
package pop3test

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
)

// Options configures a server. With the zero value, it follows the standards and offers
// STLS with a certificate of its own.
type Options struct {
	// TLS is the configuration for STLS and implicit TLS. If it is nil, the server
	// creates a self-signed certificate for localhost, which Server.CA returns.
	TLS *tls.Config
	// Behaviour applies to all sessions until they log in to a maildrop that has a
	// Behaviour of its own.
	Behaviour Behaviour
}

// Server is a POP3 server on loopback. Its methods may be called from any goroutine,
// also while sessions are running.
type Server struct {
	behaviour Behaviour
	done      chan struct{} // closed by Close
	running   sync.WaitGroup

	mu       sync.Mutex
	tls      *tls.Config
	ca       []byte
	listener net.Listener
	closed   bool
	conns    map[net.Conn]bool
	accounts map[string]*Maildrop
	faults   []Fault
	sessions int
	log      []logLine
}

// New returns a server without accounts. It does not listen before Start.
func New(opts Options) *Server {
	return &Server{
		behaviour: opts.Behaviour,
		done:      make(chan struct{}),
		tls:       opts.TLS,
		conns:     make(map[net.Conn]bool),
		accounts:  make(map[string]*Maildrop),
	}
}

// Account returns the maildrop of user, which it creates if there is none, and sets its
// password.
func (s *Server) Account(user, pass string) *Maildrop {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.accounts[user]
	if m == nil {
		m = newMaildrop(s, user)
		s.accounts[user] = m
	}
	m.pass = pass
	return m
}

// Start listens on a free port of 127.0.0.1, in the clear, and offers STLS (RFC 2595).
func (s *Server) Start() error { return s.start(false) }

// StartTLS listens on a free port of 127.0.0.1, with implicit TLS (RFC 8314 §3.1).
func (s *Server) StartTLS() error { return s.start(true) }

func (s *Server) start(implicit bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil || s.closed {
		return errors.New("pop3test: a server starts only once")
	}
	if s.tls == nil {
		cert, ca, err := SelfSigned()
		if err != nil {
			return err
		}
		s.tls, s.ca = &tls.Config{Certificates: []tls.Certificate{cert}}, ca
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.listener = l
	s.running.Go(func() { s.accept(l, implicit) })
	return nil
}

func (s *Server) accept(l net.Listener, implicit bool) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			conn.Close()
			return
		}
		s.conns[conn] = true
		s.sessions++
		session := newSession(s, conn.(*net.TCPConn), s.sessions)
		s.running.Go(func() {
			session.serve(implicit)
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
		})
		s.mu.Unlock()
	}
}

// Addr returns the server's host:port, or "" before Start.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// CA returns the PEM certificate that clients must trust if the server was started
// without Options.TLS; otherwise it returns nil.
func (s *Server) CA() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ca
}

// Sessions returns how many connections the server has accepted.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

// Order adds faults for every session. In them, Exchange.Session counts the server's
// connections.
func (s *Server) Order(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

// ClearFaults removes the faults of Server.Order. Those of maildrops stay.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Close closes the listener and every connection, and returns when all sessions have
// ended. Sessions without QUIT delete nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	var err error
	if !s.closed {
		s.closed = true
		close(s.done)
		if s.listener != nil {
			err = s.listener.Close()
		}
		for conn := range s.conns {
			conn.Close()
		}
	}
	s.mu.Unlock()
	s.running.Wait()
	return err
}
