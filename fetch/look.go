package fetch

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// Fate is what the next poll will do with a message.
type Fate int

const (
	// FateNone messages are left alone: they have no unique-id, and may be among those
	// that were adopted or fetched.
	FateNone Fate = iota
	// FateFetch messages are new, or due for another try.
	FateFetch
	// FateCompare messages may be copies of what landed before: they are
	// downloaded, and delivered only if they differ.
	FateCompare
	// FateDelete messages landed and are due.
	FateDelete
	// FateKeep messages landed and stay for now, or were adopted and stay.
	FateKeep
	// FateWait messages were refused, and their pause is not over.
	FateWait
	// FateSettle messages are promised: a poll is under way, or was cut off and
	// the sink is asked first.
	FateSettle
	// FateLeave messages are over MaxSize and stay.
	FateLeave
	// FateQuarantine messages are over MaxSize and go to the quarantine.
	FateQuarantine
)

// String returns the fate in a word: "none", "fetch", "compare", "delete",
// "keep", "wait", "settle", "leave" or "quarantine".
func (f Fate) String() string {
	return [...]string{"none", "fetch", "compare", "delete", "keep", "wait", "settle", "leave", "quarantine"}[f]
}

// Prospect is a message on the server and what is to become of it.
type Prospect struct {
	pop3proto.Entry
	Fate Fate
	// Row is what is remembered of it, nil if nothing is.
	Row *state.Row
	// Until is when a kept or waiting message is due for something else; zero
	// if it never is.
	Until time.Time
	// Dropped is set if the filter dropped it: what landed is in no sink.
	Dropped bool
}

// Sight is a maildrop as the next poll would find it.
type Sight struct {
	Outlook
	// Messages are in the order of the server's listing.
	Messages []Prospect
	// NoHeader is why there are no headers, if the server gave none.
	NoHeader error
}

// Look connects, logs in, lists and plans, and changes nothing. Unless header is nil, it
// is then called with the header of each message, in order, as far as the server gives them
// (TOP n 0, RFC 1939 §7); some servers count a message as read after that. header need not
// read to the end.
func (a *Account) Look(ctx context.Context, o Options, header func(num int, r io.Reader)) (Sight, error) {
	ctx, cancel := a.withBudget(ctx)
	defer cancel()
	var sight Sight
	found := map[int]Prospect{} // the plan may be made twice
	s := &session{visit: &visit{Account: a, opts: &o, summary: new(Summary)}}
	s.onFate = func(w Want, f Fate) { found[w.Num] = a.newProspect(w, f, o.KeepAll) }
	defer s.close()
	if err := s.survey(ctx); err != nil {
		return sight, lookFailed(ctx, err)
	}
	sight.Outlook = s.outlook()
	dropped, err := o.State.Landed(ctx, a.Name, dropSink)
	if err != nil {
		return sight, err
	}
	for _, e := range s.listing.Entries {
		p := found[e.Num]
		p.Entry = e
		p.Dropped = p.Row != nil && dropped[p.Row.UID]
		sight.Messages = append(sight.Messages, p)
	}
	if header != nil {
		if sight.NoHeader, err = s.eachHeader(ctx, s.listing.Entries, header); err != nil {
			return sight, lookFailed(ctx, err)
		}
	}
	s.quitUnchanged(ctx)
	return sight, nil
}

// newProspect returns the prospect of a message with that fate.
func (a *Account) newProspect(w Want, f Fate, keepAll bool) Prospect {
	p := Prospect{Entry: w.Entry, Fate: f, Row: w.Row}
	switch {
	case f == FateKeep && w.Row.Phase == state.Landed && !a.Keep.Forever && !keepAll:
		p.Until = time.Unix(w.Row.Landed, 0).Add(a.Keep.For)
	case f == FateWait:
		p.Until = time.Unix(w.Row.NextTry, 0)
	case f == FateLeave && a.Quarantine != nil:
		p.Fate = FateQuarantine
	}
	return p
}

// eachHeader asks for the headers of messages, and calls read for each. A header that the
// server refuses is left out. If it refuses the first, it is asked for no others, and
// refused is its reply.
func (s *session) eachHeader(ctx context.Context, entries []pop3proto.Entry, read func(num int, header io.Reader)) (refused, err error) {
	gaveOne := false
	for m, err := range s.client.Top(ctx, slices.Values(entries), 0) {
		switch {
		case err == nil:
			gaveOne = true
			read(m.Num, m)
		case !isReply(err):
			return nil, s.connectError(err)
		case !gaveOne:
			return err, nil
		}
	}
	return nil, nil
}
