package fetch

import (
	"context"

	"github.com/mailhaul/mailhaul/pop3proto"
)

// expiry is what a server that announces EXPIRE 0 makes a session mind: at QUIT it may
// delete whatever was retrieved, as if it had been asked to (RFC 2449 §6.7). What came
// in and was not delivered would be lost then. A session that has such a message hangs
// up instead: the server keeps all, and the next session deletes what landed without
// retrieving anything.
type expiry struct {
	zero     bool         // the server announces it
	homeless map[int]bool // numbers of messages that came in, and were not delivered
}

// expires notes whether the server announces EXPIRE 0.
func (e *expiry) expires(caps pop3proto.Capabilities) {
	days := caps.Params("EXPIRE")
	e.zero = len(days) > 0 && days[0] == "0"
	e.homeless = map[int]bool{}
}

// retrieved notes that the server gives a message.
func (s *session) retrieved(w Want) {
	s.read = true
	if s.expiry.zero {
		s.expiry.homeless[w.Num] = true
	}
}

// had notes that a message was delivered before.
func (s *session) had(w Want) {
	s.known++
	delete(s.expiry.homeless, w.Num)
}

// end ends the session, if the server may be told.
func (s *session) end(ctx context.Context) error {
	n := len(s.expiry.homeless)
	if n == 0 {
		return s.finish(ctx)
	}
	s.notice("hung up without QUIT: the server deletes what was retrieved (EXPIRE 0), and %d messages were not delivered", n)
	s.summary.Waiting = len(s.delete)
	s.client.Close()
	return nil
}
