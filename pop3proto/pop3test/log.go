package pop3test

import "strconv"

// dialogue is what is known of a session after it has ended.
type dialogue struct {
	number   int       // among the connections of the server
	maildrop *Maildrop // whose user the client named last, nil before
	ordinal  int       // among the sessions of that maildrop
}

// line is one command as it was received, secrets masked.
type line struct {
	dialogue *dialogue
	text     string
}

const masked = "****"

// note puts a command on record.
func (s *session) note(text string) {
	s.srv.mu.Lock()
	defer s.srv.mu.Unlock()
	s.srv.log = append(s.srv.log, line{s.dialogue, text})
}

// attribute counts the session, with what it said so far, as one of user's.
func (s *session) attribute(user string) *Maildrop {
	s.srv.mu.Lock()
	defer s.srv.mu.Unlock()
	m := s.srv.accounts[user]
	if m != nil && s.dialogue.maildrop != m {
		m.sessions++
		s.dialogue.maildrop, s.dialogue.ordinal = m, m.sessions
	}
	return m
}

// Log returns the commands of all sessions in the order received, each after
// the number of its session: "1 USER alice". Passwords and all else that
// proves an identity are masked.
func (s *Server) Log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, l := range s.log {
		out = append(out, strconv.Itoa(l.dialogue.number)+" "+l.text)
	}
	return out
}

// Log returns the commands of all sessions that named this maildrop's user,
// those before the login included, in the order received: "RETR 1". Passwords
// and all else that proves an identity are masked.
func (m *Maildrop) Log() []string {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	var out []string
	for _, l := range m.srv.log {
		if l.dialogue.maildrop == m {
			out = append(out, l.text)
		}
	}
	return out
}

// Sessions returns how many sessions named this maildrop's user, whether or
// not they got in.
func (m *Maildrop) Sessions() int {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	return m.sessions
}

// Retrieved returns how many RETR commands the server has begun to answer
// with a message of that UID.
func (m *Maildrop) Retrieved(uid string) int {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	return m.retrieved[uid]
}

// Deleted returns the UIDs of what sessions have deleted since the last
// Restore, in the order in which the deletions took effect.
func (m *Maildrop) Deleted() []string {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	var out []string
	for _, msg := range m.removed {
		out = append(out, msg.uid)
	}
	return out
}

// RoundTrips returns how often logged-in sessions had answered all that had
// arrived and waited for more. A batch that the network splits counts twice,
// so it is an upper bound.
func (m *Maildrop) RoundTrips() int {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	return m.trips
}
