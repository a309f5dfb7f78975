// Package pop3test is a POP3 server on loopback with the maildrop semantics
// of RFC 1939 and with faults to order. Tests fetch from it, and so does the
// demonstration that the program carries.
//
// A Server serves accounts, each with a Maildrop. It keeps to the standard
// until a Fault is ordered, for the whole server or for one maildrop:
//
//	s := pop3test.New(pop3test.Options{})
//	m := s.Account("alice", "secret")
//	m.Add("uid-1", []byte("Subject: one\n\nbody\n"))
//	m.Order(pop3test.CutIn("RETR", 10, pop3test.Reset).Times(1))
//	if err := s.Start(); err != nil { … }
//	defer s.Close()
package pop3test

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
)

// Options are what a server is made with. The zero value is a server that
// follows the standards and offers STLS with a certificate of its own.
type Options struct {
	// TLS is used for STLS and for implicit TLS. If it is nil the server
	// makes a self-signed certificate for localhost; see Server.CA.
	TLS *tls.Config
	// Behaviour holds for all sessions until they log in to a maildrop that
	// has a behaviour of its own.
	Behaviour Behaviour
}

// Server is a POP3 server on loopback. Its methods may be called from any
// goroutine, also while sessions run.
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
	log      []line
}

// New returns a server without accounts that does not listen yet.
func New(opts Options) *Server {
	return &Server{
		behaviour: opts.Behaviour,
		done:      make(chan struct{}),
		tls:       opts.TLS,
		conns:     make(map[net.Conn]bool),
		accounts:  make(map[string]*Maildrop),
	}
}

// Account returns the maildrop of user, and makes it first if there is none.
// Its password is pass from now on.
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

// Start listens on a free port of 127.0.0.1, in plain text with STLS
// (RFC 2595) on offer.
func (s *Server) Start() error { return s.start(false) }

// StartTLS listens on a free port of 127.0.0.1 and speaks TLS from the first
// byte (RFC 8314 §3.2).
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
		ses := newSession(s, conn.(*net.TCPConn), s.sessions)
		s.running.Go(func() {
			ses.serve(implicit)
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
		})
		s.mu.Unlock()
	}
}

// Addr returns the server's host:port, or "" before it was started.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// CA returns the certificate, in PEM, that makes clients trust a server which
// was started without Options.TLS; otherwise it returns nil.
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

// Order adds faults that hold for every session. In them Exchange.Session
// counts the connections of the server.
func (s *Server) Order(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

// ClearFaults cancels the faults of Server.Order; those of a maildrop stay.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Close closes the listener and every connection and returns when all
// sessions have ended. Deletions of sessions that had not seen QUIT are void.
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
