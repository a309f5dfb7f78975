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

// Sessions remembers TLS sessions (RFC 8446 §2.2), so that the next connection
// to a server needs no new proof of who it is. They are kept in memory, and
// from one run to the next in a folder, a file each. Whatever is wrong there
// costs a handshake and nothing else, so that no method returns an error.
//
// With a file one can read nothing of the past. But a session stands for the proof
// that it spares: who has the file, and is on the way, can pose as the server until
// the session ends, and be sent the password. So the folder is as private as what is
// kept of logins. The secret of a session before TLS 1.3 opens all that was said in
// it (RFC 5246 §8.1), and is never written down; a session that was begun with a
// client certificate would stand for it, and is not kept at all.
type Sessions struct {
	dir string
	mu  sync.Mutex
	all map[string]*session
}

// NewSessions returns those kept in dir, which need not be there.
func NewSessions(dir string) *Sessions {
	return &Sessions{dir: dir, all: map[string]*session{}}
}

// of returns the session with one server under one trust.
func (s *Sessions) of(key string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[key] == nil {
		s.all[key] = &session{path: filepath.Join(s.dir, key)}
	}
	return s.all[key]
}

// stale is when what was written last is of no use: no ticket lives for longer
// (RFC 8446 §4.6.1), and a server's fault may have been mended.
const stale = 7 * 24 * time.Hour

// Save writes what is new to the folder. It makes the folder, but not the one
// around it.
func (s *Sessions) Save() {
	s.mu.Lock()
	defer s.mu.Unlock()
	wrote := false
	for _, one := range s.all {
		wrote = one.save() || wrote
	}
	if !wrote {
		return
	}
	entries, _ := os.ReadDir(s.dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > stale {
			_ = os.Remove(filepath.Join(s.dir, e.Name()))
		}
	}
}

// session is the last session with one server under one trust.
type session struct {
	path string

	mu      sync.Mutex
	read    bool // the file was looked at
	state   *tls.ClientSessionState
	changed bool // since it was read or written
	refused bool // this server fails where it should just say no
}

// offer is a session as one configuration, for one connection at a time, offers
// it.
type offer struct {
	*session
	made bool // in the handshake under way
}

// maxSession bounds a file; a session holds the server's certificates.
const maxSession = 64 << 10

// Get implements tls.ClientSessionCache.
func (o *offer) Get(string) (*tls.ClientSessionState, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.read {
		o.read = true
		o.load()
	}
	o.made = o.state != nil
	return o.state, o.made
}

// Put implements tls.ClientSessionCache. A nil state forgets.
func (o *offer) Put(_ string, state *tls.ClientSessionState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refused {
		return
	}
	o.read, o.changed, o.state = true, true, state
}

// ResumeError means that a server ended the connection when it was offered a
// session. That is not done again, so that the next connection may do.
type ResumeError struct{ Err error }

// Error returns the cause.
func (e *ResumeError) Error() string {
	return "the server did not take up the last TLS session: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *ResumeError) Unwrap() error { return e.Err }

// NotResumed is told the end of each handshake with c, and makes a *ResumeError
// of err if it failed because a session was offered. A server that asks for
// client certificates must tell OpenSSL to which of its services a session
// belongs (SSL_CTX_set_session_id_context), or every such handshake fails.
// Dovecot 2.3 is one that does not; it hangs up.
func NotResumed(c *tls.Config, err error) error {
	o, ok := c.ClientSessionCache.(*offer)
	if !ok {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	made := o.made
	o.made = false
	if err == nil || !made {
		return err
	}
	hungUp := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
	if !hungUp && !strings.Contains(err.Error(), "remote error: tls: ") {
		return err
	}
	o.state, o.changed, o.refused = nil, true, true
	return &ResumeError{err}
}

// Forget has the next connection with c offer no session: a server that took up the
// last one, and then had nothing to say, may do without it.
func Forget(c *tls.Config) {
	if c == nil {
		return
	}
	if o, ok := c.ClientSessionCache.(*offer); ok {
		o.Put("", nil)
	}
}

// load reads the file: the length of the ticket, the ticket and the state. An
// empty file is a server that was found to refuse.
func (s *session) load() {
	info, err := os.Stat(s.path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxSession || time.Since(info.ModTime()) > stale {
		return
	}
	data, err := os.ReadFile(s.path)
	if err != nil {
		return
	}
	s.state, _ = parseSession(data)
	s.refused = len(data) == 0
}

var errCut = errors.New("half a session")

func parseSession(data []byte) (*tls.ClientSessionState, error) {
	if len(data) < 4 {
		return nil, errCut
	}
	n, rest := binary.BigEndian.Uint32(data), data[4:]
	if uint64(n) > uint64(len(rest)) {
		return nil, errCut
	}
	state, err := tls.ParseSessionState(rest[n:])
	if err != nil {
		return nil, err
	}
	return tls.NewResumptionState(rest[:n], state)
}

// encode returns what load reads, nothing if there is nothing to keep.
func (s *session) encode() ([]byte, error) {
	if s.state == nil {
		return nil, nil
	}
	ticket, state, err := s.state.ResumptionState()
	if err != nil {
		return nil, err
	}
	rest, err := state.Bytes()
	// They begin with the version, if not for ever: then nothing is kept.
	if err != nil || !bytes.HasPrefix(rest, binary.BigEndian.AppendUint16(nil, tls.VersionTLS13)) {
		return nil, err
	}
	data := binary.BigEndian.AppendUint32(nil, uint32(len(ticket)))
	return append(append(data, ticket...), rest...), nil
}

// save writes the file if there is something new, whole or not at all. It is
// not synced: what a power cut takes costs a handshake.
func (s *session) save() (wrote bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.changed {
		return false
	}
	s.changed = false
	data, err := s.encode()
	if err != nil || len(data) > maxSession || len(data) == 0 && !s.refused {
		_ = os.Remove(s.path)
		return false
	}
	dir := filepath.Dir(s.path)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return false
	}
	f, err := os.CreateTemp(dir, "new-*") // mode 0600
	if err != nil {
		return false
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), s.path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err == nil
}
