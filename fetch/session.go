package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
)

// defaultSession is how many messages a session fetches before it quits and
// connects again: QUIT is what makes deletions real (RFC 1939 §6), and a long
// session over a bad line might never come to it.
const defaultSession = 1000

// session is one connection of a visit, from the greeting to QUIT. The goroutine
// that runs it owns the connection and the batch that is being staged; full batches
// are handed to a committer, which runs in another.
type session struct {
	*visit
	glimpses *glimpseReader // the rows at a glance, if they are read ahead
	client   *pop3proto.Client
	listing  *pop3proto.Listing
	rows     []state.Row
	plan     Plan

	toDelete      []Listed      // landed and due
	forQuarantine []Want        // for the quarantine
	rejectedFor   map[int]error // for what reasons, by message number, until it has them
	notGiven      []unread      // what the server would not give
	compared      int           // of what was verified: with an outcome
	alreadyHad    int           // of that: had before, and not counted as refused
	gaveMessage   bool          // it gave something
	pipelined     bool          // commands are pipelined
	hasTOP        bool          // the server has TOP
	unverified    bool          // commands were pipelined, and inStep was not asked since
	suspect       bool          // one of their replies may be another's, for all that it says itself
	landedKeys    []string      // keys of what landed, or may have
	serverTrouble error         // of the server, with which the session went on
	leftNameless  int           // messages that nothing tells from what was fetched: left alone
	undelivered   map[int]bool  // numbers of messages that came in, and were not delivered
	expiresAtQuit bool          // EXPIRE 0: at QUIT the server may delete them
}

// open connects, logs in and asks what the server can do.
func (s *session) connect(ctx context.Context) error {
	err := s.connectOnce(ctx)
	if s.retryWithoutCAPA(err) {
		err = s.connectOnce(ctx)
	}
	if errors.Is(err, errWantsChallenge) {
		s.client.Close()
		s.notice("%v; connecting again, to let it", err)
		err = s.connectOnce(ctx)
	}
	return err
}

// begin is one try of open.
func (s *session) connectOnce(ctx context.Context) (err error) {
	defer func() {
		if err != nil && !isReply(err) {
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
	if s.server == nil { // whoever only looks is to see the server as it is
		s.server = new(knownServer)
	}
	s.server.used = false
	before, choice, err := s.logInAsRemembered(ctx)
	if r := s.report; r != nil {
		r.TLS, r.Greeting, r.Before, r.Choice = connected.State, c.Greeting(), before, choice
	}
	if err != nil {
		s.summary.refused = pauseAsked(err)
		return err
	}
	s.summary.LoggedIn = s.opts.now()
	s.opts.report(LoggedIn{Account: s.Name, Mechanism: choice.Mechanism})
	if s.server.trustAfter {
		s.noteCapabilities(s.server.useRemembered(c, s.server.After))
	}
	return nil
}

// entered notes what the server can do now that it has let us in.
func (s *session) noteCapabilities(after pop3proto.Capabilities) {
	if r := s.report; r != nil {
		r.After = after
	}
	s.wantPause(after) // this user's, no longer the longest of all
	s.noteExpire(after)
	s.pipelined = !s.noPipelining && s.Server.Window != 1 && after.Has("PIPELINING")
	s.hasTOP = after.Has("TOP")
}

// list asks for the listing. Where nothing is known of the server, it is asked
// again what it can do: that may depend on who asks (RFC 2449 §3). Gmail offers
// TOP and PIPELINING only now.
func (s *session) list(ctx context.Context) (err error) {
	short := s.server.leftOnServer <= shortListing
	switch {
	case !s.server.trustAfter && !s.server.noCAPA:
		var after pop3proto.Capabilities
		if after, s.listing, err = s.client.Survey(ctx, short); err == nil {
			s.noteCapabilities(after)
			s.server.learn(after, s.opts.now())
		}
	case short:
		s.listing, err = s.client.List(ctx)
	default:
		s.listing, err = s.client.ListUIDs(ctx)
	}
	return err
}

// close hangs up if quit did not.
func (s *session) close() {
	if s.client != nil {
		s.client.Close()
	}
}

// policy returns what is wanted at this moment.
func (s *session) policy() Policy {
	return Policy{
		Keep: s.Keep, KeepAll: s.opts.KeepAll, MaxSize: s.MaxSize,
		Limit: cmp.Or(s.MaxMessages, defaultSession) + s.keyless, Now: s.opts.now(),
		Open: s.unanswered, Each: s.onFate, Torn: s.interrupted, Partial: s.listingIncomplete(),
	}
}

// partial reports whether the server has more messages than it lists: it says so, or
// leaves out numbers.
func (s *session) listingIncomplete() bool {
	n := len(s.listing.Entries)
	return s.listing.Count > n || n > 0 && s.listing.Entries[n-1].Num > n
}

// look lists the maildrop and makes the plan.
func (s *session) listAndPlan(ctx context.Context) error {
	err := s.list(ctx)
	if s.retryWithoutCAPA(err) {
		if err := s.connect(ctx); err != nil {
			return err
		}
		err = s.list(ctx)
	}
	if _, ahead := errors.AsType[*pop3proto.AheadError](err); ahead {
		s.server.noPipelining = true
		s.server.forget()
		err = silentOutOfStep{err}
	}
	if err != nil {
		return s.connectError(err)
	}
	s.summary.Listed = len(s.listing.Entries)
	pol := s.policy()
	if ok, err := s.atRest(&pol); err != nil {
		return err
	} else if ok {
		s.noticeOddListing()
		return nil
	}
	if s.rows, err = s.opts.State.Rows(ctx, s.Name); err != nil {
		return err
	}
	if s.otherMaildrop {
		markMissing(s.rows, pol.Now)
	}
	s.plan = MakePlan(s.listing.Entries, s.rows, nil, pol)
	if !s.listing.Sized && (s.plan.wants() || s.listingIncomplete()) {
		if err := s.client.AddSizes(ctx, s.listing); err != nil {
			return s.connectError(err)
		}
		pol.Partial = s.listingIncomplete()
		s.plan = MakePlan(s.listing.Entries, s.rows, nil, pol)
	}
	s.noticeOddListing()
	if again, err := s.retryUIDL(ctx); err != nil {
		return err
	} else if again {
		s.plan = MakePlan(s.listing.Entries, s.rows, nil, pol)
	}
	s.summary.Listed = len(s.listing.Entries)
	if len(s.plan.Probe) > 0 {
		if err := s.replanWithHeaders(ctx, pol); err != nil {
			return err
		}
	}
	if s.plan.Renamed && !s.adopting {
		return errRenamed
	}
	return nil
}

// askNames asks once more for unique-ids that the server does not give now and
// gave before, and reports whether it has any. Listings have been seen that are
// not whole, and UIDL fails where an index is repaired: no time to take old mail
// for new.
func (s *session) retryUIDL(ctx context.Context) (again bool, err error) {
	l := s.listing
	if len(l.Entries) == 0 || l.UIDL && l.Unnamed == 0 || len(s.rows) == 0 {
		return false, nil
	}
	if _, _, nameless := state.Nameless(s.rows[len(s.rows)-1].UID); nameless {
		return false, nil // and so are all others: they sort first
	}
	if err := s.client.AddUIDs(ctx, l); err != nil {
		return false, s.connectError(err)
	}
	if !l.UIDL {
		return false, errNoNames
	}
	return true, nil
}

// identify makes the plan again with the headers that it wants.
func (s *session) replanWithHeaders(ctx context.Context, pol Policy) error {
	entries := s.listing.Entries
	headers, top, err := s.fetchHeaders(ctx)
	if err != nil {
		return err
	}
	keeps := s.Keep != Keep{} || s.opts.KeepAll && !s.adopting
	if !top && (keeps || s.adopting) && !s.listing.UIDL {
		return errNoIdentity
	}
	if !top && keeps {
		// Without a name and without a look at the header, such a message
		// could only be fetched anew at every poll.
		named := slices.DeleteFunc(slices.Clone(entries), func(e pop3proto.Entry) bool { return e.UID == "" })
		s.leftNameless, entries = len(entries)-len(named), named
	}
	pol.Asked = !top
	s.plan = MakePlan(entries, s.rows, headers, pol)
	if len(s.plan.Probe) > 0 { // one of them casts doubt on all others
		more, _, err := s.fetchHeaders(ctx)
		if err != nil {
			return err
		}
		maps.Copy(headers, more)
		pol.Asked = true
		s.plan = MakePlan(entries, s.rows, headers, pol)
	}
	return nil
}

// odd tells of a listing that has nonsense in it, or lacks something.
func (s *session) noticeOddListing() {
	if said, n := s.listing.Count, len(s.listing.Entries); said > n {
		s.notice("the server says that it has %s, and lists %d: what is missing waits for a listing that has it", number(said, "message", "messages"), n)
	}
	if s.listing.Odd > 0 {
		s.notice("passed over: %s no sense", number(s.listing.Odd, "line of the server's listing makes", "lines of the server's listing make"))
	}
}

// probe asks for the headers of the messages that the plan cannot tell
// without. top is false if it had none.
func (s *session) fetchHeaders(ctx context.Context) (headers map[int]state.Sum, top bool, err error) {
	headers = map[int]state.Sum{}
	next := 0
	for m, err := range s.client.Top(ctx, slices.Values(s.plan.Probe), 0) {
		if next == len(s.plan.Probe) {
			return nil, false, s.cutBetween(ctx, s.asOutOfStep(err))
		}
		e := s.plan.Probe[next]
		next++
		s.unverified = s.pipelined
		if isReply(err) {
			s.suspect = s.pipelined
			continue
		}
		sums := newSums()
		if err == nil {
			err = newBody(m, sums, 0, s.pipelined).drain()
		} else {
			err = s.asOutOfStep(err)
		}
		if err != nil {
			return nil, false, s.cutHeader(ctx, e, err)
		}
		top = true
		headers[m.Num] = sums.header.sum()
	}
	return headers, top, s.verifyInStep(ctx)
}

// record writes what the plan learned without any download.
func (s *session) recordPlan(ctx context.Context) error {
	now := s.opts.now().Unix()
	s.recordMaildrop()
	if err := s.opts.State.Keep(ctx, s.Name, now, s.plan.Keep); err != nil {
		return err
	}
	s.unrecordedMaildrop = false
	s.summary.Restored += len(s.plan.Keep.Restored)
	s.toDelete = s.plan.Delete
	s.summary.TooLarge = s.tooLarge()
	var refusals []state.Refusal
	for _, w := range s.plan.Large {
		why := fmt.Errorf("%w: the server says %d octets, max_size is %d", errTooLarge, w.Size, s.MaxSize)
		if s.Quarantine != nil {
			s.banish(w, why)
			continue
		}
		reason := why.Error()
		if w.Row != nil && w.Row.Reason == reason {
			continue
		}
		// It is due whenever max_size is raised: no pause.
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

// bring fetches what is new, and what proves to be: all of it before what a sink may
// fail over.
func (s *session) fetchPlanned(ctx context.Context) error {
	first, last := s.plan.Fetch, []Want(nil)
	if i := slices.IndexFunc(first, func(w Want) bool { return w.mayBreakSink() }); i >= 0 && len(s.plan.Verify) > 0 {
		first, last = first[:i], first[i:]
	}
	if err := s.fetch(ctx, nil, first, s.MaxSize); err != nil {
		return err
	}
	different, err := s.compare(ctx, s.plan.Verify)
	if err != nil {
		return err
	}
	last = slices.Concat(different, last)
	slices.SortFunc(last, byDueTime) // what was compared may have given trouble, too
	if err := s.fetch(ctx, nil, last, s.MaxSize); err != nil {
		return err
	}
	if s.Quarantine == nil {
		return nil
	}
	return s.fetchIntoQuarantine(ctx)
}

// quarantine fetches what goes there. Its trouble is that of one sink: what it
// does not take waits, and nothing else does.
func (s *session) fetchIntoQuarantine(ctx context.Context) error {
	err := s.fetch(ctx, []Target{*s.Quarantine}, s.forQuarantine, 0)
	if !isolated(err) {
		return err
	}
	s.downSinks[s.Quarantine.Name] = err
	for _, w := range s.forQuarantine {
		unread := slices.ContainsFunc(s.notGiven, func(u unread) bool { return u.Num == w.Num })
		if why := s.rejectedFor[w.Num]; why != nil && !unread {
			if err := s.refuse(ctx, w, state.Sum{}, fmt.Errorf("%w; and it cannot be put into quarantine: %w", why, err)); err != nil {
				return err
			}
		}
	}
	return nil
}

// verify downloads messages that may have landed before, and returns those
// that did not.
func (s *session) compare(ctx context.Context, wants []Want) (different []Want, err error) {
	var h state.Housekeeping
	strange := map[string]state.Sum{} // keys that are other messages' now, and the contents of those that had them
	defer func() {
		if s.suspect || errors.Is(err, errOutOfStep) {
			// Nothing of it is believed. A line that always drops before the end would have it
			// done again for ever.
			s.noPipelining = true
			return
		}
		// All at once: what one message is called now may be what another was.
		for _, k := range h.Rekey {
			delete(strange, k.From)
		}
		for key, content := range strange {
			h.Rekey = append(h.Rekey, state.Rekey{From: key, To: s.plan.given.key(content, s.rows)})
		}
		if noted := s.opts.State.Keep(context.WithoutCancel(ctx), s.Name, s.opts.now().Unix(), h); noted != nil {
			err = cmp.Or(err, noted)
			return
		}
		s.summary.Restored += len(h.Restored)
	}()
	twins := map[state.Sum][]*state.Row{}
	for i := range s.plan.Twins {
		row := &s.plan.Twins[i]
		twins[row.Content] = append(twins[row.Content], row)
	}
	next, told := 0, 0
	for m, err := range s.client.Retrieve(ctx, s.entries(wants)) {
		if next == len(wants) {
			return nil, s.cutBetween(ctx, s.asOutOfStep(err))
		}
		w := wants[next]
		next++
		s.unverified = s.pipelined
		if w.Key == "" {
			s.keyless++
		}
		if err != nil && !isReply(err) {
			return nil, s.cutWithin(ctx, w, s.asOutOfStep(err))
		}
		if err != nil {
			s.suspect = s.pipelined
			s.notGiven = append(s.notGiven, unread{w, err})
			continue
		}
		s.noteRetrieved(w)
		sums := newSums()
		sums.expect(func(sum state.Sum) bool { return len(twins[sum]) > 0 || w.Row != nil && w.Row.Content == sum })
		b := newBody(m, sums, 0, s.pipelined)
		b.meter = s.meter
		if err := b.drain(); err != nil {
			return nil, s.cutWithin(ctx, w, err)
		}
		s.checkSize(w, sums.octets)
		content := sums.contentSum()
		if w.Row != nil && w.Row.Content != content && !w.Row.Content.IsZero() {
			strange[w.Key] = w.Row.Content
		}
		same := twins[content]
		s.compared++
		told++
		if len(same) == 0 {
			fresh := Want{Entry: w.Entry, Key: w.Key, Header: w.Header}
			if w.Row != nil && w.Row.Content.IsZero() {
				fresh.Row = w.Row // which is of earlier tries at this one
			}
			different = append(different, fresh)
			continue
		}
		i := max(0, slices.IndexFunc(same, func(r *state.Row) bool { return r.UID == w.Key }))
		row := same[i]
		twins[content] = slices.Delete(same, i, i+1)
		different = append(different, s.recognize(&h, w, row)...)
	}
	if told == len(wants) && s.plan.More == 0 { // else one of the rest may be theirs
		for _, i := range s.plan.Stale {
			if row := &s.plan.Twins[i]; slices.Contains(twins[row.Content], row) {
				h.Forget = append(h.Forget, row.UID)
			}
		}
	}
	return different, s.verifyInStep(ctx)
}

// again notes that the message of row is still, or again, listed. If it never
// landed, it is returned once it is due for another try. One that a sink has yet to
// answer for is left alone.
func (s *session) recognize(h *state.Housekeeping, w Want, row *state.Row) (owed []Want) {
	if s.unanswered[row.UID] {
		s.compared--
		s.alreadyHad++
		return nil
	}
	key := cmp.Or(w.Key, row.UID) // a message without any name goes by the row's
	h.Found = append(h.Found, key)
	if key != row.UID {
		h.Rekey = append(h.Rekey, state.Rekey{From: row.UID, To: key})
	}
	landed := row.Phase == state.Landed || row.Phase == state.Deleted
	if row.Phase == state.Deleted {
		h.Restored = append(h.Restored, key)
	}
	pol := s.policy()
	switch {
	case landed && pol.due(row.Landed):
		s.toDelete = append(s.toDelete, Listed{w.Num, key})
		s.noteAlreadyHad(w)
	case landed, row.Phase == state.Adopted:
		s.noteAlreadyHad(w)
	case pol.early(row):
		s.summary.Refused++
	default:
		owed = []Want{{Entry: w.Entry, Key: key, Row: row}}
	}
	return owed
}

// due reports whether a message that landed at that time is to be deleted.
func (s *session) due(landed int64) bool {
	pol := s.policy()
	return pol.due(landed)
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
