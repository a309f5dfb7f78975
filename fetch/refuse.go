package fetch

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// serverRefusal is a message for which the server answered RETR with -ERR.
type serverRefusal struct {
	Want
	err error
}

// maxTroublePolls is how many polls in a row may fail before a server that claims
// trouble of its own is no longer believed.
const maxTroublePolls = 6

// refuseNotGiven records the messages that the server refused to give. An -ERR to RETR is
// about that message if the server gives others. If it gives none and claims trouble of
// its own (RFC 3206 §4), the messages need not wait. If it gives none of several and
// claims nothing, they wait no longer than after a poll that failed.
func (s *session) refuseNotGiven(ctx context.Context) error {
	refused := s.notGiven
	s.notGiven = nil
	maxPause := longestPause
	if !s.gaveMessage && len(refused) > 1 {
		maxPause = longestBackoff
	}
	for _, u := range refused {
		if !s.gaveMessage && s.failures < maxTroublePolls && u.tries() == 0 && isServerTrouble(u.err) {
			s.serverTrouble = cmp.Or(s.serverTrouble, s.connectError(u.err))
			continue
		}
		if err := s.recordRefusal(ctx, u.Want, state.Sum{}, u.err, u.tries() > 0, maxPause); err != nil {
			return err
		}
	}
	return nil
}

// isServerTrouble reports whether the response code of a refusal claims passing trouble
// of the server itself.
func isServerTrouble(err error) bool {
	r, ok := errors.AsType[*pop3proto.ReplyError](err)
	return ok && (r.Code == pop3proto.CodeSysTemp || r.Code == pop3proto.CodeInUse || r.Code == pop3proto.CodeLoginDelay)
}

// quarantineOrRefuse handles a message that a sink did not take. If no retry can help,
// it goes to the quarantine, unless there is none, or it is the quarantine that refused it.
func (d *download) quarantineOrRefuse(ctx context.Context, w Want, content state.Sum, err error) error {
	final := errors.Is(err, errTooLarge) || faultOf(err) == deliver.FaultMessage
	if final && d.Quarantine != nil && !d.toQuarantine {
		d.queueForQuarantine(w, err)
		return nil
	}
	return d.refuse(ctx, w, content, err)
}

// queueForQuarantine notes that a message is for the quarantine, and why.
func (s *session) queueForQuarantine(w Want, why error) {
	if s.quarantineReasons == nil {
		s.quarantineReasons = map[int]error{}
	}
	s.forQuarantine = append(s.forQuarantine, w)
	s.quarantineReasons[w.Num] = why
}

// reportQuarantined reports a message that landed in the quarantine. If the filter sent
// it there, that is no refusal.
func (s *session) reportQuarantined(w Want) {
	s.summary.Quarantined++
	why := s.quarantineReasons[w.Num]
	delete(s.quarantineReasons, w.Num)
	if errors.Is(why, errQuarantine) {
		s.notice("the filter sent %s to quarantine", MessageName(w.UID))
	} else {
		s.opts.report(Refused{Account: s.Name, UID: w.UID, Reason: why.Error(), Quarantine: s.Quarantine.Name})
	}
}

// refuse records that a message stays on the server because of err. content is zero if
// it is not known.
//
// If its sink is down, the message waits no longer than an account whose polls fail:
// refuseUndeliverable finds out without a download whether the sink is up, unless a route
// has to see the header.
func (s *session) refuse(ctx context.Context, w Want, content state.Sum, err error) error {
	maxPause := longestPause
	for _, down := range s.downSinks {
		if s.Route == nil && errors.Is(err, down) {
			maxPause = longestBackoff
		}
	}
	return s.recordRefusal(ctx, w, content, err, w.tries() > 0, maxPause)
}

// recordRefusal reports a failed attempt at a message, and has it tried again after a
// pause of at most maxPause. A message without a key cannot be remembered, and is tried
// again at the next poll. reported says whether an earlier poll has reported this
// already.
func (s *session) recordRefusal(ctx context.Context, w Want, content state.Sum, err error, reported bool, maxPause time.Duration) error {
	delete(s.quarantineReasons, w.Num)
	var next time.Time
	if w.Key != "" {
		next = s.opts.now().Add(min(retryPause(w.tries()+1), maxPause))
	}
	s.summary.Refused++
	s.opts.report(Refused{Account: s.Name, UID: w.UID, Reason: err.Error(), NextTry: next, Again: reported})
	if w.Key == "" {
		s.keyless++
		return nil
	}
	return s.opts.State.Refuse(ctx, s.Name, []state.Refusal{{
		UID: w.Key, Size: w.Size, NextTry: next.Unix(), Reason: err.Error(), Header: w.Header, Content: content,
	}})
}

// retryLast has a message tried after all others, without a pause, unless it has failed
// before.
func (s *session) retryLast(ctx context.Context, w Want, err error) error {
	if w.Key == "" || w.tries() > 0 {
		return nil
	}
	return s.opts.State.Refuse(ctx, s.Name, []state.Refusal{{
		UID: w.Key, Size: w.Size, NextTry: s.opts.now().Unix(), Reason: err.Error(), Header: w.Header,
	}})
}
