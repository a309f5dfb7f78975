package pop3test

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

// transaction holds the commands of the TRANSACTION state (RFC 1939 §5, §7).
var transaction = map[string]func(*session, *Exchange) io.Reader{
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
	"NOOP": func(*session, *Exchange) io.Reader { return text("+OK") },
}

// view is how a fault makes the session see the maildrop.
type view struct {
	shown func(uid string) bool
	size  func(uid string, size int64) int64
}

func (v view) shows(msg message) bool { return v.shown == nil || v.shown(msg.uid) }

func (v view) sizeOf(msg message) int64 {
	if v.size == nil {
		return msg.size
	}
	return v.size(msg.uid, msg.size)
}

// total counts the messages that are not deleted and their octets.
func (s *session) total(v view) (n int, size int64) {
	for i, msg := range s.messages {
		if !s.deleted[i] && v.shows(msg) {
			n++
			size += v.sizeOf(msg)
		}
	}
	return n, size
}

func (s *session) stat(x *Exchange) io.Reader {
	n, size := s.total(x.view)
	return textf("+OK %d %d", n, size)
}

// list answers LIST and UIDL, for one message or for all.
func (s *session) list(x *Exchange, value func(message) string) io.Reader {
	if x.Args != "" {
		i, fail := s.find(x)
		if fail != nil {
			return fail
		}
		return textf("+OK %d %s", i+1, value(s.messages[i]))
	}
	n, size := s.total(x.view)
	i := 0
	lines := &chunks{next: func(b []byte) []byte {
		for ; i < len(s.messages) && len(b) < 4<<10; i++ {
			if msg := s.messages[i]; !s.deleted[i] && x.view.shows(msg) {
				b = strconv.AppendInt(b, int64(i+1), 10)
				b = append(b, ' ')
				b = append(b, value(msg)...)
				b = append(b, "\r\n"...)
			}
		}
		return b
	}}
	return io.MultiReader(textf("+OK %d messages (%d octets)", n, size), lines, text("."))
}

func (s *session) retr(x *Exchange) io.Reader {
	i, fail := s.find(x)
	if fail != nil {
		return fail
	}
	msg := s.messages[i]
	s.srv.mu.Lock()
	s.maildrop.retrieved[msg.uid]++
	s.srv.mu.Unlock()
	return io.MultiReader(textf("+OK %d octets", x.view.sizeOf(msg)), msg.wire(), text("."))
}

func (s *session) top(x *Exchange) io.Reader {
	i, fail := s.find(x)
	if fail != nil {
		return fail
	}
	_, count, _ := strings.Cut(x.Args, " ")
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 {
		return text("-ERR TOP wants a message and a number of lines")
	}
	head := &topReader{src: bufio.NewReader(s.messages[i].wire()), n: n}
	return io.MultiReader(text("+OK top of message follows"), head, text("."))
}

func (s *session) dele(x *Exchange) io.Reader {
	i, fail := s.find(x)
	if fail != nil {
		return fail
	}
	s.deleted[i] = true
	return textf("+OK message %d deleted", i+1)
}

func (s *session) rset(*Exchange) io.Reader {
	clear(s.deleted)
	n, size := s.total(view{})
	return textf("+OK maildrop has %d messages (%d octets)", n, size)
}

// find returns the index of the message that the command names, or a reply
// if there is no such message or it is deleted.
func (s *session) find(x *Exchange) (int, io.Reader) {
	i, ok := s.number(x.Args)
	switch {
	case !ok || !x.view.shows(s.messages[i]):
		return 0, textf("-ERR no such message, only %d in maildrop", len(s.messages))
	case s.deleted[i]:
		return 0, textf("-ERR message %d is deleted", i+1)
	}
	return i, nil
}
