package pop3proto

// Message is the reply to a RETR or TOP: an io.Reader of the message as the
// server has it, with dots unstuffed and not a byte changed otherwise. It is
// lent for one turn of the loop that gave it.
type Message struct {
	Entry

	body  *dot
	err   error  // what Read returns when there is nothing more to read
	piece []byte // read from the wire and not yet handed out
}

// Read reads the message. It returns io.EOF only where the server has marked
// the end (RFC 1939 §3). A message that was cut short ends in an error that
// is an ErrBroken and, if the server closed the connection, an
// io.ErrUnexpectedEOF.
func (m *Message) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(m.piece) == 0 {
		if m.err == nil {
			m.piece, m.err = m.body.next()
		}
		if m.err != nil {
			return 0, m.err
		}
	}
	n := copy(p, m.piece)
	m.piece = m.piece[n:]
	return n, nil
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
