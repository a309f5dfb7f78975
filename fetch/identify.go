package fetch

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// identifyByHeader plans the messages that no unique-id told. Those without a usable
// one go by the sum of their header. So do those with an unknown one where
// what is remembered has gone from the listing: after a migration a server
// lists old mail under new names.
func (p *planner) identifyByHeader(moved bool) {
	twins := p.indexUnclaimedRows()
	lost := p.countLostAdopted()
	for _, i := range p.unnamed {
		e, sum := p.listing[i], p.headers[p.listing[i].Num]
		r, remembered := twins.takeFirst(sum)
		if !remembered && lost > 0 {
			p.plan.Unclear++
			p.reportFate(Want{Entry: e}, FateNone)
			continue
		}
		if sum.IsZero() || !remembered && p.isUnreliable(sum) {
			p.verifyOrFetch(Want{Entry: e, Header: sum})
			continue
		}
		// While the server gives one name to several messages, no row may go
		// by that name; and a sink knows its promises by the one that they have.
		if remembered && (p.isNameless(r) || p.pol.Open[p.rows[r].UID]) {
			p.claim(e, r, p.rows[r].UID)
			continue
		}
		key := p.plan.keys.next(sum, p.rows)
		if remembered {
			p.claim(e, r, key)
		} else {
			p.fetchUnlessLarge(Want{Entry: e, Key: key, Header: sum})
		}
	}
	came := 0
	for _, i := range p.unknown {
		e, sum := p.listing[i], p.headers[p.listing[i].Num]
		came++
		own, blank := p.retryRows[i]
		r, remembered := twins.takeFirst(sum)
		switch {
		case remembered && p.pol.Open[p.rows[r].UID]:
			came--
			p.claim(e, r, p.rows[r].UID)
		case remembered:
			came--
			p.claim(e, r, e.UID)
		case p.mayBeRenamed(e) && (sum.IsZero() || p.plan.Reused || p.isHeaderToVerifyLater(sum)): // or a header has changed
			w := Want{Entry: e, Key: e.UID}
			if blank {
				w.Row = &p.rows[own]
			}
			p.planVerify(w)
		case blank:
			p.claim(e, own, e.UID)
		case moved && sum.IsZero():
			p.verifyOrFetch(Want{Entry: e, Key: e.UID})
		default:
			p.fetchUnlessLarge(Want{Entry: e, Key: e.UID})
		}
	}
	p.plan.Renamed = lost >= minLostAdopted && came >= lost && p.listedAdopted == 0
}

// isUnreliable reports whether a message that landed by the sum of this header came with
// another: some servers give by TOP less of a header than by RETR, or more. Then it
// tells nothing, and only the content does. Each such message goes by that sum, so that
// it is known for as long as any of them is.
func (p *planner) isUnreliable(sum state.Sum) bool {
	cut, told := p.unreliable[sum]
	if told { // there may be thousands alike
		return cut
	}
	key := state.KeyOf(sum, 0)
	r, _ := findRow(p.rows, key)
	for ; !cut && r < len(p.rows) && strings.HasPrefix(p.rows[r].UID, key); r++ {
		cut = p.rows[r].Header != sum && !p.rows[r].Content.IsZero()
	}
	p.unreliable[sum] = cut
	return cut
}

// isHeaderToVerifyLater reports whether a message that has to wait has that header.
func (p *planner) isHeaderToVerifyLater(sum state.Sum) bool {
	return slices.ContainsFunc(p.verifyLater, func(w Want) bool { return w.Row.Header == sum })
}

// minLostAdopted is how many messages must have been adopted for it to mean
// something that all of them are gone.
const minLostAdopted = 3

// renameWindow is how long after a server ceased to list a message it may list it under
// another name, or under none: a repair may come between. What is missing for
// longer was deleted.
const renameWindow = 24 * time.Hour

// recentlyListed reports whether the message of a row that is not listed was listed within
// lostFor.
func (p *planner) recentlyListed(row *state.Row) bool {
	return row.Missing == 0 || row.Missing > p.pol.Now.Add(-renameWindow).Unix()
}

// countLostAdopted counts the rows of adopted messages that are not listed of late, and
// that no header could tell.
func (p *planner) countLostAdopted() (n int) {
	for r := range p.rows {
		if !p.claimed[r] && p.isAdoptedWithoutHeader(r) && p.recentlyListed(&p.rows[r]) {
			n++
		}
	}
	return n
}

// isAdoptedWithoutHeader reports whether nothing but its unique-id tells the message of
// row r, which was adopted.
func (p *planner) isAdoptedWithoutHeader(r int) bool {
	return p.rows[r].Phase == state.Adopted && p.rows[r].Header.IsZero()
}

// messagesToProbe returns the messages that only their header can tell, or tells at
// least cost.
func (p *planner) messagesToProbe(moved bool) []pop3proto.Entry {
	probe := p.toProbe
	for _, i := range p.unnamed {
		if e := p.listing[i]; !p.pol.Torn[e] {
			probe = append(probe, e)
		}
	}
	for _, i := range p.unknown {
		if e := p.listing[i]; moved || p.mayBeRenamed(e) {
			probe = append(probe, e)
		}
	}
	return probe
}

// uidsMayHaveChanged reports whether unknown messages may be old ones under new names:
// when the listing lacks as many remembered messages as it has, or when some
// are remembered by their header alone.
func (p *planner) uidsMayHaveChanged() bool {
	gone := 0
	for r := range p.rows {
		if p.claimed[r] {
			continue
		}
		if p.rows[r].Phase == state.Deleted {
			// Of several with one unique-id, a server may not delete all, or restore
			// one: by that unique-id.
			if p.isNameless(r) && p.rows[r].Deleted > p.pol.Now.Add(-renameWindow).Unix() {
				return true
			}
			continue
		}
		if p.isAdoptedWithoutHeader(r) {
			continue // no header can tell it
		}
		if p.isNameless(r) && p.recentlyListed(&p.rows[r]) {
			return true
		}
		gone++
	}
	return gone > 0 && gone >= p.listedRows
}

// verifyOrFetch plans a message that its header does not tell. If a row has its size,
// or is of a message that the server may still have, its content may tell that it
// is the same.
func (p *planner) verifyOrFetch(w Want) {
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
		p.planVerify(w)
	} else {
		p.fetchUnlessLarge(w)
	}
}

// skipClaimed returns rows from the first on that is not claimed.
func (p *planner) skipClaimed(rows []int32) []int32 {
	for len(rows) > 0 && p.claimed[rows[0]] {
		rows = rows[1:]
	}
	return rows
}

// mayBeRenamed reports whether e has the size of a message that may be listed under
// another name now, and that can be compared with it; where sizes tell nothing,
// whether such a message has gone of late. A server may have renamed more messages
// than a session gets to, so that one such row is enough.
func (p *planner) mayBeRenamed(e pop3proto.Entry) bool {
	if p.renamedSizes == nil {
		p.renamedSizes = map[int64]bool{}
		for r := range p.rows {
			row := &p.rows[r]
			gone := !p.claimed[r] && (p.plan.Reused || row.Phase != state.Deleted)
			if (gone || p.uncertain[r]) && !row.Content.IsZero() {
				p.renamedSizes[row.Size] = true
				p.renamedRecently = p.renamedRecently || p.recentlyListed(row)
			}
		}
	}
	large := p.pol.MaxSize > 0 && e.Size > p.pol.MaxSize // it is not downloaded to be compared
	return p.renamedSizes[e.Size] || p.renamedRecently && !large && (p.miscounted || e.Size == 0)
}

// keyAllocator gives each message that goes by its sum a key of its own: a maildrop may
// hold many that are the same.
type keyAllocator map[state.Sum]int

// next returns the first key of a sum that it has not given, and that no row has.
func (c keyAllocator) next(sum state.Sum, rows []state.Row) string {
	for {
		key := state.KeyOf(sum, c[sum])
		c[sum]++
		if _, used := findRow(rows, key); !used {
			return key
		}
	}
}

// isNameless reports whether the message of row r goes by no unique-id.
func (p *planner) isNameless(r int) bool {
	_, _, ok := state.Nameless(p.rows[r].UID)
	return ok
}

// headerIndex finds rows by the sum of their header, each at most once.
type headerIndex map[state.Sum][]int32

func (h headerIndex) takeFirst(sum state.Sum) (row int, ok bool) {
	rows := h[sum]
	if sum.IsZero() || len(rows) == 0 {
		return 0, false
	}
	h[sum] = rows[1:]
	return int(rows[0]), true
}

// indexUnclaimedRows finds the rows that no unique-id found. Of a header that is cut, none
// but those of adopted messages, of which nothing else is known.
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
	torn := func(r int32) int {
		if row := &p.rows[r]; row.Phase == state.Refused && row.Content.IsZero() {
			return 1
		}
		return 0
	}
	named := func(r int32) int {
		if p.isNameless(int(r)) {
			return 0
		}
		return 1
	}
	for _, rows := range h {
		// The row of a message that has not come in whole yet may be another name of
		// another's. Of the rest, those without a unique-id come first, in the order in
		// which key gave them theirs.
		slices.SortFunc(rows, func(a, b int32) int {
			return cmp.Or(cmp.Compare(torn(a), torn(b)), cmp.Compare(named(a), named(b)),
				cmp.Compare(len(p.rows[a].UID), len(p.rows[b].UID)), cmp.Compare(a, b))
		})
	}
	return h
}
