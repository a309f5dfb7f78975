package channel

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Sessions keeps TLS sessions (RFC 8446 §2.2), so that the next connection to a
// server can resume one. They are kept in memory, and in a folder from one run to the
// next, one file each. No method returns an error, since any failure only costs a full
// handshake.
//
// A session file reveals nothing of past connections. But it spares the server the
// proof of its identity: an attacker who has the file, and is on the path, can
// impersonate the server until the session expires, and receive the password. The
// folder must be as private as stored passwords. The secret of a session before TLS 1.3
// decrypts its whole connection (RFC 5246 §8.1), and is never written to a file. A
// session with a client certificate would replace the certificate, and is not kept.
type Sessions struct {
	dir   string
	mu    sync.Mutex
	byKey map[string]*session // by Trust.sessionKey
}

// NewSessions returns the sessions kept in dir, which need not exist.
func NewSessions(dir string) *Sessions {
	return &Sessions{dir: dir, byKey: map[string]*session{}}
}

// session returns the session for a key of Trust.sessionKey.
func (s *Sessions) session(key string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey[key] == nil {
		s.byKey[key] = &session{path: filepath.Join(s.dir, key)}
	}
	return s.byKey[key]
}

// maxAge is how long a file is used. No ticket is valid for longer (RFC 8446 §4.6.1),
// and a server that could not resume sessions may have been fixed.
const maxAge = 7 * 24 * time.Hour

// Save writes changed sessions to the folder, and removes old files. It creates the
// folder, but not its parent.
func (s *Sessions) Save() {
	s.mu.Lock()
	defer s.mu.Unlock()
	wrote := false
	for _, one := range s.byKey {
		wrote = one.save() || wrote
	}
	if !wrote {
		return
	}
	entries, _ := os.ReadDir(s.dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > maxAge {
			_ = os.Remove(filepath.Join(s.dir, e.Name()))
		}
	}
}

// session is the last TLS session with one server, verified under one Trust.
type session struct {
	path string

	mu       sync.Mutex
	loaded   bool // state and disabled are those of the file, or newer
	state    *tls.ClientSessionState
	changed  bool // differs from the file
	disabled bool // the server fails when it is offered a session
}

// sessionCache is the tls.ClientSessionCache of one configuration, which must be used
// for one connection at a time.
type sessionCache struct {
	*session
	offered bool // a session was offered in the current handshake
}

// maxSession limits a file; it contains the server's certificates.
const maxSession = 64 << 10

// Get implements tls.ClientSessionCache.
func (c *sessionCache) Get(string) (*tls.ClientSessionState, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.loaded {
		c.loaded = true
		c.load()
	}
	c.offered = c.state != nil
	return c.state, c.offered
}

// Put implements tls.ClientSessionCache. A nil state removes the session.
func (c *sessionCache) Put(_ string, state *tls.ClientSessionState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.disabled {
		return
	}
	c.loaded, c.changed, c.state = true, true, state
}

// ResumeError means that the server ended the connection when it was offered a session.
// It is offered none any more, so the next connection may succeed.
type ResumeError struct{ Err error }

// Error returns the cause.
func (e *ResumeError) Error() string {
	return "the server did not take up the last TLS session: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *ResumeError) Unwrap() error { return e.Err }

// NotResumed must be called with the result of each handshake with c. It returns a
// *ResumeError if the handshake failed because a session was offered, and err
// otherwise. A server that asks for client certificates must call OpenSSL's
// SSL_CTX_set_session_id_context, or every such handshake fails; Dovecot 2.3 does not,
// and hangs up.
func NotResumed(c *tls.Config, err error) error {
	cache, ok := c.ClientSessionCache.(*sessionCache)
	if !ok {
		return err
	}
	cache.mu.Lock()
	defer cache.mu.Unlock()
	offered := cache.offered
	cache.offered = false
	if err == nil || !offered {
		return err
	}
	hungUp := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
	if !hungUp && !strings.Contains(err.Error(), "remote error: tls: ") {
		return err
	}
	cache.state, cache.changed, cache.disabled = nil, true, true
	return &ResumeError{err}
}

// Forget removes the session for c, so that the next connection offers none. It is for a
// server that resumed a session and then did not reply.
func Forget(c *tls.Config) {
	if c == nil {
		return
	}
	if cache, ok := c.ClientSessionCache.(*sessionCache); ok {
		cache.Put("", nil)
	}
}

// load reads the file: the length of the ticket, the ticket and the state. An empty
// file means that sessions are disabled for the server.
func (s *session) load() {
	info, err := os.Stat(s.path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxSession || time.Since(info.ModTime()) > maxAge {
		return
	}
	data, err := os.ReadFile(s.path)
	if err != nil {
		return
	}
	s.state, _ = parseSession(data)
	s.disabled = len(data) == 0
}

var errTruncated = errors.New("half a session")

func parseSession(data []byte) (*tls.ClientSessionState, error) {
	if len(data) < 4 {
		return nil, errTruncated
	}
	n, rest := binary.BigEndian.Uint32(data), data[4:]
	if uint64(n) > uint64(len(rest)) {
		return nil, errTruncated
	}
	state, err := tls.ParseSessionState(rest[n:])
	if err != nil {
		return nil, err
	}
	return tls.NewResumptionState(rest[:n], state)
}

// encode returns the content of the file, or nothing if the session must not be written.
func (s *session) encode() ([]byte, error) {
	if s.state == nil {
		return nil, nil
	}
	ticket, state, err := s.state.ResumptionState()
	if err != nil {
		return nil, err
	}
	rest, err := state.Bytes()
	// The encoding begins with the TLS version. If that ever changes, nothing is
	// written.
	if err != nil || !bytes.HasPrefix(rest, binary.BigEndian.AppendUint16(nil, tls.VersionTLS13)) {
		return nil, err
	}
	data := binary.BigEndian.AppendUint32(nil, uint32(len(ticket)))
	return append(append(data, ticket...), rest...), nil
}

// save writes the file atomically if the session has changed. It does not sync, since
// a file that is lost only costs a full handshake.
func (s *session) save() (wrote bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.changed {
		return false
	}
	s.changed = false
	data, err := s.encode()
	if err != nil || len(data) > maxSession || len(data) == 0 && !s.disabled {
		_ = os.Remove(s.path)
		return false
	}
	return writeFile(s.path, data) == nil
}

// writeFile writes a file atomically, with mode 0600, and creates its folder.
func writeFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	f, err := os.CreateTemp(dir, "new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
