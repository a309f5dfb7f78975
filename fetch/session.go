package fetch

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
)

// defaultMaxMessages is how many messages a session fetches before it quits and
// connects again: QUIT is what makes deletions real (RFC 1939 §6), and a long
// session over a bad line might never come to it.
const defaultMaxMessages = 1000

// session is one connection of a visit, from the greeting to QUIT. The goroutine
// that runs it owns the connection and the batch that is being staged; batches
// are handed to a committer, which runs in another goroutine.
type session struct {
	*visit
	client    *pop3proto.Client
	hasTOP    bool
	rowStates *rowStateReader // nil if nothing is read ahead
	listing   *pop3proto.Listing
	rows      []state.Row
	plan      Plan

	// How far the replies can be trusted, see asOutOfStep.
	pipelined  bool // commands are pipelined
	unverified bool // replies to pipelined commands came in since verifyInStep last succeeded
	doubtful   bool // one of those replies may be another command's, though it looks valid

	// What became of messages so far.
	gaveMessage       bool            // the server gave at least one message
	notGiven          []serverRefusal // messages that the server refused to give
	landedKeys        []string        // of messages that landed, or may have
	compared          int             // compared messages that proved to be new, or remembered
	alreadyHad        int             // compared messages that had been delivered before
	undelivered       map[int]bool    // numbers of messages that came in and were not delivered
	toDelete          []Listed        // messages that landed and are due for deletion
	forQuarantine     []Want          // messages that the quarantine is to get
	quarantineReasons map[int]error   // why, by message number, until the quarantine has them
	leftNameless      int             // messages left alone because nothing tells them from fetched ones

	serverTrouble error // trouble of the server's own, in spite of which the session went on
	expiresAtQuit bool  // EXPIRE 0: at QUIT the server may delete what was retrieved
}

// connectAndLogIn connects and logs in.
func (s *session) connectAndLogIn(ctx context.Context) error {
	err := s.connectAndLogInOnce(ctx)
	if s.retryWithoutCAPA(err) {
		err = s.connectAndLogInOnce(ctx)
	}
	if errors.Is(err, errWantsChallenge) {
		s.client.Close()
		s.notice("%v; connecting again, to let it", err)
		err = s.connectAndLogInOnce(ctx)
	}
	return err
}

// connectAndLogInOnce is one attempt of connect.
func (s *session) connectAndLogInOnce(ctx context.Context) (err error) {
	defer func() {
		if err != nil && !isReply(err) { // the server may have resumed a TLS session, and then fallen silent
			channel.Forget(s.Server.TLS)
		}
	}()
	server := s.Server
	if s.noPipelining {
		server.Window = 1
	}
	c, err := server.connect(ctx)
	if err != nil {
		return err
	}
	s.client = c
	s.summary.Sessions++
	connected := Connected{Account: s.Name, Addr: s.Server.Addr()}
	if cs, ok := c.TLS(); ok {
		connected.State = &cs
	}
	s.opts.report(connected)
	return s.logIn(ctx, connected.State)
}

// logIn logs in on a connection that was greeted, over TLS unless tlsState is nil.
func (s *session) logIn(ctx context.Context, tlsState *tls.ConnectionState) error {
	if s.server == nil { // a look asks the server anew, to see it as it is
		s.server = new(knownServer)
	}
	s.server.used = false
	before, choice, err := s.logInAsRemembered(ctx)
	if r := s.checkReport; r != nil {
		r.TLS, r.Greeting, r.Before, r.Choice = tlsState, s.client.Greeting(), before, choice
	}
	if err != nil {
		s.summary.pauseReply = pauseRequest(err)
		return err
	}
	s.summary.LoggedIn = s.opts.now()
	s.opts.report(LoggedIn{Account: s.Name, Mechanism: choice.Mechanism})
	if s.server.trustAfter {
		s.noteCapabilities(s.server.useRemembered(s.client, s.server.After))
	}
	return nil
}

// noteCapabilities notes what the server can do after the login.
func (s *session) noteCapabilities(after pop3proto.Capabilities) {
	if r := s.checkReport; r != nil {
		r.After = after
	}
	s.noteLoginDelay(after) // LOGIN-DELAY is now this user's, and no longer the longest of all users'
	s.noteExpire(after)
	s.pipelined = !s.noPipelining && s.Server.Window != 1 && after.Has("PIPELINING")
	s.hasTOP = after.Has("TOP")
}

// close hangs up, unless the session has quit.
func (s *session) close() {
	if s.client != nil {
		s.client.Close()
	}
}

// run is one session, from the connection to QUIT. more is true if the maildrop holds
// messages for another session.
func (s *session) run(ctx context.Context) (more bool, err error) {
	defer s.close()
	if err := s.connectAndLogIn(ctx); err != nil {
		return false, err
	}
	if err := s.listAndPlan(ctx); err != nil {
		return false, err
	}
	if s.deleteOnly {
		if err := s.recordPlan(ctx); err != nil {
			return false, err
		}
		return false, s.deleteAndQuit(ctx)
	}
	s.summary.Refused = s.plan.Waiting + s.plan.Open // Open: no sink could answer for them
	s.summary.Unfetched = 0                          // of the session before
	s.opts.report(s.planned())
	if n := len(s.plan.Compare); n > 0 && s.plan.Reused {
		s.notice("the server may have given unique-ids to other messages: all that no header tells are downloaded to be compared (%d)", n)
	}
	before := s.summary.handled()
	if err := s.recordPlan(ctx); err != nil {
		return false, err
	}
	if err := s.fetchAndFinish(ctx); err != nil {
		return false, err
	}
	return s.conclude(s.summary.handled() - before)
}

// fetchAndFinish fetches what is planned, makes sure that each reply was for its command,
// and finishes: what landed is deleted, even if a sink is in trouble now.
func (s *session) fetchAndFinish(ctx context.Context) error {
	err := errors.Join(s.fetchPlanned(ctx), s.refuseNotGiven(context.WithoutCancel(ctx)))
	if s.canContinue(err) {
		err = errors.Join(err, s.verifyInStep(ctx))
	}
	if s.doubtful || errors.Is(err, errOutOfStep) {
		err = errors.Join(err, s.recordDoubt(ctx))
	}
	if !s.canContinue(err) {
		return err
	}
	return errors.Join(err, s.finish(ctx))
}

// canContinue reports whether the session can go on after err: it is nil, or only a sink
// is in trouble.
func (s *session) canContinue(err error) bool {
	return err == nil || isSinkTrouble(err) && !s.client.Broken()
}

// conclude decides whether another session is to follow this one, in which done messages
// were dealt with. If not, it sums up what is left undone; err is the server's trouble.
func (s *session) conclude(done int) (more bool, err error) {
	left := s.plan.More - s.keyless
	// A server that deletes nothing, whatever it says, has the same messages compared
	// again and again, and one without unique-ids that never gives a message twice alike
	// has them fetched again and again: another session must have less to do.
	progress := (done > 0 || s.compared > 0) && left < s.lastLeft
	s.lastLeft = left
	draining := s.opts.draining()
	switch {
	case draining:
		s.summary.Unfetched = max(0, s.planned().Fetch+s.plan.More-done-s.alreadyHad)
	case s.serverTrouble == nil:
		s.summary.Unfetched = max(0, left) // should there be no further session
	}
	more = s.plan.More > 0 && progress && s.serverTrouble == nil && !draining
	if n := s.plan.Unclear; n > 0 && !more {
		s.serverTrouble = cmp.Or(s.serverTrouble, fmt.Errorf("%s no unique-id now and %w", number(n, "message has", "messages have"), errUnclear))
	}
	if n := s.leftNameless; n > 0 && !more {
		s.serverTrouble = cmp.Or(s.serverTrouble, fmt.Errorf("%s no unique-id and %w", number(n, "message has", "messages have"), errNameless))
	}
	// finish could not delete what landed. To leave that to the next poll might put it
	// off for ever, as that, too, may find something it cannot deliver.
	if s.expiresAtQuit && len(s.undelivered) > 0 && len(s.toDelete) > 0 && !more && s.serverTrouble == nil && !draining {
		s.deleteOnly, more = true, true
	}
	return more, s.serverTrouble
}

// planned sums up the plan. Messages to compare count as downloads, and so do those that
// are too large if a quarantine takes them.
func (s *session) planned() Planned {
	p := Planned{
		Account: s.Name, Listed: len(s.listing.Entries), Octets: s.listing.Octets,
		Delete: len(s.plan.Delete), More: s.plan.More, MoreOctets: s.plan.MoreOctets,
	}
	download := slices.Concat(s.plan.Fetch, s.plan.Compare)
	if s.Quarantine != nil {
		download = append(download, s.plan.Large...)
	}
	p.Fetch = len(download)
	for _, w := range download {
		p.FetchOctets += w.Size
	}
	return p
}

// tooLarge counts the messages that stay on the server because they are too large.
func (s *session) tooLarge() int {
	if s.Quarantine != nil {
		return 0
	}
	return len(s.plan.Large)
}

// policy returns what the plan depends on besides listing and rows, as of now.
func (s *session) policy() Policy {
	return Policy{
		Keep: s.Keep, KeepAll: s.opts.KeepAll, MaxSize: s.MaxSize,
		Limit: cmp.Or(s.MaxMessages, defaultMaxMessages) + s.keyless, Now: s.opts.now(),
		Open: s.openKeys, Each: s.onFate, Torn: s.torn, Partial: s.listingIncomplete(),
	}
}

// recordPlan records what the plan learned without any download.
func (s *session) recordPlan(ctx context.Context) error {
	now := s.opts.now().Unix()
	s.recordMaildrop()
	if err := s.opts.State.Keep(ctx, s.Name, now, s.plan.Learned); err != nil {
		return err
	}
	s.unrecordedMaildrop = false
	s.summary.Restored += len(s.plan.Learned.Restored)
	s.toDelete = s.plan.Delete
	s.summary.TooLarge = s.tooLarge()
	var refusals []state.Refusal
	for _, w := range s.plan.Large {
		why := fmt.Errorf("%w: the server says %d octets, max_size is %d", errTooLarge, w.Size, s.MaxSize)
		if s.Quarantine != nil {
			s.queueForQuarantine(w, why)
			continue
		}
		reason := why.Error()
		if w.Row != nil && w.Row.Reason == reason {
			continue
		}
		// No pause: it is due as soon as max_size is raised.
		if w.Key != "" {
			refusals = append(refusals, state.Refusal{UID: w.Key, Size: w.Size, Reason: reason, Header: w.Header})
		}
		s.opts.report(Refused{Account: s.Name, UID: w.UID, Reason: reason, Again: w.tries() > 0})
	}
	if len(refusals) == 0 {
		return nil
	}
	return s.opts.State.Refuse(ctx, s.Name, refusals)
}

// fetchPlanned fetches what is new and what a comparison proves to be new. Messages over
// which a sink may fail come last.
func (s *session) fetchPlanned(ctx context.Context) error {
	first, last := s.plan.Fetch, []Want(nil)
	if i := slices.IndexFunc(first, func(w Want) bool { return w.isSuspect() }); i >= 0 && len(s.plan.Compare) > 0 {
		first, last = first[:i], first[i:]
	}
	if err := s.fetch(ctx, first, false); err != nil {
		return err
	}
	different, err := s.compare(ctx, s.plan.Compare)
	if err != nil {
		return err
	}
	last = slices.Concat(different, last)
	slices.SortFunc(last, byDueTime) // compared messages may have given trouble before, too
	if err := s.fetch(ctx, last, false); err != nil {
		return err
	}
	if s.Quarantine == nil {
		return nil
	}
	return s.fetchIntoQuarantine(ctx)
}

// fetchIntoQuarantine fetches what goes to the quarantine. If that does not take a
// message, only that message waits.
func (s *session) fetchIntoQuarantine(ctx context.Context) error {
	err := s.fetch(ctx, s.forQuarantine, true)
	if !isSinkTrouble(err) {
		return err
	}
	s.downSinks[s.Quarantine.Name] = err
	for _, w := range s.forQuarantine {
		notGiven := slices.ContainsFunc(s.notGiven, func(u serverRefusal) bool { return u.Num == w.Num })
		if why := s.quarantineReasons[w.Num]; why != nil && !notGiven {
			if err := s.refuse(ctx, w, state.Sum{}, fmt.Errorf("%w; and it cannot be put into quarantine: %w", why, err)); err != nil {
				return err
			}
		}
	}
	return nil
}

// due reports whether a message that landed at that time is to be deleted.
func (s *session) due(landed int64) bool {
	pol := s.policy()
	return pol.isDue(landed)
}

// entries yields the entries of wants until the poll is to drain.
func (s *session) entries(wants []Want) iter.Seq[pop3proto.Entry] {
	return func(yield func(pop3proto.Entry) bool) {
		for _, w := range wants {
			if s.opts.draining() || !yield(w.Entry) {
				return
			}
		}
	}
}
