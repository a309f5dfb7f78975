package fetch

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// A POP3 reply does not say which command it answers. Where commands are pipelined, a
// server that sends one reply too many, or one too few, moves all later replies by one
// message: each message would land under the unique-id of its neighbour, and the last
// one would be deleted unseen. A body finds the fault within a message (errOutOfStep,
// see hasReplyBoundary). This file finds it between two messages.

// asOutOfStep wraps an error that came where a reply was due, if replies out of step
// may have caused it: the server said something unexpected, or nothing.
func (s *session) asOutOfStep(err error) error {
	_, unexpected := errors.AsType[*pop3proto.ProtocolError](err)
	switch {
	case s.pipelined && unexpected:
		return fmt.Errorf("%w: %w", errOutOfStep, err)
	case s.pipelined && errors.Is(err, os.ErrDeadlineExceeded):
		return silentOutOfStep{err}
	case s.pipelined && hungUp(err):
		return pipelineHangup{err}
	default:
		return err
	}
}

// silentOutOfStep is an errOutOfStep that reads like the silence by which it was
// noticed, because a server that merely fell silent is by far the more common cause.
type silentOutOfStep struct{ error }

func (e silentOutOfStep) Is(target error) bool { return target == errOutOfStep }
func (e silentOutOfStep) Unwrap() error        { return e.error }

// pipelineHangup reports a server that hung up where a reply was due, with more
// commands under way. Some servers do so to every client that pipelines, although they
// offer it. A line that merely dies does so mostly within a message.
type pipelineHangup struct{ error }

func (e pipelineHangup) Unwrap() error { return e.error }

// dropsPipelinedCommands reports whether err may come of pipelining, so that another
// session without it may succeed.
func dropsPipelinedCommands(err error) bool {
	_, hungUp := errors.AsType[pipelineHangup](err)
	return hungUp || errors.Is(err, errOutOfStep)
}

// verifyInStep makes sure that the replies to pipelined commands belong to them, by
// asking for something whose answer is known.
func (s *session) verifyInStep(ctx context.Context) error {
	if !s.unverified {
		return nil
	}
	err := s.client.InStep(ctx, s.listing)
	_, unexpected := errors.AsType[*pop3proto.ProtocolError](err)
	switch {
	case err == nil:
		s.unverified = false
		return s.clearDoubt(ctx)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case unexpected:
		// The server may also count differently in the middle of a session. Either
		// way, it must not happen again at each poll.
		s.server.disablePipelining()
	case !s.doubtful:
		return s.connectError(err) // the connection has died
	}
	return s.connectError(fmt.Errorf("%w: %w", errOutOfStep, err))
}

// checkSize makes the replies doubtful if a message does not have the size that was
// listed: it may be another message. Since some servers never list the right size, this
// is done only where TOP can settle the doubt: to download everything again after each
// broken connection might never end.
func (s *session) checkSize(w Want, octets int64) {
	if s.hasTOP && w.Size > 0 && w.Size != octets {
		s.doubtful = s.pipelined
	}
}

// clearDoubt takes back the doubt with which everything was promised that came in
// behind a doubtful reply. Had that been one reply too many, all of it would have been
// other messages.
func (s *session) clearDoubt(ctx context.Context) error {
	if !s.doubtful {
		return nil
	}
	s.doubtful = false
	return s.opts.State.Keep(context.WithoutCancel(ctx), s.Name, s.opts.now().Unix(), state.Housekeeping{Found: s.landedKeys})
}

// recordDoubt records that what landed in this session may be other messages than
// those whose unique-ids it landed under. The next session compares them.
func (s *session) recordDoubt(ctx context.Context) error {
	return s.opts.State.Keep(context.WithoutCancel(ctx), s.Name, s.opts.now().Unix(), state.Housekeeping{Missing: s.landedKeys})
}
