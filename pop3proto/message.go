package pop3proto

// Message is the reply to a RETR or TOP. It is an io.Reader of the message as the
// server stores it: dots are unstuffed, and nothing else is changed. It is valid
// for one turn of the loop that yielded it.
type Message struct {
	Entry

	body  *dotReader
	err   error  // what Read returns after piece
	piece []byte // read from the wire and not yet returned by Read
}

// Read reads the message. It returns io.EOF only at the end that the server has
// marked (RFC 1939 §3). If the message is truncated, the error matches ErrBroken
// and, if the server closed the connection, io.ErrUnexpectedEOF.
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

// lend yields m for one turn of the loop and then makes its Read fail.
func (m *Message) lend(yield func(*Message, error) bool, err error) (more bool) {
	defer func() {
		m.piece = nil
		if m.err == nil {
			m.err = errTurnOver
		}
	}()
	return yield(m, err)
}
