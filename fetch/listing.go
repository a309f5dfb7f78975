package fetch

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// listingIncomplete reports whether the server has more messages than it lists: STAT
// says so, or numbers are missing.
func (s *session) listingIncomplete() bool {
	n := len(s.listing.Entries)
	return s.listing.Count > n || n > 0 && s.listing.Entries[n-1].Num > n
}

// listAndPlan lists the maildrop and makes the plan.
func (s *session) listAndPlan(ctx context.Context) error {
	if err := s.listMaildrop(ctx); err != nil {
		return err
	}
	s.summary.Listed = len(s.listing.Entries)
	pol := s.policy()
	idle, err := s.hasNothingToDo(&pol)
	if err != nil {
		return err
	}
	if idle {
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
	if !s.listing.Sized && (s.plan.hasDownloads() || s.listingIncomplete()) {
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
	if s.plan.UIDsChanged && !s.adopting {
		return errUIDsChanged
	}
	return nil
}

// listMaildrop asks for the listing, and connects again if the server hangs up over CAPA.
func (s *session) listMaildrop(ctx context.Context) error {
	err := s.list(ctx)
	if s.retryWithoutCAPA(err) {
		if err := s.connectAndLogIn(ctx); err != nil {
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
	return nil
}

// list asks for the listing, and for the capabilities unless they are remembered. They
// may have changed with the login (RFC 2449 §3): Gmail offers TOP and PIPELINING only
// after it.
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

// retryUIDL asks once more for unique-ids if the server gave them before and does not
// give them now. It reports whether it has any then. Incomplete listings have been seen,
// and UIDL fails while a server repairs its index; neither may make old mail look new.
func (s *session) retryUIDL(ctx context.Context) (again bool, err error) {
	l := s.listing
	if len(l.Entries) == 0 || l.UIDL && l.Unnamed == 0 || len(s.rows) == 0 {
		return false, nil
	}
	if state.IsDigestKey(s.rows[len(s.rows)-1].UID) {
		return false, nil // such keys sort first: if the last row has one, all have
	}
	if err := s.client.AddUIDs(ctx, l); err != nil {
		return false, s.connectError(err)
	}
	if !l.UIDL {
		return false, errUIDLRefused
	}
	return true, nil
}

// replanWithHeaders makes the plan again with the headers that it asks for.
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
		// Without a unique-id and a header, such a message could only be fetched
		// again at every poll.
		named := slices.DeleteFunc(slices.Clone(entries), func(e pop3proto.Entry) bool { return e.UID == "" })
		s.leftNameless, entries = len(entries)-len(named), named
	}
	pol.NoMoreHeaders = !top
	s.plan = MakePlan(entries, s.rows, headers, pol)
	if len(s.plan.Probe) > 0 { // one of the headers cast doubt on all other messages
		more, _, err := s.fetchHeaders(ctx)
		if err != nil {
			return err
		}
		maps.Copy(headers, more)
		pol.NoMoreHeaders = true
		s.plan = MakePlan(entries, s.rows, headers, pol)
	}
	return nil
}

// noticeOddListing reports a listing that is incomplete or has invalid lines.
func (s *session) noticeOddListing() {
	if said, n := s.listing.Count, len(s.listing.Entries); said > n {
		s.notice("the server says that it has %s, and lists %d: what is missing waits for a listing that has it", number(said, "message", "messages"), n)
	}
	if s.listing.Odd > 0 {
		s.notice("passed over: %s no sense", number(s.listing.Odd, "line of the server's listing makes", "lines of the server's listing make"))
	}
}

// fetchHeaders asks for the headers that the plan needs to tell messages apart. top is
// false if the server gave none.
func (s *session) fetchHeaders(ctx context.Context) (headers map[int]state.Sum, top bool, err error) {
	headers = map[int]state.Sum{}
	next := 0
	for m, err := range s.client.Top(ctx, slices.Values(s.plan.Probe), 0) {
		if next == len(s.plan.Probe) {
			return nil, false, s.lostBetweenMessages(ctx, s.asOutOfStep(err))
		}
		e := s.plan.Probe[next]
		next++
		s.unverified = s.pipelined
		if isReply(err) {
			s.doubtful = s.pipelined
			continue
		}
		sums := newSums()
		if err == nil {
			err = newBody(m, sums, 0, s.pipelined).readToEnd()
		} else {
			err = s.asOutOfStep(err)
		}
		if err != nil {
			return nil, false, s.lostDuringHeader(ctx, e, err)
		}
		top = true
		headers[m.Num] = sums.header.sum()
	}
	return headers, top, s.verifyInStep(ctx)
}
