package fetch

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// settled looks whether there is anything to do about the maildrop, if that can
// be seen at a glance: most polls of a large one find nothing new, and need to
// know next to nothing of each row. When in doubt, it is false, and only
// MakePlan can tell.
func (s *session) settled(pol *Policy) (bool, error) {
	if s.ahead == nil || s.listing.Count > len(s.listing.Entries) || len(pol.Open) > 0 || pol.Each != nil {
		return false, nil
	}
	rest := state.Rest{Listing: restOf(s.listing.Entries, pol), Until: s.server.rest.Until}
	if rest == s.server.rest && pol.Now.Unix() < rest.Until {
		s.plan = Plan{Kept: len(s.listing.Entries)}
		return true, nil
	}
	rows, err := s.ahead.wait()
	if err != nil {
		return false, err
	}
	var ok bool
	if rest.Until, ok = settled(s.listing.Entries, rows, pol); ok {
		s.plan, s.server.found = Plan{Kept: len(s.listing.Entries)}, &rest
	}
	return ok, nil
}

// restOf returns what stands for a listing in a rest. It changes with whatever
// of pol makes a message due.
func restOf(listing []pop3proto.Entry, pol *Policy) (sum state.Sum) {
	h := sha256.New()
	fmt.Fprintln(h, pol.Keep.Forever, int64(pol.Keep.For), pol.KeepAll)
	line := make([]byte, 0, 128)
	for _, e := range listing {
		line = append(append(line[:0], e.UID...), '\n') // which no unique-id holds
		h.Write(line)
	}
	copy(sum[:], h.Sum(nil))
	return sum
}

// settled reports whether MakePlan would find nothing to do but to keep all
// that is listed, and until when that holds, in Unix seconds.
func settled(listing []pop3proto.Entry, rows []state.Glimpse, pol *Policy) (until int64, ok bool) {
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
