package pop3test

import (
	"crypto/md5"
	"encoding/hex"
	"io"
	"strings"
)

// authorizationCommands are the commands of the AUTHORIZATION state (RFC 1939 §4, RFC
// 2595 §4, RFC 5034, RFC 6856 §2).
var authorizationCommands = map[string]func(*session, *Exchange) io.Reader{
	"STLS": (*session).stls,
	"USER": func(s *session, x *Exchange) io.Reader {
		if x.Args == "" {
			return replyLine("-ERR USER wants a name")
		}
		return replyLine("+OK send PASS") // also for a user that does not exist
	},
	"PASS": func(s *session, x *Exchange) io.Reader {
		if s.verbCounts["USER"] == 0 {
			return replyLine("-ERR USER comes first")
		}
		return s.login(func(pass string) bool { return pass == x.Args })
	},
	"APOP": (*session).apop,
	"AUTH": (*session).auth,
	"UTF8": func(*session, *Exchange) io.Reader { return replyLine("+OK UTF8 enabled") },
}

// login logs the client in to the maildrop of the user it named, if matches returns true
// for that user's password.
func (s *session) login(matches func(pass string) bool) io.Reader {
	return s.runExchange(Login, s.user, func(*Exchange) io.Reader {
		m := s.maildrop
		if m == nil || !m.accepts(matches) {
			return replyLine("-ERR [AUTH] wrong user or password")
		}
		s.w.Flush() // since acquire may wait
		messages, ok := m.acquire(s, s.behaviourOf(m).LockWait)
		if !ok {
			return replyLine("-ERR [IN-USE] another session has locked the maildrop")
		}
		s.loggedIn, s.messages, s.deleted = true, messages, make(map[int]bool)
		return replyLinef("+OK maildrop has %d messages", len(messages))
	})
}

func (m *Maildrop) accepts(matches func(pass string) bool) bool {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	return matches(m.pass)
}

// apop checks the digest of RFC 1939 §7.
func (s *session) apop(x *Exchange) io.Reader {
	stamp := s.srv.behaviour.Timestamp
	if stamp == "" {
		return replyLine("-ERR unknown command")
	}
	_, digest, _ := strings.Cut(x.Args, " ")
	return s.login(func(pass string) bool {
		sum := md5.Sum([]byte(stamp + pass))
		return digest == hex.EncodeToString(sum[:])
	})
}

// stls upgrades the connection after sending its reply (RFC 2595 §4).
func (s *session) stls(*Exchange) io.Reader {
	if s.secure {
		return replyLine("-ERR TLS is active already")
	}
	if s.r.Buffered() > 0 {
		// Commands that came in the clear must not be run after the handshake.
		return io.MultiReader(replyLine("-ERR commands were pipelined behind STLS"), endReader{HangUp})
	}
	return io.MultiReader(replyLine("+OK begin TLS"), &upgrade{s})
}

// upgrade does the handshake as the end of the reply to STLS.
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
	// RFC 2595 §4: discard what the client has sent in the clear.
	s.user, s.maildrop = "", nil
	clear(s.verbCounts)
	return 0, io.EOF
}

// setUser makes user the one who logs in.
func (s *session) setUser(user string) {
	s.user, s.maildrop = user, s.assignMaildrop(user)
}
