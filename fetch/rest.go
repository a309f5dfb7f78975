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

// hasNothingToDo reports whether the listing and the rows at a glance show that there is
// nothing to do. Most polls of a large maildrop find nothing new, and need neither complete
// rows nor a plan. If it is false, MakePlan has to find out.
func (s *session) hasNothingToDo(pol *Policy) (bool, error) {
	if s.rowStates == nil || s.listingIncomplete() || len(pol.Open) > 0 || pol.Each != nil {
		return false, nil
	}
	rest := state.Rest{Listing: digestListing(s.listing.Entries, pol), Until: s.server.rest.Until}
	if rest == s.server.rest && pol.Now.Unix() < rest.Until {
		return true, nil
	}
	rows, err := s.rowStates.wait()
	if err != nil {
		return false, err
	}
	var ok bool
	if rest.Until, ok = restUntil(s.listing.Entries, rows, pol); ok {
		s.server.newRest = &rest
	}
	return ok, nil
}

// digestListing returns a digest of a listing, and of what in pol makes a message due.
func digestListing(listing []pop3proto.Entry, pol *Policy) state.Sum {
	h := sha256.New()
	fmt.Fprintln(h, pol.Keep.Forever, int64(pol.Keep.For), pol.KeepAll)
	line := make([]byte, 0, 128)
	for _, e := range listing {
		line = append(append(line[:0], e.UID...), '\n') // no unique-id contains a line feed
		h.Write(line)
	}
	return truncate(h)
}

// restUntil reports whether MakePlan would do nothing but keep every listed message, and
// until when that holds, in Unix seconds.
func restUntil(listing []pop3proto.Entry, rows []state.RowState, pol *Policy) (until int64, ok bool) {
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
			return 0, false // the message is new, or has no unique-id
		case listed && row.Kind == state.RowLanded:
			if pol.isDue(row.Since) {
				return 0, false
			}
			if !pol.KeepAll && !pol.Keep.Forever {
				until = min(until, row.Since+int64(pol.Keep.For.Seconds()))
			}
			next++
		case listed && row.Kind == state.RowAdopted:
			next++
		case listed, row.Kind != state.RowGone:
			return 0, false
		case len(listing) > 0: // an empty listing makes no row be forgotten
			if until = min(until, row.Since+remembered); until < pol.Now.Unix() {
				return 0, false
			}
		}
	}
	return until, next == len(order)
}

// byUID returns the indexes of a listing in the order of its unique-ids.
func byUID(listing []pop3proto.Entry) []int32 {
	order := make([]int32, len(listing))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Compare(listing[a].UID, listing[b].UID) })
	return order
}

// rowStateReader reads the RowStates of an account while the connection to its
// server is being made.
type rowStateReader struct {
	cancel func()
	read   func() // sets rows and err, once
	rows   []state.RowState
	err    error
}

// readAhead starts to read, unless rest makes it likely that nobody will need the rows.
func (a *Account) readAhead(ctx context.Context, o *Options, rest state.Rest) *rowStateReader {
	ctx, cancel := context.WithCancel(ctx)
	r := &rowStateReader{cancel: cancel}
	r.read = sync.OnceFunc(func() { r.rows, r.err = o.State.RowStates(ctx, a.Name) })
	if o.now().Unix() >= rest.Until {
		go r.read()
	}
	return r
}

// wait returns the rows once they are read. It reads them if readAhead did not.
func (r *rowStateReader) wait() ([]state.RowState, error) {
	r.read()
	return r.rows, r.err
}

// stop cancels the reading, and waits for its end.
func (r *rowStateReader) stop() {
	r.cancel()
	r.read()
}
