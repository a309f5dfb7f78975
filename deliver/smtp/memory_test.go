package smtp_test

import (
	"io"
	"log"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
)

// memory is a server, of the go-smtp package, that keeps the messages that it receives.
type memory struct {
	addr   string
	server *gosmtp.Server

	mu   sync.Mutex
	msgs []mailed
}

// mailed is a message as the server received it.
type mailed struct {
	from string
	opts gosmtp.MailOptions
	to   []string
	body string
}

func newMemory(t *testing.T, lmtp bool) *memory {
	t.Helper()
	m := &memory{}
	m.server = gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) {
		return &memorySession{memory: m}, nil
	}))
	m.server.LMTP, m.server.EnableSMTPUTF8, m.server.AllowInsecureAuth = lmtp, true, true
	m.server.MaxLineLength = 16 << 20
	m.server.ErrorLog = log.New(io.Discard, "", 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.addr = l.Addr().String()
	go func() { _ = m.server.Serve(l) }()
	t.Cleanup(func() { m.server.Close() })
	return m
}

func (m *memory) messages() []mailed {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.msgs)
}

type memorySession struct {
	memory *memory
	msg    mailed
}

func (s *memorySession) Reset()        { s.msg = mailed{} }
func (s *memorySession) Logout() error { return nil }

func (s *memorySession) Mail(from string, opts *gosmtp.MailOptions) error {
	s.msg.from, s.msg.opts = from, *opts
	return nil
}

func (s *memorySession) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	s.msg.to = append(s.msg.to, to)
	return nil
}

func (s *memorySession) Data(r io.Reader) error {
	body, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.msg.body = string(body)
	s.memory.mu.Lock()
	defer s.memory.mu.Unlock()
	s.memory.msgs = append(s.memory.msgs, s.msg)
	return nil
}

func (s *memorySession) LMTPData(r io.Reader, status gosmtp.StatusCollector) error {
	err := s.Data(r)
	for _, to := range s.msg.to {
		status.SetStatus(to, err)
	}
	return nil
}

func (s *memorySession) AuthMechanisms() []string { return []string{sasl.Login, sasl.Plain} }

func (s *memorySession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, pass string) error {
		if user != "me" || pass != "secret" {
			return gosmtp.ErrAuthFailed
		}
		return nil
	}), nil
}
