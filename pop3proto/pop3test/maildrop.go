package pop3test

import (
	"cmp"
	"io"
	"slices"
)

// Maildrop is the mail of one account. Changes to it do not affect an open session, whose
// messages are fixed at the login (RFC 1939 §5).
type Maildrop struct {
	srv  *Server
	user string

	// srv.mu guards the rest.
	pass       string
	behaviour  *Behaviour
	faults     []Fault
	sessions   int
	seq        int
	messages   []message // shared with sessions, so elements are never modified
	removed    []message // by sessions, in the order of removal
	retrieved  map[string]int
	roundTrips int
	holder     *session
	released   chan struct{} // closed when holder releases the lock
}

// Message is one message of a maildrop.
type Message struct {
	// UID is the unique-id (RFC 1939 §7), as passed to Add.
	UID string
	// Data is the message as a client receives it, without dot-stuffing and with CRLF
	// at the end of all lines. It is nil after AddFunc. It must not be modified.
	Data []byte
}

// message is a message with its position, seq, to which Restore returns it.
type message struct {
	seq int
	uid string
	*body
}

func newMaildrop(s *Server, user string) *Maildrop {
	return &Maildrop{srv: s, user: user, retrieved: make(map[string]int)}
}

// Add appends a message to the maildrop. Lines of raw may end in LF or CRLF; they are
// served with CRLF and dot-stuffed. As on real servers, messages may have the same UID,
// and a UID may be blank, too long or 8-bit.
func (m *Maildrop) Add(uid string, raw []byte) { m.add(1, constant(uid), repairedBody(raw)) }

// AddExact is Add without the conversion of line ends: a bare LF is served as it is, and a
// dot after it is not stuffed, since it does not begin a line. A client that ends lines at
// a bare LF can thus be sent a forged reply, in a message with "\n.\n+OK".
func (m *Maildrop) AddExact(uid string, raw []byte) { m.add(1, constant(uid), exactBody(raw)) }

// AddFunc adds a message that is generated for each request, so that it can be larger
// than memory. LIST reports size octets. The reader that open returns is converted and
// stuffed as in Add, and closed if it is an io.Closer.
func (m *Maildrop) AddFunc(uid string, size int64, open func() io.Reader) {
	m.add(1, constant(uid), &body{size: size, wire: func() io.Reader { return &stuffer{src: open(), repair: true} }})
}

// AddMany adds n messages with the same data raw and the UIDs uid(0) to uid(n-1). A
// million of them take about 50 MB.
func (m *Maildrop) AddMany(n int, uid func(i int) string, raw []byte) {
	m.add(n, uid, repairedBody(raw))
}

func constant(uid string) func(int) string { return func(int) string { return uid } }

func (m *Maildrop) add(n int, uid func(int) string, b *body) {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	m.messages = slices.Grow(m.messages, n)
	for i := range n {
		m.seq++
		m.messages = append(m.messages, message{m.seq, uid(i), b})
	}
}

// Messages returns the messages in the maildrop, in the order of their numbers.
func (m *Maildrop) Messages() []Message {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	out := make([]Message, len(m.messages))
	for i, msg := range m.messages {
		out[i] = Message{UID: msg.uid, Data: msg.data}
	}
	return out
}

// Remove removes every message with that UID, as another client would. Restore does not
// bring it back.
func (m *Maildrop) Remove(uid string) {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	m.messages = remove(m.messages, func(msg message) bool { return msg.uid == uid })
}

// Restore brings back all messages that sessions have deleted, as a server does that
// falls back to a backup.
func (m *Maildrop) Restore() {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	m.messages = slices.Concat(m.messages, m.removed)
	m.removed = nil
	slices.SortFunc(m.messages, func(a, b message) int { return cmp.Compare(a.seq, b.seq) })
}

// SetUIDs gives every message a new unique-id, as a server may after a migration. i is
// the index of the message.
func (m *Maildrop) SetUIDs(uid func(i int, old string) string) {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	m.messages = slices.Clone(m.messages)
	for i := range m.messages {
		m.messages[i].uid = uid(i, m.messages[i].uid)
	}
}

// Behave gives the maildrop a Behaviour of its own, which replaces the server's after the
// login. Its LockWait applies to the login itself.
func (m *Maildrop) Behave(b Behaviour) {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	m.behaviour = &b
}

// Order adds faults for the sessions of this maildrop, which apply from the command that
// names its user. In them, Exchange.Session counts the maildrop's sessions. They come
// before the server's faults.
func (m *Maildrop) Order(faults ...Fault) {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	m.faults = append(m.faults, faults...)
}

// ClearFaults removes the faults of Maildrop.Order.
func (m *Maildrop) ClearFaults() {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	m.faults = nil
}

// remove returns a copy, since sessions may still read the old slice.
func remove(msgs []message, gone func(message) bool) []message {
	return slices.DeleteFunc(slices.Clone(msgs), gone)
}
