package pop3test

import "strconv"

// sessionRecord is what the server keeps of a session after its end.
type sessionRecord struct {
	number         int       // among the server's connections
	maildrop       *Maildrop // of the user named last, or nil
	maildropNumber int       // among the sessions of that maildrop
}

// logLine is one command that a session has received, with secrets masked.
type logLine struct {
	record *sessionRecord
	text   string
}

const maskText = "****"

// logCommand adds a command to the log.
func (s *session) logCommand(text string) {
	s.srv.mu.Lock()
	defer s.srv.mu.Unlock()
	s.srv.log = append(s.srv.log, logLine{s.record, text})
}

// assignMaildrop makes the session, with its log so far, one of user's maildrop, which
// it returns.
func (s *session) assignMaildrop(user string) *Maildrop {
	s.srv.mu.Lock()
	defer s.srv.mu.Unlock()
	m := s.srv.accounts[user]
	if m != nil && s.record.maildrop != m {
		m.sessions++
		s.record.maildrop, s.record.maildropNumber = m, m.sessions
	}
	return m
}

// Log returns the commands of all sessions in the order received, each after the number
// of its session: "1 USER alice". Secrets are masked.
func (s *Server) Log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, l := range s.log {
		out = append(out, strconv.Itoa(l.record.number)+" "+l.text)
	}
	return out
}

// Log returns the commands of all sessions that named this maildrop's user, including
// those before the login, in the order received: "RETR 1". Secrets are masked.
func (m *Maildrop) Log() []string {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	var out []string
	for _, l := range m.srv.log {
		if l.record.maildrop == m {
			out = append(out, l.text)
		}
	}
	return out
}

// Sessions returns how many sessions named this maildrop's user, whether or not they
// logged in.
func (m *Maildrop) Sessions() int {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	return m.sessions
}

// Retrieved returns how many RETR commands for messages with that UID the server has
// begun to answer.
func (m *Maildrop) Retrieved(uid string) int {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	return m.retrieved[uid]
}

// Deleted returns the UIDs of the messages that sessions have deleted since the last
// Restore, in the order of deletion.
func (m *Maildrop) Deleted() []string {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	var out []string
	for _, msg := range m.removed {
		out = append(out, msg.uid)
	}
	return out
}

// RoundTrips returns how often a logged-in session had replied to all that had arrived
// and waited for more. It is an upper bound, since the network may split commands that
// were sent at once.
func (m *Maildrop) RoundTrips() int {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	return m.roundTrips
}
