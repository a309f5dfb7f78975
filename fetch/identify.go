package fetch

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// identifyByHeader plans the messages that no unique-id identified. Those without a
// usable one go by their header sums. So do those with an unknown one if remembered
// messages have disappeared: after a migration a server lists old mail under new
// unique-ids.
func (p *planner) identifyByHeader(uidsChanged bool) {
	index := p.indexUnclaimedRows()
	lost := p.countLostAdopted()
	for _, i := range p.withoutUID {
		p.identifyWithoutUID(p.listing[i], index, lost > 0)
	}
	fresh := 0
	for _, i := range p.unknown {
		if !p.identifyUnknown(i, index, uidsChanged) {
			fresh++
		}
	}
	p.plan.UIDsChanged = lost >= minLostAdopted && fresh >= lost && p.listedAdopted == 0
}

// identifyWithoutUID plans a message without a usable unique-id. adoptedLost says that it
// may be an adopted message which no header can identify.
func (p *planner) identifyWithoutUID(e pop3proto.Entry, index headerIndex, adoptedLost bool) {
	sum := p.headers[e.Num]
	r, remembered := index.takeFirst(sum)
	switch {
	case !remembered && adoptedLost:
		p.plan.Unclear++
		p.reportFate(Want{Entry: e}, FateNone)
	case sum.IsZero() || !remembered && p.isUnreliable(sum):
		p.compareOrFetch(Want{Entry: e, Header: sum})
	case remembered && (p.hasDigestKey(r) || p.pol.Open[p.rows[r].UID]):
		// The sinks know their promises by the key.
		p.claim(e, r, p.rows[r].UID)
	case remembered:
		// While several messages have one unique-id, it must not be a row's key.
		p.claim(e, r, p.plan.keys.next(sum, p.rows))
	default:
		p.fetchUnlessLarge(Want{Entry: e, Key: p.plan.keys.next(sum, p.rows), Header: sum})
	}
}

// identifyUnknown plans the message of an entry with an unknown unique-id. It returns
// true if its header is that of a row.
func (p *planner) identifyUnknown(i int32, index headerIndex, uidsChanged bool) (remembered bool) {
	e, sum := p.listing[i], p.headers[p.listing[i].Num]
	own, bareRetry := p.retryRows[i]
	r, remembered := index.takeFirst(sum)
	switch {
	case remembered && p.pol.Open[p.rows[r].UID]:
		p.claim(e, r, p.rows[r].UID)
	case remembered:
		p.claim(e, r, e.UID)
	case p.mayHaveNewUID(e) && (sum.IsZero() || p.plan.Reused || p.isHeaderToCompareLater(sum)):
		// Otherwise a header that no row has makes the message a new one.
		w := Want{Entry: e, Key: e.UID}
		if bareRetry {
			w.Row = &p.rows[own]
		}
		p.planCompare(w)
	case bareRetry:
		p.claim(e, own, e.UID)
	case uidsChanged && sum.IsZero():
		p.compareOrFetch(Want{Entry: e, Key: e.UID})
	default:
		p.fetchUnlessLarge(Want{Entry: e, Key: e.UID})
	}
	return remembered
}

// isUnreliable reports whether a header sum identifies no message: one that landed by
// it, as TOP gave it, had another by RETR. Some servers give less of a header by TOP
// than by RETR, or more. Then only the content counts. Such messages are keyed by the
// sum of TOP, so that this is known for as long as any of them is remembered.
func (p *planner) isUnreliable(sum state.Sum) bool {
	unreliable, known := p.unreliable[sum]
	if known { // thousands of messages may have the same
		return unreliable
	}
	key := state.KeyOf(sum, 0)
	r, _ := findRow(p.rows, key)
	for ; !unreliable && r < len(p.rows) && strings.HasPrefix(p.rows[r].UID, key); r++ {
		unreliable = p.rows[r].Header != sum && !p.rows[r].Content.IsZero()
	}
	p.unreliable[sum] = unreliable
	return unreliable
}

// isHeaderToCompareLater reports whether a row in compareLater has that header.
func (p *planner) isHeaderToCompareLater(sum state.Sum) bool {
	return slices.ContainsFunc(p.compareLater, func(w Want) bool { return w.Row.Header == sum })
}

// minLostAdopted is how many adopted messages must have disappeared for Plan.UIDsChanged.
const minLostAdopted = 3

// reappearWindow is how long after a message disappeared its server may list it again under
// another unique-id: a repair may come between. What is missing for longer was deleted.
const reappearWindow = 24 * time.Hour

// recentlyListed reports whether the message of an unlisted row was listed within
// reappearWindow.
func (p *planner) recentlyListed(row *state.Row) bool {
	return row.Missing == 0 || row.Missing > p.pol.Now.Add(-reappearWindow).Unix()
}

// countLostAdopted counts the adopted messages that have disappeared recently and that
// no header can identify.
func (p *planner) countLostAdopted() (n int) {
	for r := range p.rows {
		if !p.claimed[r] && p.isAdoptedWithoutHeader(r) && p.recentlyListed(&p.rows[r]) {
			n++
		}
	}
	return n
}

func (p *planner) isAdoptedWithoutHeader(r int) bool {
	return p.rows[r].Phase == state.Adopted && p.rows[r].Header.IsZero()
}

// messagesToProbe returns the messages that only their header can identify, or at least
// cost.
func (p *planner) messagesToProbe(uidsChanged bool) []pop3proto.Entry {
	probe := p.toProbe
	for _, i := range p.withoutUID {
		if e := p.listing[i]; !p.pol.Torn[e] {
			probe = append(probe, e)
		}
	}
	for _, i := range p.unknown {
		if e := p.listing[i]; uidsChanged || p.mayHaveNewUID(e) {
			probe = append(probe, e)
		}
	}
	return probe
}

// uidsMayHaveChanged reports whether messages with unknown unique-ids may be old ones: at
// least as many remembered messages have disappeared as are listed, or one without a
// unique-id has.
func (p *planner) uidsMayHaveChanged() bool {
	gone := 0
	for r := range p.rows {
		switch row := &p.rows[r]; {
		case p.claimed[r]:
		case row.Phase == state.Deleted:
			// Of several messages with one unique-id, a server may not delete all, or
			// restore one: by that unique-id.
			if p.hasDigestKey(r) && row.Deleted > p.pol.Now.Add(-reappearWindow).Unix() {
				return true
			}
		case p.isAdoptedWithoutHeader(r): // probing cannot find it
		case p.hasDigestKey(r) && p.recentlyListed(row):
			return true
		default:
			gone++
		}
	}
	return gone > 0 && gone >= p.listedRows
}

// compareOrFetch plans a message that its header does not identify. It is compared if a
// row of its size, or of a message that the server may still have, is unclaimed.
func (p *planner) compareOrFetch(w Want) {
	if w.Key == "" && p.pol.Torn[w.Entry] {
		p.planWaiting(w)
		return
	}
	if p.deletedRows == nil {
		p.deletedRows = map[int64][]int32{}
		for r := range p.rows {
			switch row := &p.rows[r]; {
			case row.Content.IsZero():
			case row.Phase == state.Deleted:
				p.deletedRows[row.Size] = append(p.deletedRows[row.Size], int32(r))
			default:
				p.liveRows = append(p.liveRows, int32(r))
			}
		}
	}
	p.liveRows, p.deletedRows[w.Size] = p.skipClaimed(p.liveRows), p.skipClaimed(p.deletedRows[w.Size])
	if len(p.liveRows) > 0 || len(p.deletedRows[w.Size]) > 0 {
		p.planCompare(w)
	} else {
		p.fetchUnlessLarge(w)
	}
}

// skipClaimed returns rows without the claimed ones at their beginning.
func (p *planner) skipClaimed(rows []int32) []int32 {
	for len(rows) > 0 && p.claimed[rows[0]] {
		rows = rows[1:]
	}
	return rows
}

// mayHaveNewUID reports whether e may be a remembered message under another unique-id: it
// has the size of one that can be compared and may not be listed under its own. If the
// server's sizes are of no use, it is enough that such a message has disappeared
// recently. One suffices, since a server may have given new unique-ids to more messages
// than a session gets to.
func (p *planner) mayHaveNewUID(e pop3proto.Entry) bool {
	if p.lostSizes == nil {
		p.lostSizes = map[int64]bool{}
		for r := range p.rows {
			row := &p.rows[r]
			gone := !p.claimed[r] && (p.plan.Reused || row.Phase != state.Deleted)
			if (gone || p.uncertain[r]) && !row.Content.IsZero() {
				p.lostSizes[row.Size] = true
				p.lostRecently = p.lostRecently || p.recentlyListed(row)
			}
		}
	}
	large := p.pol.MaxSize > 0 && e.Size > p.pol.MaxSize // not to be downloaded for a guess
	return p.lostSizes[e.Size] || p.lostRecently && !large && (p.miscounted || e.Size == 0)
}

// keyAllocator makes keys from sums. It counts those that it has made, since a maildrop
// may hold many messages with one sum.
type keyAllocator map[state.Sum]int

// next returns the first key of a sum that it has not returned before, and that no row
// has.
func (a keyAllocator) next(sum state.Sum, rows []state.Row) string {
	for {
		key := state.KeyOf(sum, a[sum])
		a[sum]++
		if _, used := findRow(rows, key); !used {
			return key
		}
	}
}

// hasDigestKey reports whether the key of row r is not a unique-id.
func (p *planner) hasDigestKey(r int) bool { return state.IsDigestKey(p.rows[r].UID) }

// headerIndex finds rows by their header sums, each at most once.
type headerIndex map[state.Sum][]int32

// takeFirst returns the first row with a sum, and removes it.
func (h headerIndex) takeFirst(sum state.Sum) (row int, ok bool) {
	rows := h[sum]
	if sum.IsZero() || len(rows) == 0 {
		return 0, false
	}
	h[sum] = rows[1:]
	return int(rows[0]), true
}

// indexUnclaimedRows returns an index of the rows that no unique-id has claimed. Rows
// with an unreliable header are left out, unless they are of adopted messages, of which
// nothing else is known.
func (p *planner) indexUnclaimedRows() headerIndex {
	if len(p.headers) == 0 {
		return nil
	}
	h := headerIndex{}
	for r := range p.rows {
		header := p.rows[r].Header
		if p.claimed[r] || header.IsZero() || p.rows[r].Phase != state.Adopted && p.isUnreliable(header) {
			continue
		}
		h[header] = append(h[header], int32(r))
	}
	// A row whose message was never received completely may be a second one for a
	// message, and comes last. Before it come the rows without a unique-id, in the order
	// in which keyAllocator made their keys, and then the others.
	rank := func(r int32) (rank int) {
		if row := &p.rows[r]; row.Phase == state.Refused && row.Content.IsZero() {
			rank += 2
		}
		if !p.hasDigestKey(int(r)) {
			rank++
		}
		return rank
	}
	for _, rows := range h {
		slices.SortFunc(rows, func(a, b int32) int {
			return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(len(p.rows[a].UID), len(p.rows[b].UID)), cmp.Compare(a, b))
		})
	}
	return h
}
