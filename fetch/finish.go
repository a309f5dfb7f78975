package fetch

import (
	"context"
	"errors"
	"slices"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// finish ends a session whose work is done: it deletes what is due and quits, unless
// the server would delete undelivered messages by itself (EXPIRE 0).
//
// What the server announced in an earlier session is not enough where there is
// something to lose: its policy may have changed. A server that refuses to answer now
// has no new policy, and one that never answered is not asked: it may hang up over CAPA.
func (s *session) finish(ctx context.Context) error {
	n := len(s.undelivered)
	if k := s.server; n > 0 && k.used && k.Asked != 0 && len(k.Before)+len(k.After) > 0 {
		caps, err := s.client.Capabilities(ctx)
		if err != nil {
			return s.connectError(err)
		}
		if len(caps.Lines()) > 0 {
			s.noteExpire(caps)
		}
	}
	if n == 0 || !s.expiresAtQuit {
		return s.deleteAndQuit(ctx)
	}
	s.notice("hung up without QUIT: the server deletes what was retrieved (EXPIRE 0), and %s not delivered", number(n, "message was", "messages were"))
	s.summary.ToDelete = len(s.toDelete)
	s.client.Close()
	return nil
}

// noteExpire notes whether the server announces EXPIRE 0: at QUIT it may delete whatever
// was retrieved, as if by DELE (RFC 2449 §6.7), and a message that came in
// but was not delivered would be lost. A session with such a message hangs up instead:
// then the server keeps everything, and the next session deletes what landed without
// retrieving anything.
//
// If caps has no EXPIRE, what the server said before the login counts, unless it said
// that users differ: not all servers answer CAPA in both states.
func (s *session) noteExpire(caps pop3proto.Capabilities) {
	params := caps.Params("EXPIRE")
	if len(params) == 0 {
		before := pop3proto.ParseCapabilities(s.server.Before)
		s.expiresAtQuit = slices.Equal(before.Params("EXPIRE"), []string{"0"})
		return
	}
	s.expiresAtQuit = params[0] == "0"
}

// noteRetrieved notes that the server gives a message, which is undelivered so far.
func (s *session) noteRetrieved(w Want) {
	s.gaveMessage = true
	if s.undelivered == nil {
		s.undelivered = map[int]bool{}
	}
	s.undelivered[w.Num] = true
}

// noteAlreadyHad notes that a retrieved message was delivered before.
func (s *session) noteAlreadyHad(w Want) {
	s.alreadyHad++
	delete(s.undelivered, w.Num)
}

// quitUnchanged says QUIT to a server on which nothing was changed.
func (s *session) quitUnchanged(ctx context.Context) {
	if err := s.client.Leave(ctx); err != nil {
		s.notice("QUIT: %v", err)
	}
}

// deleteAndQuit deletes what landed and is due, and quits. If QUIT is refused or not
// answered, nobody knows what it deleted (RFC 1939 §6); nor does anybody if this poll is
// killed meanwhile. So the deletions are recorded before they are asked for, and stay in
// doubt until the server has confirmed them. A later poll finds out what the server still
// has: by the listing, and by the headers, because the unique-ids of deleted messages may
// be new mail's by then.
func (s *session) deleteAndQuit(ctx context.Context) error {
	due := s.toDelete
	switch {
	case len(due) > 0:
	case s.plan.More > 0:
		s.client.Quit(ctx) // waits for the reply, so that the next session finds the maildrop unlocked
		return nil
	default:
		s.quitUnchanged(ctx)
		return nil
	}
	s.summary.ToDelete = len(due)
	keys := make([]string, len(due))
	for i, l := range due {
		keys[i] = l.Key
	}
	if err := s.opts.State.Delete(ctx, s.Name, s.opts.now().Unix(), keys); err != nil {
		return err
	}
	s.summary.unconfirmed = true
	marked, refused, err := s.client.DeleteAndQuit(ctx, func(yield func(int) bool) {
		for _, l := range due {
			if !yield(l.Num) {
				return
			}
		}
	})
	if err != nil {
		return errors.Join(&UnconfirmedError{Addr: s.Server.Addr(), Messages: len(due), Err: err}, s.recordUnconfirmed(ctx))
	}
	s.summary.Deleted += len(marked)
	s.summary.ToDelete -= len(marked)
	s.summary.NotDeleted = refused
	if refused != nil {
		s.notice("the server would not delete %d of %s: %v", len(due)-len(marked), number(len(due), "message", "messages"), refused)
		if err := s.recordNotDeleted(ctx, due, marked); err != nil {
			return err
		}
	}
	s.summary.unconfirmed = false
	if s.plan.More == 0 {
		return nil // saving the poll confirms it
	}
	return s.opts.State.Confirm(context.WithoutCancel(ctx), s.Name)
}

// recordNotDeleted records which of the messages that were due the server has refused
// to delete: all but those whose numbers are in marked, which is in the order of due.
func (s *session) recordNotDeleted(ctx context.Context, due []Listed, marked []int) error {
	var h state.Housekeeping
	for _, l := range due {
		if len(marked) > 0 && marked[0] == l.Num {
			marked = marked[1:]
		} else {
			h.Restored = append(h.Restored, l.Key)
		}
	}
	return s.opts.State.Keep(context.WithoutCancel(ctx), s.Name, s.opts.now().Unix(), h)
}
