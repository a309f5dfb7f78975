package fetch

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// atRest looks whether there is anything to do about the maildrop, if that can
// be seen at a glance: most polls of a large one find nothing new, and need to
// know next to nothing of each row, nor to have a plan. When in doubt, it is
// false, and only MakePlan can tell.
func (s *session) atRest(pol *Policy) (bool, error) {
	if s.glimpses == nil || s.listingIncomplete() || len(pol.Open) > 0 || pol.Each != nil {
		return false, nil
	}
	rest := state.Rest{Listing: restOf(s.listing.Entries, pol), Until: s.server.rest.Until}
	if rest == s.server.rest && pol.Now.Unix() < rest.Until {
		return true, nil
	}
	rows, err := s.glimpses.wait()
	if err != nil {
		return false, err
	}
	var ok bool
	if rest.Until, ok = atRest(s.listing.Entries, rows, pol); ok {
		s.server.newRest = &rest
	}
	return ok, nil
}

// restOf returns what stands for a listing in a rest. It changes with whatever
// of pol makes a message due.
func restOf(listing []pop3proto.Entry, pol *Policy) state.Sum {
	h := sha256.New()
	fmt.Fprintln(h, pol.Keep.Forever, int64(pol.Keep.For), pol.KeepAll)
	line := make([]byte, 0, 128)
	for _, e := range listing {
		line = append(append(line[:0], e.UID...), '\n') // which no unique-id holds
		h.Write(line)
	}
	return truncate(h)
}

// atRest reports whether MakePlan would find nothing to do but to keep all
// that is listed, and until when that holds, in Unix seconds.
func atRest(listing []pop3proto.Entry, rows []state.Glimpse, pol *Policy) (until int64, ok bool) {
	until = math.MaxInt64
	remembered := int64(Remembered.Seconds())
	next := 0
	order := byUID(listing)
	for _, row := range rows {
		uid := ""
		if next < len(order) {
			uid = listing[order[next]].UID
		}
		listed := next < len(order) && uid == row.UID
		switch {
		case next < len(order) && uid < row.UID:
			return 0, false // it is new, or has no name
		case listed && row.Mood == state.Resting:
			if pol.due(row.Since) {
				return 0, false
			}
			if !pol.KeepAll && !pol.Keep.Forever {
				until = min(until, row.Since+int64(pol.Keep.For.Seconds()))
			}
			next++
		case listed && row.Mood == state.Strange:
			next++
		case listed, row.Mood != state.Gone:
			return 0, false
		case len(listing) > 0: // else nothing is forgotten
			if until = min(until, row.Since+remembered); until < pol.Now.Unix() {
				return 0, false
			}
		}
	}
	return until, next == len(order)
}

// byUID returns the order of a listing's unique-ids.
func byUID(listing []pop3proto.Entry) []int32 {
	order := make([]int32, len(listing))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Compare(listing[a].UID, listing[b].UID) })
	return order
}

// ahead reads the rows of an account, at a glance, while its server is being
// reached.
type glimpseReader struct {
	cancel func()
	read   func() // once
	rows   []state.Glimpse
	err    error
}

// readAhead begins to read, unless a rest makes it likely that nobody will want
// the rows.
func (a *Account) readAhead(ctx context.Context, o *Options, rest state.Rest) *glimpseReader {
	ctx, cancel := context.WithCancel(ctx)
	h := &glimpseReader{cancel: cancel}
	h.read = sync.OnceFunc(func() { h.rows, h.err = o.State.Glimpses(ctx, a.Name) })
	if o.now().Unix() >= rest.Until {
		go h.read()
	}
	return h
}

// wait returns the rows once they are read.
func (h *glimpseReader) wait() ([]state.Glimpse, error) {
	h.read()
	return h.rows, h.err
}

// stop ends the reading, of which nobody wants anything any more, and waits
// for its end.
func (h *glimpseReader) stop() {
	h.cancel()
	h.read()
}
