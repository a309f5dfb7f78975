package fetch

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// Replies do not say what they answer. Where commands are pipelined, a server
// that says one reply too many, or one too few, moves all that follow by one
// message: each lands by the unique-id of its neighbour, and the last of them would
// be deleted unseen. Within a message errSeam tells; between two of them it takes
// more.

// outOfStep makes an errSeam of an error between two messages that may come of
// it: the server said what it was not asked for, or nothing where a reply was due.
func (s *session) outOfStep(err error) error {
	_, odd := errors.AsType[*pop3proto.ProtocolError](err)
	switch {
	case s.pipelined && odd:
		return fmt.Errorf("%w: %w", errSeam, err)
	case s.pipelined && errors.Is(err, os.ErrDeadlineExceeded):
		return silentSeam{err}
	case s.pipelined && hungUp(err):
		return hungUpAhead{err}
	default:
		return err
	}
}

// silentSeam is an errSeam that is told as the silence which it most often is.
type silentSeam struct{ error }

func (e silentSeam) Is(target error) bool { return target == errSeam }
func (e silentSeam) Unwrap() error        { return e.error }

// hungUpAhead is a server that hung up where a reply was due, with more commands
// under way. Some do that to whoever pipelines, although they offer it; and a line that
// dies does it more often within a message.
type hungUpAhead struct{ error }

func (e hungUpAhead) Unwrap() error { return e.error }

// inStep makes sure of the replies to pipelined commands.
func (s *session) inStep(ctx context.Context) error {
	if !s.unsure {
		return nil
	}
	err := s.client.InStep(ctx, s.listing)
	_, odd := errors.AsType[*pop3proto.ProtocolError](err)
	switch {
	case err == nil:
		s.unsure = false
		return s.trustLanded(ctx)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case odd:
		// Or the server counts otherwise in the middle of a session. Whatever it is,
		// it is not to happen in each poll.
		s.server.oneByOne()
	case !s.dubious:
		return s.broken(err) // the connection has died
	}
	return s.broken(fmt.Errorf("%w: %w", errSeam, err))
}

// weigh casts doubt on the replies if a message has not the size that was listed: it
// may be another one. Some servers never tell the right size, so that the headers must
// be there to look at: to download all again after each broken connection may have no
// end.
func (s *session) weigh(w Want, octets int64) {
	if s.top && w.Size > 0 && w.Size != octets {
		s.dubious = s.pipelined
	}
}

// trustLanded takes back the doubt that what landed behind a dubious reply was promised
// with: had that been one reply too many, all of it would be other messages.
func (s *session) trustLanded(ctx context.Context) error {
	if !s.dubious {
		return nil
	}
	s.dubious = false
	return s.opts.State.Keep(context.WithoutCancel(ctx), s.Name, s.opts.now().Unix(), state.Housekeeping{Found: s.landed})
}

// doubtLanded notes that what landed in this session may be other messages than
// the server has by their unique-ids, so that the next one looks at them.
func (s *session) doubtLanded(ctx context.Context) error {
	return s.opts.State.Keep(context.WithoutCancel(ctx), s.Name, s.opts.now().Unix(), state.Housekeeping{Missing: s.landed})
}
