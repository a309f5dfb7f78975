package pop3test

import (
	"cmp"
	"io"
	"slices"
)

// Maildrop is the mail of one account. It may be changed while a session is
// open; the session does not notice, as its message numbers are fixed at
// login (RFC 1939 §5).
type Maildrop struct {
	srv  *Server
	user string

	// srv.mu guards what follows.
	pass      string
	behaviour *Behaviour
	faults    []Fault
	sessions  int
	seq       int
	messages  []message // elements never change in place: sessions share them
	removed   []message // by sessions, in the order of removal
	retrieved map[string]int
	trips     int
	holder    *session
	released  chan struct{} // closed when holder lets go
}

// Message is one message of a maildrop.
type Message struct {
	// UID is its unique-id (RFC 1939 §7), whatever bytes Add was given.
	UID string
	// Data is what a client has after it has undone the dot-stuffing: lines
	// in CRLF, the last one too. After AddFunc it is nil. It must not be changed.
	Data []byte
}

// message is a message with its place in the maildrop, so that Restore can
// put it back there.
type message struct {
	seq int
	uid string
	*body
}

func newMaildrop(s *Server, user string) *Maildrop {
	return &Maildrop{srv: s, user: user, retrieved: make(map[string]int)}
}

// Add puts a message at the end of the maildrop. Lines of raw may end in LF
// or CRLF; they are served in CRLF and dot-stuffed. Two messages may have the
// same UID, and a UID may be blank, too long or 8-bit: real ones are.
func (m *Maildrop) Add(uid string, raw []byte) { m.add(1, one(uid), fixedBody(raw)) }

// AddExact is Add without repair of line ends: a bare LF is served as it is,
// and a dot behind it is not stuffed, as it does not begin a line. So a
// message that holds "\n.\n+OK" becomes a forged reply for a client that ends
// a message at a bare LF.
func (m *Maildrop) AddExact(uid string, raw []byte) { m.add(1, one(uid), exactBody(raw)) }

// AddFunc adds a message that is generated anew each time it is asked for, so
// that it can be larger than memory. LIST announces size octets. open's
// reader is repaired and stuffed as in Add, and closed if it is an io.Closer.
func (m *Maildrop) AddFunc(uid string, size int64, open func() io.Reader) {
	m.add(1, one(uid), &body{size: size, wire: func() io.Reader { return &stuffer{src: open(), fix: true} }})
}

// AddMany adds n messages that share the data raw; uid is called with 0 to
// n-1. A million of them cost some 50 MB.
func (m *Maildrop) AddMany(n int, uid func(i int) string, raw []byte) {
	m.add(n, uid, fixedBody(raw))
}

func one(uid string) func(int) string { return func(int) string { return uid } }

func (m *Maildrop) add(n int, uid func(int) string, b *body) {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	m.messages = slices.Grow(m.messages, n)
	for i := range n {
		m.seq++
		m.messages = append(m.messages, message{m.seq, uid(i), b})
	}
}

// Messages returns what is in the maildrop now, in the order of its numbers.
func (m *Maildrop) Messages() []Message {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	out := make([]Message, len(m.messages))
	for i, msg := range m.messages {
		out[i] = Message{UID: msg.uid, Data: msg.data}
	}
	return out
}

// Remove takes away every message with that UID, as another client of the
// same maildrop would. Restore does not bring it back.
func (m *Maildrop) Remove(uid string) {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	m.messages = without(m.messages, func(msg message) bool { return msg.uid == uid })
}

// Restore brings back, in its old place, all that sessions have deleted: a
// server that fell back to a backup.
func (m *Maildrop) Restore() {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	m.messages = slices.Concat(m.messages, m.removed)
	m.removed = nil
	slices.SortFunc(m.messages, func(a, b message) int { return cmp.Compare(a.seq, b.seq) })
}

// SetUIDs gives every message a new unique-id, as a server does after a
// migration. i counts from 0.
func (m *Maildrop) SetUIDs(uid func(i int, old string) string) {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	m.messages = slices.Clone(m.messages)
	for i := range m.messages {
		m.messages[i].uid = uid(i, m.messages[i].uid)
	}
}

// Behave gives the maildrop a behaviour of its own, instead of the server's,
// for sessions once they have logged in; its LockWait holds for the login
// itself.
func (m *Maildrop) Behave(b Behaviour) {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	m.behaviour = &b
}

// Order adds faults that hold for sessions of this maildrop, from the command
// on that names its user. In them Exchange.Session counts the sessions of the
// maildrop. They come before the faults of the server.
func (m *Maildrop) Order(faults ...Fault) {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	m.faults = append(m.faults, faults...)
}

// ClearFaults cancels the faults of Maildrop.Order.
func (m *Maildrop) ClearFaults() {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	m.faults = nil
}

// without returns a copy, as sessions may still read the old slice.
func without(msgs []message, gone func(message) bool) []message {
	return slices.DeleteFunc(slices.Clone(msgs), gone)
}
