package pop3test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// use makes the session speak over conn.
func (s *session) use(conn net.Conn) {
	s.conn = conn
	s.r = bufio.NewReaderSize(flushBefore{s}, 64<<10)
	s.w = bufio.NewWriterSize(conn, 32<<10)
}

// flushBefore flushes the replies when no command is left to answer and the
// session has to wait: a batch of commands gets a batch of replies.
type flushBefore struct{ s *session }

func (f flushBefore) Read(p []byte) (int, error) {
	s := f.s
	if s.open && s.sent > s.counted {
		s.counted = s.sent
		s.srv.mu.Lock()
		s.maildrop.trips++
		s.srv.mu.Unlock()
	}
	if err := s.w.Flush(); err != nil {
		return 0, err
	}
	return s.conn.Read(p)
}

// handshake starts TLS as the server side.
func (s *session) handshake() error {
	conn := tls.Server(s.raw, s.srv.tls)
	// Server.Close ends it: it closes the connection underneath.
	if err := conn.HandshakeContext(context.Background()); err != nil {
		return err
	}
	s.use(conn)
	s.secure = true
	return nil
}

// send writes a reply as it comes. It returns the End in which the reply
// says that the session ends, if it does.
func (s *session) send(reply io.Reader) error {
	for {
		n, err := reply.Read(s.buf[:])
		s.sent += int64(n)
		if _, werr := s.w.Write(s.buf[:n]); werr != nil {
			return werr
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// end ends the session as err says: an End, or else the connection was lost.
func (s *session) end(err error) {
	var end End
	if !errors.As(err, &end) {
		return
	}
	s.w.Flush()
	if end == Reset {
		s.unlock()
		s.raw.SetLinger(0)
		return
	}
	if end == HangUp {
		s.unlock()
		if conn, ok := s.conn.(*tls.Conn); ok {
			conn.CloseWrite()
		}
		s.raw.CloseWrite()
	}
	// Read on until the client goes: to Hang that is all there is to do, and
	// to close a socket with unread data would send RST after the FIN, which
	// can take the last replies from the client.
	io.Copy(io.Discard, s.raw)
}

// readLine returns the next line without its CRLF.
func (s *session) readLine() (string, error) {
	line, err := s.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", s.send(io.MultiReader(text("-ERR line too long"), ending{HangUp}))
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(line), "\n"), nil
}

// text is a reply of one line.
func text(line string) io.Reader { return strings.NewReader(line + "\r\n") }

func textf(format string, args ...any) io.Reader { return text(fmt.Sprintf(format, args...)) }
