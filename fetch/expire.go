package fetch

import (
	"context"
	"slices"

	"github.com/mailhaul/mailhaul/pop3proto"
)

// expires notes whether the server announces EXPIRE 0: at QUIT it may delete whatever was
// retrieved, as if it had been asked to (RFC 2449 §6.7). What came in and was not
// delivered would be lost then. A session that has such a message hangs up instead: the
// server keeps all, and the next session deletes what landed without retrieving anything.
// What it said before the login counts if it says nothing now, and did not say that users
// differ: not all servers answer CAPA in both states.
func (s *session) expires(caps pop3proto.Capabilities) {
	days := caps.Params("EXPIRE")
	if len(days) == 0 {
		before := pop3proto.ParseCapabilities(s.server.Before)
		s.expiring = slices.Equal(before.Params("EXPIRE"), []string{"0"})
		return
	}
	s.expiring = days[0] == "0"
}

// retrieved notes that the server gives a message.
func (s *session) retrieved(w Want) {
	s.read = true
	if s.homeless == nil {
		s.homeless = map[int]bool{}
	}
	s.homeless[w.Num] = true
}

// had notes that a message was delivered before.
func (s *session) had(w Want) {
	s.known++
	delete(s.homeless, w.Num)
}

// end ends the session, if the server may be told. What it announced to an earlier
// session is not enough, where there is something to lose: by now it may have another
// policy. But if it refuses to say, it has none that is new, and one that never said
// anything is not asked: it may break off over that, see mutes.
func (s *session) end(ctx context.Context) error {
	n := len(s.homeless)
	if q := s.server; n > 0 && q.used && q.Asked != 0 && len(q.Before)+len(q.After) > 0 {
		caps, err := s.client.Capabilities(ctx)
		if err != nil {
			return s.broken(err)
		}
		if len(caps.Lines()) > 0 {
			s.expires(caps)
		}
	}
	if n == 0 || !s.expiring {
		return s.finish(ctx)
	}
	s.notice("hung up without QUIT: the server deletes what was retrieved (EXPIRE 0), and %s not delivered", number(n, "message was", "messages were"))
	s.summary.Waiting = len(s.delete)
	s.client.Close()
	return nil
}
