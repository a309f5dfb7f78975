package fetch

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// connectionLost handles a connection that died, or a poll that was cancelled, while w
// was retrieved. What has been staged is committed, w included if a sink had it by
// then.
func (d *download) connectionLost(ctx context.Context, w Want, err error) error {
	n := len(d.batch.items)
	staged := n > 0 && d.batch.items[n-1].want.Num == w.Num
	d.handOver()
	if staged {
		return d.lostBetweenMessages(ctx, err) // recordOutcome sees to w
	}
	return d.lostDuringMessage(ctx, w, err)
}

// lostDuringMessage handles a connection that died, or a poll that was cancelled or
// ran out of time, while w was retrieved.
func (s *session) lostDuringMessage(ctx context.Context, w Want, err error) error {
	_, silent := errors.AsType[silentOutOfStep](err)
	switch {
	case silent && ctx.Err() == nil:
		return errors.Join(s.connectError(err), s.recordTorn(ctx, w, err))
	case errors.Is(err, errOutOfStep):
		return s.connectError(err) // not the message's fault
	case ctx.Err() == nil:
		err = s.connectError(err)
		return errors.Join(&tornError{err}, s.recordTorn(ctx, w, err))
	}
	err = context.Cause(ctx)
	if isOverBudget(err) {
		// A message that trickles in must not hold up all others for ever.
		return errors.Join(err, s.recordTorn(context.WithoutCancel(ctx), w, err))
	}
	return err
}

// lostDuringHeader handles a connection that died while the header of e was retrieved.
// That header may have been asked for because it casts doubt on all rows, and it may
// have to wait now: all rows are doubted meanwhile.
func (s *session) lostDuringHeader(ctx context.Context, e pop3proto.Entry, err error) error {
	w := Want{Entry: e, Key: e.UID}
	shared := func(o pop3proto.Entry) bool { return o.UID == e.UID && o.Num != e.Num }
	if slices.ContainsFunc(s.listing.Entries, shared) {
		w.Key = "" // a unique-id of several messages identifies none
		return s.lostDuringMessage(ctx, w, err)
	}
	r, known := findRow(s.rows, e.UID)
	if !known {
		return s.lostDuringMessage(ctx, w, err)
	}
	w.Row = &s.rows[r]
	return errors.Join(s.lostDuringMessage(ctx, w, err), s.doubtAllRows(context.WithoutCancel(ctx)))
}

// lostBetweenMessages handles a connection that died, or a poll that was cancelled,
// while no message was retrieved.
func (s *session) lostBetweenMessages(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.connectError(err)
}

// recordTorn records that a poll or its connection ended over a message. Lines drop for
// any reason: the first time, the message is only tried after all others; from the
// second time on, it pauses like one that was refused. A message without a key is left
// alone for the rest of the poll.
func (s *session) recordTorn(ctx context.Context, w Want, err error) error {
	if s.readOnly {
		return nil
	}
	err = fmt.Errorf("it did not come in whole: %w", err)
	if w.Key == "" {
		s.torn[w.Entry] = true
		return s.refuse(ctx, w, state.Sum{}, err)
	}
	if n := w.tries(); n > 0 {
		return s.recordRefusal(ctx, w, state.Sum{}, err, n > 1, longestPause) // the first time was not reported
	}
	return s.retryLast(ctx, w, err)
}
