package pop3test

import (
	"crypto/md5"
	"encoding/hex"
	"io"
	"strings"
)

// authorization holds the commands of the AUTHORIZATION state (RFC 1939 §4,
// RFC 2595 §4, RFC 5034, RFC 6856 §2).
var authorization = map[string]func(*session, *Exchange) io.Reader{
	"STLS": (*session).stls,
	"USER": func(s *session, x *Exchange) io.Reader {
		if x.Args == "" {
			return text("-ERR USER wants a name")
		}
		return text("+OK send PASS") // also for a user that does not exist
	},
	"PASS": func(s *session, x *Exchange) io.Reader {
		if s.nth["USER"] == 0 {
			return text("-ERR USER comes first")
		}
		return s.login(func(pass string) bool { return pass == x.Args })
	},
	"APOP": (*session).apop,
	"AUTH": (*session).auth,
	"UTF8": func(*session, *Exchange) io.Reader { return text("+OK UTF8 enabled") },
}

// login lets the client into the maildrop of the user it named, if proves
// accepts that user's password.
func (s *session) login(proves func(pass string) bool) io.Reader {
	return s.perform(Login, s.user, func(*Exchange) io.Reader {
		m := s.maildrop
		if m == nil || !m.accepts(proves) {
			return text("-ERR [AUTH] wrong user or password")
		}
		s.w.Flush() // acquire may wait
		messages, ok := m.acquire(s, s.behaviourOf(m).LockWait)
		if !ok {
			return text("-ERR [IN-USE] another session has locked the maildrop")
		}
		s.open, s.messages, s.deleted = true, messages, make(map[int]bool)
		return textf("+OK maildrop has %d messages", len(messages))
	})
}

func (m *Maildrop) accepts(proves func(pass string) bool) bool {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	return proves(m.pass)
}

// apop checks the digest of RFC 1939 §7.
func (s *session) apop(x *Exchange) io.Reader {
	stamp := s.srv.behaviour.Timestamp
	if stamp == "" {
		return text("-ERR unknown command")
	}
	_, digest, _ := strings.Cut(x.Args, " ")
	return s.login(func(pass string) bool {
		sum := md5.Sum([]byte(stamp + pass))
		return digest == hex.EncodeToString(sum[:])
	})
}

// stls upgrades the connection once its reply is sent (RFC 2595 §4).
func (s *session) stls(*Exchange) io.Reader {
	if s.secure {
		return text("-ERR TLS is active already")
	}
	if s.r.Buffered() > 0 {
		// Taken over into the TLS session, plain text commands would be
		// anybody's.
		return io.MultiReader(text("-ERR commands were pipelined behind STLS"), ending{HangUp})
	}
	return io.MultiReader(text("+OK begin TLS"), &upgrade{s})
}

// upgrade is the end of the reply to STLS: the handshake.
type upgrade struct{ s *session }

func (u *upgrade) Read([]byte) (int, error) {
	s := u.s
	if s.secure {
		return 0, io.EOF
	}
	if err := s.w.Flush(); err != nil {
		return 0, err
	}
	if err := s.handshake(); err != nil {
		return 0, err
	}
	// RFC 2595 §4: what was said before TLS is forgotten.
	s.user, s.maildrop = "", nil
	clear(s.nth)
	return 0, io.EOF
}

// name notes whose maildrop the session is about.
func (s *session) name(user string) {
	s.user, s.maildrop = user, s.attribute(user)
}
