package fetch

import (
	"context"

	"github.com/mailhaul/mailhaul/pop3proto"
)

// expires notes whether the server announces EXPIRE 0: at QUIT it may delete whatever was
// retrieved, as if it had been asked to (RFC 2449 §6.7). What came in and was not
// delivered would be lost then. A session that has such a message hangs up instead: the
// server keeps all, and the next session deletes what landed without retrieving anything.
func (s *session) expires(caps pop3proto.Capabilities) {
	s.homeless = nil
	if days := caps.Params("EXPIRE"); len(days) > 0 && days[0] == "0" {
		s.homeless = map[int]bool{}
	}
}

// retrieved notes that the server gives a message.
func (s *session) retrieved(w Want) {
	s.read = true
	if s.homeless != nil {
		s.homeless[w.Num] = true
	}
}

// had notes that a message was delivered before.
func (s *session) had(w Want) {
	s.known++
	delete(s.homeless, w.Num)
}

// end ends the session, if the server may be told.
func (s *session) end(ctx context.Context) error {
	n := len(s.homeless)
	if n == 0 {
		return s.finish(ctx)
	}
	s.notice("hung up without QUIT: the server deletes what was retrieved (EXPIRE 0), and %d messages were not delivered", n)
	s.summary.Waiting = len(s.delete)
	s.client.Close()
	return nil
}
