package fetch

import (
	"cmp"
	"slices"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// planner is the state of MakePlan. Entries of the listing and rows go by their
// indexes.
type planner struct {
	pol     Policy
	listing []pop3proto.Entry
	rows    []state.Row
	headers map[int]state.Sum // by message number
	plan    Plan

	claimed       []bool // rows whose message is listed
	listedRows    int    // claimed rows that are not Deleted
	listedAdopted int    // claimed rows that are Adopted

	unknown    []int32           // entries that their unique-ids do not identify
	withoutUID []int32           // entries without a unique-id of their own
	toProbe    []pop3proto.Entry // entries with the unique-id of a doubtful row
	retryRows  map[int32]int     // rows of those entries in unknown that have a bare retry
	displaced  map[int]bool      // rows whose unique-id is another message's now
	uncertain  map[int]bool      // rows of which it is open whether their message is listed

	retries      []Want // to be fetched after all others
	toCompare    []Want
	compareLater []Want // to be compared when their pause is over, or their promise settled

	unreliable     map[state.Sum]bool // results of isUnreliable
	adoptedHeaders map[state.Sum]bool // headers of adopted messages; nil until needed

	// lostSizes are the sizes of messages that may be listed under another unique-id; nil
	// until needed. lostRecently is set if one of them has disappeared recently, and
	// miscounted if the server lists other sizes than messages have.
	lostSizes    map[int64]bool
	lostRecently bool
	miscounted   bool

	// Rows whose content can be compared: liveRows are those of messages that the
	// server may have, deletedRows, by size, those of deleted ones; nil until needed.
	liveRows    []int32
	deletedRows map[int64][]int32
}

// unknownHeaders returns the messages whose header is not known, except paused ones
// that were never received completely: the server may fail over them again.
func (p *planner) unknownHeaders() []pop3proto.Entry {
	return slices.DeleteFunc(slices.Clone(p.listing), func(e pop3proto.Entry) bool {
		_, known := p.headers[e.Num]
		r, found := findRow(p.rows, e.UID)
		return known || found && p.pol.isPaused(&p.rows[r]) && p.rows[r].Content.IsZero()
	})
}

// eachUID calls f for each unique-id of the listing, with the entries that have it
// and the row, -1 if there is none. Both sides are sorted, so that a listing of a
// million messages needs no index of its own.
func (p *planner) eachUID(f func(entries []int32, row int)) {
	byUID := byUID(p.listing)
	r := 0
	for len(byUID) > 0 {
		uid := p.listing[byUID[0]].UID
		n := 1
		for n < len(byUID) && p.listing[byUID[n]].UID == uid {
			n++
		}
		for r < len(p.rows) && p.rows[r].UID < uid {
			r++
		}
		row := -1
		if r < len(p.rows) && p.rows[r].UID == uid {
			row = r
		}
		f(byUID[:n], row)
		byUID = byUID[n:]
	}
}

// matchUIDs claims rows by unique-id.
func (p *planner) matchUIDs() {
	var bareRetries []int32
	p.eachUID(func(entries []int32, r int) {
		i := entries[0]
		e := p.listing[i]
		switch {
		case e.UID == "" || len(entries) > 1:
			p.withoutUID = append(p.withoutUID, entries...)
		case r < 0:
			p.unknown = append(p.unknown, i)
		case p.takesUIDOf(e, &p.rows[r]):
			p.displaced[r] = true
			p.unknown = append(p.unknown, i)
		case p.isBareRetry(&p.rows[r]):
			p.claimed[r] = true
			bareRetries = append(bareRetries, i)
		default:
			p.claim(e, r, e.UID)
		}
	})
	for _, i := range bareRetries { // mayHaveNewUID needs all other claims
		e := p.listing[i]
		if r, _ := findRow(p.rows, e.UID); p.mayHaveNewUID(e) || !p.headers[e.Num].IsZero() {
			p.unknown, p.retryRows[i] = append(p.unknown, i), r
		} else {
			p.claim(e, r, e.UID)
		}
	}
	slices.SortFunc(p.unknown, p.byNumber)
	slices.SortFunc(p.withoutUID, p.byNumber)
}

// findRow returns the index of the row with a key. rows are in the order of their keys.
func findRow(rows []state.Row, key string) (row int, ok bool) {
	return slices.BinarySearchFunc(rows, key, func(r state.Row, key string) int { return cmp.Compare(r.UID, key) })
}

// isBareRetry reports whether a row only says that its message is due for another try.
// The message was never received completely, and may have landed under another unique-id.
func (p *planner) isBareRetry(row *state.Row) bool {
	return row.Phase == state.Refused && row.Header.IsZero() && row.Content.IsZero() &&
		!p.pol.Open[row.UID] && !p.pol.isPaused(row)
}

func (p *planner) byNumber(a, b int32) int {
	return cmp.Compare(p.listing[a].Num, p.listing[b].Num)
}

// claim plans a message whose row is r, and which goes by key from now on.
func (p *planner) claim(e pop3proto.Entry, r int, key string) {
	row := &p.rows[r]
	p.claimed[r] = true
	if e.Size != row.Size && !row.Content.IsZero() {
		p.miscounted = true
	}
	if e.Size == 0 { // the sizes were not asked for, or are not listed
		e.Size = row.Size
	}
	open := p.pol.Open[row.UID]
	// A message with an open promise that is listed under a new unique-id is the row's;
	// the unique-id in the row may become another message's.
	doubtful := p.isDoubtful(e, row) || open && e.UID != row.UID && !p.hasDigestKey(r) && !row.Content.IsZero()
	switch {
	case doubtful && row.Missing == 0:
		p.plan.Learned.Missing = append(p.plan.Learned.Missing, key) // in doubt until it is settled
	case !doubtful && row.Missing != 0:
		p.plan.Learned.Found = append(p.plan.Learned.Found, key)
	}
	if row.UID != key {
		p.plan.Learned.Rekey = append(p.plan.Learned.Rekey, state.Rekey{From: row.UID, To: key})
	}
	if row.Phase != state.Deleted {
		p.listedRows++
	}
	w := Want{Entry: e, Key: key, Row: row}
	switch {
	case open:
		if doubtful && e.UID == row.UID { // the row's message may have another one
			p.uncertain[r], p.compareLater = true, append(p.compareLater, w)
		}
		p.plan.Open++
		p.reportFate(w, FateSettle)
	case doubtful:
		p.uncertain[r] = true
		p.compareOrWait(w)
	default:
		p.planByPhase(w)
	}
}

// planByPhase plans a message that is known to be that of its row.
func (p *planner) planByPhase(w Want) {
	row := w.Row
	switch row.Phase {
	case state.Adopted:
		p.listedAdopted++
		p.planKept(w) // whatever Policy.Keep says: we have not delivered it
	case state.Landed:
		p.deleteOrKeep(w)
	case state.Deleted:
		// Some servers restore deleted messages, others reuse unique-ids; and some
		// programs give all their mail the same header.
		if p.hasHeaderOf(w.Entry, row) && w.Size == row.Size {
			p.plan.Learned.Restored = append(p.plan.Learned.Restored, w.Key)
			p.deleteOrKeep(w)
		} else {
			p.compareOrWait(w)
		}
	case state.Refused, state.Promised:
		// Without an open promise, a Promised message is to be tried again (isSuspect).
		if p.pol.isPaused(row) {
			p.planWaiting(w)
		} else {
			p.fetchUnlessLarge(w)
		}
	}
}

func (p *planner) reportFate(w Want, f Fate) {
	if p.pol.Each != nil {
		p.pol.Each(w, f)
	}
}

// deleteOrKeep plans a message that landed: to be deleted once that is due.
func (p *planner) deleteOrKeep(w Want) {
	if p.pol.isDue(w.Row.Landed) {
		p.plan.Delete = append(p.plan.Delete, Listed{w.Num, w.Key})
		p.reportFate(w, FateDelete)
	} else {
		p.planKept(w)
	}
}

func (p *planner) planKept(w Want) {
	p.plan.Kept++
	p.reportFate(w, FateKeep)
}

func (p *planner) planWaiting(w Want) {
	p.plan.Waiting++
	p.reportFate(w, FateWait)
}

// fetchUnlessLarge plans a message to be fetched, unless it is too large.
func (p *planner) fetchUnlessLarge(w Want) {
	if p.pol.MaxSize > 0 && w.Size > p.pol.MaxSize {
		p.plan.Large = append(p.plan.Large, w)
		p.reportFate(w, FateLeave)
		return
	}
	p.planFetch(w)
}

// planFetch plans a message to be fetched: after all others if it failed before.
func (p *planner) planFetch(w Want) {
	p.reportFate(w, FateFetch)
	if w.isSuspect() || w.tries() > 0 {
		p.retries = append(p.retries, w)
	} else {
		p.addFetch(w)
	}
}

// addFetch adds a message to Plan.Fetch, within Policy.Limit.
func (p *planner) addFetch(w Want) {
	if p.pol.Limit > 0 && len(p.plan.Fetch) >= p.pol.Limit {
		p.leaveForNextSession(w)
		return
	}
	p.plan.Fetch = append(p.plan.Fetch, w)
}

func (p *planner) leaveForNextSession(w Want) {
	p.plan.More++
	p.plan.MoreOctets += w.Size
}

// compareOrWait plans a doubtful message: to be compared, unless that failed and the
// pause is not over. If its header is not known, that is asked for first.
func (p *planner) compareOrWait(w Want) {
	switch {
	case p.pol.isPaused(w.Row):
		p.compareLater = append(p.compareLater, w)
		p.planWaiting(w)
	case p.headers == nil:
		p.toProbe = append(p.toProbe, w.Entry)
	case w.Row.Phase == state.Adopted:
		p.resolveAdopted(w)
	default:
		p.planCompare(w)
	}
}

// resolveAdopted plans a message that has the unique-id of an adopted one, and not its
// header. If no adopted message has its header, the message is new. Otherwise the
// server has renumbered the adopted messages.
func (p *planner) resolveAdopted(w Want) {
	if p.adoptedHeaders == nil {
		p.adoptedHeaders = map[state.Sum]bool{}
		for _, r := range p.rows {
			if r.Phase == state.Adopted && !r.Header.IsZero() {
				p.adoptedHeaders[r.Header] = true
			}
		}
	}
	sum, known := p.headers[w.Num]
	if !known || p.adoptedHeaders[sum] {
		p.listedAdopted++
		p.planKept(w)
		return
	}
	if w.Row.Tries == 0 {
		w.Row = nil // it is the adopted message's
	}
	p.fetchUnlessLarge(w)
}

func (p *planner) planCompare(w Want) {
	p.reportFate(w, FateCompare)
	p.toCompare = append(p.toCompare, w)
}

// addCompare adds a message to Plan.Compare, within Policy.Limit.
func (p *planner) addCompare(w Want) {
	if p.pol.Limit > 0 && len(p.plan.Compare) >= p.pol.Limit {
		p.leaveForNextSession(w)
		return
	}
	p.plan.Compare = append(p.plan.Compare, w)
}

// sortToCompare puts toCompare in order. Messages that were presumed deleted come first:
// they raised the doubt about the others, and would raise it again. Messages with the
// size of one that a sink may have failed over come last, so that the others are
// compared whatever the sink does.
func (p *planner) sortToCompare() {
	suspectSizes := map[int64]bool{}
	for r := range p.rows {
		if p.rows[r].Phase == state.Promised {
			suspectSizes[p.rows[r].Size] = true
		}
	}
	rank := func(w Want) int {
		switch {
		case presumedDeleted(w.Row):
			return 0
		case w.Row == nil && suspectSizes[w.Size]:
			return 2
		default:
			return 1
		}
	}
	slices.SortFunc(p.toCompare, func(a, b Want) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), byTries(a, b)) })
}

// planUnlisted notes the rows whose messages are not listed, forgets those that have
// been missing for long, and collects Plan.Candidates. An empty listing forgets nothing: a
// server may give one in the middle of a repair.
func (p *planner) planUnlisted() {
	old, older := p.pol.Now.Add(-Remembered).Unix(), p.pol.Now.Add(-2*Remembered).Unix()
	for r := range p.rows {
		row := p.rows[r]
		if p.claimed[r] {
			continue
		}
		open := p.pol.Open[row.UID]
		if p.displaced[r] {
			// Its message may be listed again, under any unique-id.
			row.UID = p.plan.keys.next(cmp.Or(row.Header, row.Content), p.rows)
			p.plan.Learned.Rekey = append(p.plan.Learned.Rekey, state.Rekey{From: p.rows[r].UID, To: row.UID})
		}
		isCandidate := len(p.toCompare) > 0 && !row.Content.IsZero()
		if isCandidate {
			p.plan.Candidates = append(p.plan.Candidates, row)
		}
		gone := max(row.Missing, row.Deleted)
		switch {
		case gone == 0:
			p.plan.Learned.Missing = append(p.plan.Learned.Missing, row.UID)
		case gone >= old || len(p.listing) == 0 || open:
		case !isCandidate:
			p.plan.Learned.Forget = append(p.plan.Learned.Forget, row.UID)
		case gone < older: // or a row that is compared in each poll would never go
			p.plan.Stale = append(p.plan.Stale, len(p.plan.Candidates)-1)
		}
	}
	if len(p.toCompare) == 0 {
		return
	}
	// The messages of rows whose unique-id is in doubt may be listed under another one.
	for _, w := range slices.Concat(p.toCompare, p.compareLater) {
		if w.Row != nil {
			row := *w.Row
			row.UID = w.Key
			p.plan.Candidates = append(p.plan.Candidates, row)
		}
	}
}
