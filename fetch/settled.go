package fetch

import (
	"cmp"
	"slices"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// settled reports whether MakePlan would find nothing to do, and how many
// messages it would keep. Most polls of a large maildrop end so, and need to
// know next to nothing of each row. When in doubt, it is false.
func settled(listing []pop3proto.Entry, rows []state.Glimpse, pol *Policy) (kept int, ok bool) {
	if len(pol.Open) > 0 || pol.Each != nil {
		return 0, false
	}
	old := pol.Now.Add(-Remembered).Unix()
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
		case !listed && (row.Mood != state.Gone || row.Since < old && len(listing) > 0):
			return 0, false
		case listed && row.Mood == state.Resting && !pol.due(row.Since), listed && row.Mood == state.Strange:
			kept++
			next++
		case listed:
			return 0, false
		}
	}
	return kept, next == len(order)
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
