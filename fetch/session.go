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
	ahead   *ahead // the rows at a glance, if they are read ahead
	client  *pop3proto.Client
	listing *pop3proto.Listing
	rows    []state.Row
	plan    Plan

	delete    []Listed      // landed and due
	rejects   []Want        // for the quarantine
	whys      map[int]error // for what reasons, by message number, until it has them
	unread    []unread      // what the server would not give
	compared  int           // of what was verified: with an outcome
	known     int           // of that: had before, and not counted as refused
	read      bool          // it gave something
	pipelined bool          // commands are pipelined
	top       bool          // the server has TOP
	unsure    bool          // commands were pipelined, and inStep was not asked since
	dubious   bool          // one of their replies may be another's, for all that it says itself
	landed    []string      // keys of what landed, or may have
	trouble   error         // of the server, with which the session went on
	nameless  int           // messages that nothing tells from what was fetched: left alone
	homeless  map[int]bool  // numbers of messages that came in, and were not delivered
	expiring  bool          // EXPIRE 0: at QUIT the server may delete them
}

// open connects, logs in and asks what the server can do.
func (s *session) open(ctx context.Context) error {
	err := s.begin(ctx)
	if s.mutes(err) {
		err = s.begin(ctx)
	}
	if errors.Is(err, errOneStep) {
		s.client.Close()
		s.notice("%v; connecting again, to let it", err)
		err = s.begin(ctx)
	}
	return err
}

// begin is one try of open.
func (s *session) begin(ctx context.Context) (err error) {
	defer func() {
		if err != nil && !isReply(err) {
			channel.Forget(s.Server.TLS)
		}
	}()
	server := s.Server
	if s.singly {
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
		s.server = new(acquaintance)
	}
	s.server.used = false
	before, choice, err := s.loginAs(ctx)
	if r := s.checked; r != nil {
		r.TLS, r.Greeting, r.Before, r.Choice = connected.State, c.Greeting(), before, choice
	}
	if err != nil {
		s.summary.refused = pauseAsked(err)
		return err
	}
	s.summary.LoggedIn = s.opts.now()
	s.opts.report(LoggedIn{Account: s.Name, Mechanism: choice.Mechanism})
	if s.server.after {
		s.entered(s.server.assume(c, s.server.After))
	}
	return nil
}

// entered notes what the server can do now that it has let us in.
func (s *session) entered(after pop3proto.Capabilities) {
	if r := s.checked; r != nil {
		r.After = after
	}
	s.wantPause(after) // this user's, no longer the longest of all
	s.expires(after)
	s.pipelined = !s.singly && s.Server.Window != 1 && after.Has("PIPELINING")
	s.top = after.Has("TOP")
}

// list asks for the listing. Where nothing is known of the server, it is asked
// again what it can do: that may depend on who asks (RFC 2449 §3). Gmail offers
// TOP and PIPELINING only now.
func (s *session) list(ctx context.Context) (err error) {
	short := s.server.left <= shortListing
	switch {
	case !s.server.after && !s.server.mute:
		var after pop3proto.Capabilities
		if after, s.listing, err = s.client.Survey(ctx, short); err == nil {
			s.entered(after)
			s.server.met(after, s.opts.now())
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

// quit leaves a server on which nothing was changed.
func (s *session) quit(ctx context.Context) {
	if err := s.client.Leave(ctx); err != nil {
		s.notice("QUIT: %v", err)
	}
}

// policy returns what is wanted at this moment.
func (s *session) policy() Policy {
	return Policy{
		Keep: s.Keep, KeepAll: s.opts.KeepAll, MaxSize: s.MaxSize,
		Limit: cmp.Or(s.MaxMessages, defaultSession) + s.barren, Now: s.opts.now(),
		Open: s.unanswered, Each: s.each, Torn: s.torn, Partial: s.partial(),
	}
}

// partial reports whether the server has more messages than it lists: it says so, or
// leaves out numbers.
func (s *session) partial() bool {
	n := len(s.listing.Entries)
	return s.listing.Count > n || n > 0 && s.listing.Entries[n-1].Num > n
}

// look lists the maildrop and makes the plan.
func (s *session) look(ctx context.Context) error {
	err := s.list(ctx)
	if s.mutes(err) {
		if err := s.open(ctx); err != nil {
			return err
		}
		err = s.list(ctx)
	}
	if _, ahead := errors.AsType[*pop3proto.AheadError](err); ahead {
		s.server.singly = true
		s.server.distrust()
		err = silentSeam{err}
	}
	if err != nil {
		return s.broken(err)
	}
	s.summary.Listed = len(s.listing.Entries)
	pol := s.policy()
	if ok, err := s.atRest(&pol); err != nil {
		return err
	} else if ok {
		s.odd()
		return nil
	}
	if s.rows, err = s.opts.State.Rows(ctx, s.Name); err != nil {
		return err
	}
	if s.elsewhere {
		missing(s.rows, pol.Now)
	}
	s.plan = MakePlan(s.listing.Entries, s.rows, nil, pol)
	if !s.listing.Sized && (s.plan.wants() || s.partial()) {
		if err := s.client.AddSizes(ctx, s.listing); err != nil {
			return s.broken(err)
		}
		pol.Partial = s.partial()
		s.plan = MakePlan(s.listing.Entries, s.rows, nil, pol)
	}
	s.odd()
	if again, err := s.askNames(ctx); err != nil {
		return err
	} else if again {
		s.plan = MakePlan(s.listing.Entries, s.rows, nil, pol)
	}
	s.summary.Listed = len(s.listing.Entries)
	if len(s.plan.Probe) > 0 {
		if err := s.identify(ctx, pol); err != nil {
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
func (s *session) askNames(ctx context.Context) (again bool, err error) {
	l := s.listing
	if len(l.Entries) == 0 || l.UIDL && l.Unnamed == 0 || len(s.rows) == 0 {
		return false, nil
	}
	if _, _, nameless := state.Nameless(s.rows[len(s.rows)-1].UID); nameless {
		return false, nil // and so are all others: they sort first
	}
	if err := s.client.AddUIDs(ctx, l); err != nil {
		return false, s.broken(err)
	}
	if !l.UIDL {
		return false, errNoNames
	}
	return true, nil
}

// identify makes the plan again with the headers that it wants.
func (s *session) identify(ctx context.Context, pol Policy) error {
	entries := s.listing.Entries
	headers, top, err := s.probe(ctx)
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
		s.nameless, entries = len(entries)-len(named), named
	}
	pol.Asked = !top
	s.plan = MakePlan(entries, s.rows, headers, pol)
	if len(s.plan.Probe) > 0 { // one of them casts doubt on all others
		more, _, err := s.probe(ctx)
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
func (s *session) odd() {
	if said, n := s.listing.Count, len(s.listing.Entries); said > n {
		s.notice("the server says that it has %s, and lists %d: what is missing waits for a listing that has it", number(said, "message", "messages"), n)
	}
	if s.listing.Odd > 0 {
		s.notice("passed over: %s no sense", number(s.listing.Odd, "line of the server's listing makes", "lines of the server's listing make"))
	}
}

// probe asks for the headers of the messages that the plan cannot tell
// without. top is false if it had none.
func (s *session) probe(ctx context.Context) (headers map[int]state.Sum, top bool, err error) {
	headers = map[int]state.Sum{}
	next := 0
	for m, err := range s.client.Top(ctx, slices.Values(s.plan.Probe), 0) {
		if next == len(s.plan.Probe) {
			return nil, false, s.cutBetween(ctx, s.outOfStep(err))
		}
		e := s.plan.Probe[next]
		next++
		s.unsure = s.pipelined
		if isReply(err) {
			s.dubious = s.pipelined
			continue
		}
		sums := newSums()
		if err == nil {
			err = newBody(m, sums, 0, s.pipelined).drain()
		} else {
			err = s.outOfStep(err)
		}
		if err != nil {
			return nil, false, s.cutHeader(ctx, e, err)
		}
		top = true
		headers[m.Num] = sums.header.sum()
	}
	return headers, top, s.inStep(ctx)
}

// record writes what the plan learned without any download.
func (s *session) record(ctx context.Context) error {
	now := s.opts.now().Unix()
	s.note()
	if err := s.opts.State.Keep(ctx, s.Name, now, s.plan.Keep); err != nil {
		return err
	}
	s.unnoted = false
	s.summary.Restored += len(s.plan.Keep.Restored)
	s.delete = s.plan.Delete
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
func (s *session) bring(ctx context.Context) error {
	first, last := s.plan.Fetch, []Want(nil)
	if i := slices.IndexFunc(first, func(w Want) bool { return w.suspect() }); i >= 0 && len(s.plan.Verify) > 0 {
		first, last = first[:i], first[i:]
	}
	if err := s.fetch(ctx, nil, first, s.MaxSize); err != nil {
		return err
	}
	different, err := s.verify(ctx, s.plan.Verify)
	if err != nil {
		return err
	}
	last = slices.Concat(different, last)
	slices.SortFunc(last, inTurn) // what was compared may have given trouble, too
	if err := s.fetch(ctx, nil, last, s.MaxSize); err != nil {
		return err
	}
	if s.Quarantine == nil {
		return nil
	}
	return s.quarantine(ctx)
}

// quarantine fetches what goes there. Its trouble is that of one sink: what it
// does not take waits, and nothing else does.
func (s *session) quarantine(ctx context.Context) error {
	err := s.fetch(ctx, []Target{*s.Quarantine}, s.rejects, 0)
	if !isolated(err) {
		return err
	}
	s.down[s.Quarantine.Name] = err
	for _, w := range s.rejects {
		unread := slices.ContainsFunc(s.unread, func(u unread) bool { return u.Num == w.Num })
		if why := s.whys[w.Num]; why != nil && !unread {
			if err := s.refuse(ctx, w, state.Sum{}, fmt.Errorf("%w; and it cannot be put into quarantine: %w", why, err)); err != nil {
				return err
			}
		}
	}
	return nil
}

// verify downloads messages that may have landed before, and returns those
// that did not.
func (s *session) verify(ctx context.Context, wants []Want) (different []Want, err error) {
	var h state.Housekeeping
	strange := map[string]state.Sum{} // keys that are other messages' now, and the contents of those that had them
	defer func() {
		if s.dubious || errors.Is(err, errSeam) {
			// Nothing of it is believed. A line that always drops before the end would have it
			// done again for ever.
			s.singly = true
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
			return nil, s.cutBetween(ctx, s.outOfStep(err))
		}
		w := wants[next]
		next++
		s.unsure = s.pipelined
		if w.Key == "" {
			s.barren++
		}
		if err != nil && !isReply(err) {
			return nil, s.cutWithin(ctx, w, s.outOfStep(err))
		}
		if err != nil {
			s.dubious = s.pipelined
			s.unread = append(s.unread, unread{w, err})
			continue
		}
		s.retrieved(w)
		sums := newSums()
		sums.expect(func(sum state.Sum) bool { return len(twins[sum]) > 0 || w.Row != nil && w.Row.Content == sum })
		b := newBody(m, sums, 0, s.pipelined)
		b.meter = s.meter
		if err := b.drain(); err != nil {
			return nil, s.cutWithin(ctx, w, err)
		}
		s.weigh(w, sums.octets)
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
		different = append(different, s.again(&h, w, row)...)
	}
	if told == len(wants) && s.plan.More == 0 { // else one of the rest may be theirs
		for _, i := range s.plan.Stale {
			if row := &s.plan.Twins[i]; slices.Contains(twins[row.Content], row) {
				h.Forget = append(h.Forget, row.UID)
			}
		}
	}
	return different, s.inStep(ctx)
}

// again notes that the message of row is still, or again, listed. If it never
// landed, it is returned once it is due for another try. One that a sink has yet to
// answer for is left alone.
func (s *session) again(h *state.Housekeeping, w Want, row *state.Row) (owed []Want) {
	if s.unanswered[row.UID] {
		s.compared--
		s.known++
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
		s.delete = append(s.delete, Listed{w.Num, key})
		s.had(w)
	case landed, row.Phase == state.Adopted:
		s.had(w)
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

// finish deletes what landed and is due, and quits. RFC 1939 §6: of a QUIT that
// is refused, or not answered, nobody knows what it deleted, nor does a poll that
// was killed then. So it is noted before, and is in doubt until the server has
// confirmed it. What of it the server still has is for its next listing to tell,
// and for the headers: the rest of the unique-ids may be new mail's.
func (s *session) finish(ctx context.Context) error {
	due := s.delete
	switch {
	case len(due) > 0:
	case s.plan.More > 0:
		s.client.Quit(ctx) // the next session is to find the maildrop unlocked, no more
		return nil
	default:
		s.quit(ctx)
		return nil
	}
	s.summary.Waiting = len(due)
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
		return errors.Join(&UnconfirmedError{Addr: s.Server.Addr(), Messages: len(due), Err: err}, s.undelete(ctx))
	}
	s.summary.Deleted += len(marked)
	s.summary.Waiting -= len(marked)
	s.summary.NotDeleted = refused
	if refused != nil {
		s.notice("the server would not delete %d of %s: %v", len(due)-len(marked), number(len(due), "message", "messages"), refused)
		var left state.Housekeeping // as it was: the server has said so
		for _, l := range due {     // in the order of marked
			if len(marked) > 0 && marked[0] == l.Num {
				marked = marked[1:]
			} else {
				left.Restored = append(left.Restored, l.Key)
			}
		}
		if err := s.opts.State.Keep(context.WithoutCancel(ctx), s.Name, s.opts.now().Unix(), left); err != nil {
			return err
		}
	}
	s.summary.unconfirmed = false
	if s.plan.More == 0 {
		return nil // the end of the poll is noted soon
	}
	return s.opts.State.Confirm(context.WithoutCancel(ctx), s.Name)
}
