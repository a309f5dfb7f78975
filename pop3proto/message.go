package pop3proto

import "io"

// Message is the reply to a RETR or TOP: an io.Reader of the message as the
// server has it, with dots unstuffed and not a byte changed otherwise. It is
// lent for one turn of the loop that gave it.
type Message struct {
	Entry

	body   *dot
	err    error  // what Read returns when there is nothing more to read
	piece  []byte // read from the wire and not yet handed out
	octets int64
}

// Read reads the message. It returns io.EOF only where the server has marked
// the end (RFC 1939 §3). A message that was cut short ends in an error that
// is an ErrBroken and, if the server closed the connection, an
// io.ErrUnexpectedEOF.
func (m *Message) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := m.advance(); err != nil {
		return 0, err
	}
	n := copy(p, m.piece)
	m.took(n)
	return n, nil
}

// WriteTo writes the message to w without copying it first. It implements
// io.WriterTo.
func (m *Message) WriteTo(w io.Writer) (int64, error) {
	before := m.octets
	for {
		if err := m.advance(); err == io.EOF {
			return m.octets - before, nil
		} else if err != nil {
			return m.octets - before, err
		}
		n, err := w.Write(m.piece)
		short := n < len(m.piece)
		m.took(n)
		if err == nil && short {
			err = io.ErrShortWrite
		}
		if err != nil {
			return m.octets - before, err
		}
	}
}

// Octets returns how many octets of the message were handed out so far.
func (m *Message) Octets() int64 { return m.octets }

// advance sees to it that m.piece holds something, or returns an error.
func (m *Message) advance() error {
	if len(m.piece) > 0 {
		return nil
	}
	if m.err == nil {
		m.piece, m.err = m.body.next()
	}
	return m.err
}

func (m *Message) took(n int) {
	m.piece = m.piece[n:]
	m.octets += int64(n)
}

// lend gives m to the loop for one turn and takes it back.
func (m *Message) lend(yield func(*Message, error) bool, err error) (more bool) {
	defer func() {
		m.piece = nil
		if m.err == nil {
			m.err = errRecalled
		}
	}()
	return yield(m, err)
}
