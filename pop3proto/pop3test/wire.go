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

// setConn makes the session use conn.
func (s *session) setConn(conn net.Conn) {
	s.conn = conn
	s.r = bufio.NewReaderSize(flushingReader{s}, 64<<10)
	s.w = bufio.NewWriterSize(conn, 32<<10)
}

// flushingReader flushes the replies before the session waits for more commands, so that
// the replies to pipelined commands are sent together.
type flushingReader struct{ s *session }

func (f flushingReader) Read(p []byte) (int, error) {
	s := f.s
	if s.loggedIn && s.sent > s.countedSent {
		s.countedSent = s.sent
		s.srv.mu.Lock()
		s.maildrop.roundTrips++
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
	// Server.Close interrupts it by closing the connection.
	if err := conn.HandshakeContext(context.Background()); err != nil {
		return err
	}
	s.setConn(conn)
	s.secure = true
	return nil
}

// send writes a reply. If the reply is to end the session, it returns the End.
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

// end ends the session with the End err, or does nothing if the connection was lost.
func (s *session) end(err error) {
	var end End
	if !errors.As(err, &end) {
		return
	}
	s.w.Flush()
	if end == Reset {
		s.releaseMaildrop()
		s.raw.SetLinger(0)
		return
	}
	if end == HangUp {
		s.releaseMaildrop()
		if conn, ok := s.conn.(*tls.Conn); ok {
			conn.CloseWrite()
		}
		s.raw.CloseWrite()
	}
	// Read until the client hangs up. That is all that Hang does. For HangUp,
	// closing a socket with unread data would send RST after the FIN, and the client
	// could lose the last replies.
	io.Copy(io.Discard, s.raw)
}

// readLine returns the next line without its CRLF.
func (s *session) readLine() (string, error) {
	line, err := s.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", s.send(io.MultiReader(replyLine("-ERR line too long"), endReader{HangUp}))
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(line), "\n"), nil
}

// replyLine returns a reply of one line.
func replyLine(line string) io.Reader { return strings.NewReader(line + "\r\n") }

func replyLinef(format string, args ...any) io.Reader { return replyLine(fmt.Sprintf(format, args...)) }
