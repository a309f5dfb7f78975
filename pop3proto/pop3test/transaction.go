package pop3test

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

// transactionCommands are the commands of the TRANSACTION state (RFC 1939 §5, §7).
var transactionCommands = map[string]func(*session, *Exchange) io.Reader{
	"STAT": (*session).stat,
	"LIST": func(s *session, x *Exchange) io.Reader {
		return s.list(x, func(msg message) string { return strconv.FormatInt(x.view.sizeOf(msg), 10) })
	},
	"UIDL": func(s *session, x *Exchange) io.Reader {
		return s.list(x, func(msg message) string { return msg.uid })
	},
	"RETR": (*session).retr,
	"TOP":  (*session).top,
	"DELE": (*session).dele,
	"RSET": (*session).rset,
	"NOOP": func(*session, *Exchange) io.Reader { return replyLine("+OK") },
}

// view is how a fault presents the maildrop to the client. A nil function changes
// nothing.
type view struct {
	isVisible func(uid string) bool
	size      func(uid string, size int64) int64
}

func (v view) includes(msg message) bool { return v.isVisible == nil || v.isVisible(msg.uid) }

func (v view) sizeOf(msg message) int64 {
	if v.size == nil {
		return msg.size
	}
	return v.size(msg.uid, msg.size)
}

// countMessages returns the number and octets of the messages that are not deleted.
func (s *session) countMessages(v view) (n int, size int64) {
	for i, msg := range s.messages {
		if !s.deleted[i] && v.includes(msg) {
			n++
			size += v.sizeOf(msg)
		}
	}
	return n, size
}

func (s *session) stat(x *Exchange) io.Reader {
	n, size := s.countMessages(x.view)
	return replyLinef("+OK %d %d", n, size)
}

// list replies to LIST and UIDL, for one message or for all.
func (s *session) list(x *Exchange, value func(message) string) io.Reader {
	if x.Args != "" {
		i, errReply := s.findMessage(x)
		if errReply != nil {
			return errReply
		}
		return replyLinef("+OK %d %s", i+1, value(s.messages[i]))
	}
	n, size := s.countMessages(x.view)
	i := 0
	lines := &chunkReader{next: func(b []byte) []byte {
		for ; i < len(s.messages) && len(b) < 4<<10; i++ {
			if msg := s.messages[i]; !s.deleted[i] && x.view.includes(msg) {
				b = strconv.AppendInt(b, int64(i+1), 10)
				b = append(b, ' ')
				b = append(b, value(msg)...)
				b = append(b, "\r\n"...)
			}
		}
		return b
	}}
	return io.MultiReader(replyLinef("+OK %d messages (%d octets)", n, size), lines, replyLine("."))
}

func (s *session) retr(x *Exchange) io.Reader {
	i, errReply := s.findMessage(x)
	if errReply != nil {
		return errReply
	}
	msg := s.messages[i]
	s.srv.mu.Lock()
	s.maildrop.retrieved[msg.uid]++
	s.srv.mu.Unlock()
	return io.MultiReader(replyLinef("+OK %d octets", x.view.sizeOf(msg)), msg.wire(), replyLine("."))
}

func (s *session) top(x *Exchange) io.Reader {
	i, errReply := s.findMessage(x)
	if errReply != nil {
		return errReply
	}
	_, count, _ := strings.Cut(x.Args, " ")
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 {
		return replyLine("-ERR TOP wants a message and a number of lines")
	}
	head := &topReader{src: bufio.NewReader(s.messages[i].wire()), lines: n}
	return io.MultiReader(replyLine("+OK top of message follows"), head, replyLine("."))
}

func (s *session) dele(x *Exchange) io.Reader {
	i, errReply := s.findMessage(x)
	if errReply != nil {
		return errReply
	}
	s.deleted[i] = true
	return replyLinef("+OK message %d deleted", i+1)
}

func (s *session) rset(*Exchange) io.Reader {
	clear(s.deleted)
	n, size := s.countMessages(view{})
	return replyLinef("+OK maildrop has %d messages (%d octets)", n, size)
}

// findMessage returns the index of the message that the command names, or an error reply
// if there is no such message or it is deleted.
func (s *session) findMessage(x *Exchange) (int, io.Reader) {
	i, ok := s.messageIndex(x.Args)
	switch {
	case !ok || !x.view.includes(s.messages[i]):
		return 0, replyLinef("-ERR no such message, only %d in maildrop", len(s.messages))
	case s.deleted[i]:
		return 0, replyLinef("-ERR message %d is deleted", i+1)
	}
	return i, nil
}
