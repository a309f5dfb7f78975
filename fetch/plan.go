package fetch

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// Remembered is how long a message is remembered after the server ceased to
// list it. Servers list partially, restore what was deleted and come back
// empty from a repair, all for days on end.
const Remembered = 30 * 24 * time.Hour

// Policy is what an account wants done with the messages of its maildrop.
type Policy struct {
	Keep Keep
	// KeepAll deletes nothing this time.
	KeepAll bool
	// MaxSize leaves larger messages on the server; 0 is no limit.
	MaxSize int64
	// Limit is the most messages to fetch now, and the most to compare; 0 is no
	// limit.
	Limit int
	Now   time.Time
	// Open are the keys of rows with a promise that no sink could answer for:
	// they are left alone, and noted if they are missing.
	Open map[string]bool
	// Torn are messages over which a connection of this poll died, and that nothing
	// tells: they wait for the next one.
	Torn map[pop3proto.Entry]bool
	// Asked is set once the headers that are not known are not to be had.
	Asked bool
	// Partial is set if the server has more messages than it lists.
	Partial bool
	// Each, unless nil, is told what is planned for each message.
	Each func(Want, Fate)
}

// isDue reports whether a message that landed at that time (Unix seconds) is to
// be deleted.
func (p *Policy) isDue(landed int64) bool {
	return !p.KeepAll && landed <= p.Keep.Due(p.Now)
}

// isPaused reports whether the pause of a row's message is not over. A time that is
// further ahead than any pause was noted by a clock that was wrong then.
func (p *Policy) isPaused(r *state.Row) bool {
	now := p.Now.Unix()
	return r.NextTry > now && r.NextTry <= now+int64((longestPause+time.Hour).Seconds())
}

// Plan says what to do with each message of a maildrop.
type Plan struct {
	// Probe messages cannot be told without the sum of their header: the
	// caller asks for it and makes the plan again, with all that it knows by then.
	// A plan with Probe has nothing else in it.
	Probe []pop3proto.Entry
	// Fetch messages are new, or due for another try.
	Fetch []Want
	// Verify messages may be what landed before: they are downloaded and
	// compared, and fetched only if they differ.
	Verify []Want
	// Delete messages landed and are due.
	Delete []Listed
	// Kept messages landed and stay for now, or were adopted and stay; Waiting
	// ones were refused and their pause is not over; Open ones are among
	// Policy.Open.
	Kept, Waiting, Open int
	// Large messages are over Policy.MaxSize.
	Large []Want
	// Unclear messages have no name and may be adopted ones: they are left
	// alone.
	Unclear int
	// Renamed is set if all that was adopted is gone of late and cannot be told by
	// its header, and as many messages have come: all of it may be listed under
	// new names.
	Renamed bool
	// More counts the messages beyond Policy.Limit, and MoreOctets their
	// octets.
	More       int
	MoreOctets int64
	// Keep is what the listing taught about the rows.
	Keep state.Housekeeping
	// Twins are the rows that Verify messages may be those of: theirs, and those
	// whose messages the server no longer lists by the unique-id that they are
	// remembered by.
	Twins []state.Row
	// Stale are those of Twins, by their places, that are to be forgotten unless a
	// Verify message proves to be theirs.
	Stale []int
	// Reused is set if a unique-id has gone from one message to another, as far as
	// can be told: then none is believed that no header bears out.
	Reused bool

	keys keyAllocator // keys, to messages without a name
}

// hasDownloads reports whether messages are to be downloaded, or looked at.
func (p *Plan) hasDownloads() bool {
	return len(p.Probe)+len(p.Fetch)+len(p.Verify) > 0
}

// Listed is a message on the server and the key of its row.
type Listed struct {
	Num int
	Key string
}

// Want is a message to download.
type Want struct {
	pop3proto.Entry
	// Key is the key of its row. It is empty for a message that has neither
	// a usable unique-id nor a header that tells it: its row is found once it is
	// downloaded.
	Key string
	// Header is the sum of its header if it goes by that, or will.
	Header state.Sum
	// Row is what is remembered of it, nil if nothing is.
	Row *state.Row
}

// presumedDeleted reports whether the server was asked to delete the message of a row, and
// did, or did not say so and was not found to have it since.
func presumedDeleted(r *state.Row) bool {
	return r != nil && (r.Phase == state.Deleted || r.Deleted != 0 && r.Missing != 0)
}

// MakePlan compares a listing with what is remembered of it. rows are in the
// order of their UIDs. headers holds the header sums of the messages that
// earlier Plans wanted probed, by message number; nil asks for such a Plan.
func MakePlan(listing []pop3proto.Entry, rows []state.Row, headers map[int]state.Sum, pol Policy) Plan {
	p := planner{
		pol: pol, listing: listing, rows: rows, headers: headers, claimed: make([]bool, len(rows)),
		unreliable: map[state.Sum]bool{}, uncertain: map[int]bool{}, retryRows: map[int32]int{}, displaced: map[int]bool{}, plan: Plan{keys: keyAllocator{}},
	}
	p.plan.Reused = pol.Partial && p.uidsAreNumbers() || headers != nil && p.uidsReused()
	if p.plan.Reused && !pol.Asked {
		probe := slices.DeleteFunc(slices.Clone(listing), func(e pop3proto.Entry) bool {
			_, told := headers[e.Num]
			r, known := findRow(rows, e.UID)
			return told || known && pol.isPaused(&rows[r]) && rows[r].Content.IsZero() // the server may fail over it again
		})
		if len(probe) > 0 {
			return Plan{Probe: probe}
		}
	}
	p.matchUIDs()
	moved := p.uidsMayHaveChanged() || p.plan.Reused
	if headers == nil {
		if probe := p.messagesToProbe(moved); len(probe) > 0 {
			return Plan{Probe: probe}
		}
	}
	p.identifyByHeader(moved)
	p.planUnlisted()
	// Messages that gave trouble come last, where they hold up no other.
	slices.SortFunc(p.plan.Fetch, byTries)
	slices.SortFunc(p.retries, byDueTime)
	for _, w := range p.retries {
		p.addFetch(w)
	}
	p.sortVerify()
	for _, w := range p.toVerify {
		if pol.Limit > 0 && len(p.plan.Verify) >= pol.Limit {
			p.leaveForNextSession(w)
		} else {
			p.plan.Verify = append(p.plan.Verify, w)
		}
	}
	return p.plan
}

type planner struct {
	pol            Policy
	listing        []pop3proto.Entry
	rows           []state.Row
	headers        map[int]state.Sum
	claimed        []bool             // rows whose message is listed
	listedRows     int                // rows among them that are not tombstones
	listedAdopted  int                // rows among them that are Adopted
	unknown        []int32            // entries with a unique-id that no row has
	unnamed        []int32            // entries with none that tells them apart
	toProbe        []pop3proto.Entry  // with that of a doubtful row, and no header known yet
	retries        []Want             // to be fetched after all others
	toVerify       []Want             // to be verified
	verifyLater    []Want             // to be verified later, when their pause is over
	adoptedHeaders map[state.Sum]bool // headers of adopted messages; nil until asked for
	unreliable     map[state.Sum]bool // header sums of which cut has told
	uncertain      map[int]bool       // rows of which nobody can tell yet whether their message is listed
	renamedSizes   map[int64]bool     // of messages that may go by another name; nil until asked for
	liveRows       []int32            // rows for compare: of messages that the server may have
	deletedRows    map[int64][]int32  // and of those that it has not, by size; nil until asked for
	retryRows      map[int32]int      // rows of entries that are unknown but for a blank one
	displaced      map[int]bool       // rows whose unique-id is another message's now
	// miscounted is set if the server gives other sizes than the messages have.
	miscounted      bool
	renamedRecently bool // one of sizes has gone of late
	plan            Plan
}

// eachUID shows each unique-id of the listing to see, with the messages that have it
// and the row, -1 if there is none. Both sides are sorted, so that a listing of a
// million messages needs no index of its own.
func (p *planner) eachUID(see func(of []int32, row int)) {
	byUID := byUID(p.listing)
	r := 0
	for len(byUID) > 0 {
		uid := p.listing[byUID[0]].UID
		same := 1
		for same < len(byUID) && p.listing[byUID[same]].UID == uid {
			same++
		}
		for r < len(p.rows) && p.rows[r].UID < uid {
			r++
		}
		row := -1
		if r < len(p.rows) && p.rows[r].UID == uid {
			row = r
		}
		see(byUID[:same], row)
		byUID = byUID[same:]
	}
}

// matchUIDs claims rows by unique-id.
func (p *planner) matchUIDs() {
	var blank []int32
	p.eachUID(func(of []int32, r int) {
		e := p.listing[of[0]]
		switch {
		case e.UID == "" || len(of) > 1:
			p.unnamed = append(p.unnamed, of...)
		case r < 0:
			p.unknown = append(p.unknown, of[0])
		case p.takesUIDOf(e, &p.rows[r]):
			p.displaced[r] = true
			p.unknown = append(p.unknown, of[0])
		case p.isBareRetry(&p.rows[r]):
			p.claimed[r] = true
			blank = append(blank, of[0])
		default:
			p.claim(e, r, e.UID)
		}
	})
	for _, i := range blank {
		e := p.listing[i]
		if r, _ := findRow(p.rows, e.UID); p.mayBeRenamed(e) || !p.headers[e.Num].IsZero() {
			p.unknown, p.retryRows[i] = append(p.unknown, i), r
		} else {
			p.claim(e, r, e.UID)
		}
	}
	slices.SortFunc(p.unknown, p.byNumber)
	slices.SortFunc(p.unnamed, p.byNumber)
}

// findRow returns which of rows, in the order of their keys, has a key.
func findRow(rows []state.Row, key string) (row int, ok bool) {
	return slices.BinarySearchFunc(rows, key, func(r state.Row, key string) int { return cmp.Compare(r.UID, key) })
}

// isBareRetry reports whether row says no more of its message than that it is due for
// another try: it has not come in whole yet, and may have landed under another name.
func (p *planner) isBareRetry(row *state.Row) bool {
	return row.Phase == state.Refused && row.Header.IsZero() && row.Content.IsZero() &&
		!p.pol.Open[row.UID] && !p.pol.isPaused(row)
}

// uidsReused reports whether a unique-id may have gone from one message to another: it was
// that of a message that was gone, and no header shows that the same one came back.
// Some servers' unique-ids are their message numbers. A deletion there changes those of
// all messages behind it, and the first of these gets that of the deleted one, or of one
// of which nobody knows.
func (p *planner) uidsReused() (found bool) {
	p.eachUID(func(of []int32, r int) {
		e := p.listing[of[0]]
		if r < 0 || e.UID == "" || len(of) > 1 {
			return
		}
		row := &p.rows[r]
		switch {
		case row.Phase == state.Adopted || p.pol.Open[row.UID]:
		case presumedDeleted(row):
			// One that is not to be had casts no doubt again: all that it was
			// cast on is noted as missing.
			found = found || p.hasOtherHeader(e, row) || !p.hasHeaderOf(e, row) && row.Tries == 0
		case row.Missing != 0:
			found = found || p.hasOtherHeader(e, row)
		}
	})
	return found
}

// uidsAreNumbers reports whether the unique-ids are the message numbers. If not all are
// listed, the one that would show that they were reused may be missing.
func (p *planner) uidsAreNumbers() bool {
	return !slices.ContainsFunc(p.listing, func(e pop3proto.Entry) bool { return e.UID != strconv.Itoa(e.Num) })
}

// hasHeaderOf reports whether its header tells that e is the message of row.
func (p *planner) hasHeaderOf(e pop3proto.Entry, row *state.Row) bool {
	sum := p.headers[e.Num]
	return !sum.IsZero() && sum == row.Header
}

// hasOtherHeader reports whether its header tells that e is not the message of row. There
// is none of a message that was refused before it had come in whole.
func (p *planner) hasOtherHeader(e pop3proto.Entry, row *state.Row) bool {
	sum, told := p.headers[e.Num]
	whole := row.Phase == state.Landed || row.Phase == state.Deleted
	return told && sum != row.Header && (whole || !row.Header.IsZero())
}

// takesUIDOf reports whether e, which is another message than that of row, has its
// unique-id now. A row that a sink has yet to answer for keeps it until then.
func (p *planner) takesUIDOf(e pop3proto.Entry, row *state.Row) bool {
	return p.plan.Reused && p.hasOtherHeader(e, row) && !p.pol.Open[row.UID]
}

func (p *planner) byNumber(a, b int32) int {
	return cmp.Compare(p.listing[a].Num, p.listing[b].Num)
}

// claim plans a message that is remembered by row r and goes by key from now
// on.
func (p *planner) claim(e pop3proto.Entry, r int, key string) {
	row := &p.rows[r]
	p.claimed[r] = true
	if e.Size != row.Size && !row.Content.IsZero() {
		p.miscounted = true
	}
	if e.Size == 0 { // the server was not asked, or does not tell
		e.Size = row.Size
	}
	open := p.pol.Open[row.UID]
	// Under another name it is itself, and that of the row is free for others.
	doubtful := p.isDoubtful(e, row) || open && e.UID != row.UID && !p.isNameless(r) && !row.Content.IsZero()
	switch {
	case doubtful && row.Missing == 0:
		p.plan.Keep.Missing = append(p.plan.Keep.Missing, key) // in doubt until it is settled
	case !doubtful && row.Missing != 0:
		p.plan.Keep.Found = append(p.plan.Keep.Found, key)
	}
	if row.UID != key {
		p.plan.Keep.Rekey = append(p.plan.Keep.Rekey, state.Rekey{From: row.UID, To: key})
	}
	if row.Phase != state.Deleted {
		p.listedRows++
	}
	w := Want{Entry: e, Key: key, Row: row}
	if open {
		if doubtful && e.UID == row.UID { // its message may be listed under another name
			p.uncertain[r], p.verifyLater = true, append(p.verifyLater, w)
		}
		p.plan.Open++
		p.reportFate(w, FateSettle)
		return
	}
	if doubtful {
		p.uncertain[r] = true
		p.verifyOrWait(w)
		return
	}
	switch row.Phase {
	case state.Adopted:
		p.listedAdopted++
		p.planKept(w) // whatever Keep says: we delivered it nowhere
	case state.Landed:
		p.deleteOrKeep(w)
	case state.Deleted:
		// Some servers restore deleted messages and some reuse their ids. There are
		// programs, too, whose mail has one header each time.
		if p.hasHeaderOf(e, row) && e.Size == row.Size {
			p.plan.Keep.Restored = append(p.plan.Keep.Restored, key)
			p.deleteOrKeep(w)
		} else {
			p.verifyOrWait(w)
		}
	case state.Refused, state.Promised:
		// Where no promise is open any more, a sink is still owed its copy.
		if p.pol.isPaused(row) {
			p.planWaiting(w)
		} else {
			p.fetchUnlessLarge(w)
		}
	}
}

// isDoubtful reports whether e may be another message than that of row, whose
// unique-id it has: RFC 1939 §7 wants it to stay unique, and some servers do not
// care. Only the content can tell, so that there must be a sum of it; what was
// adopted has only one of its header. Where headers may be asked for, they decide.
func (p *planner) isDoubtful(e pop3proto.Entry, row *state.Row) bool {
	tells := row.Content
	if row.Phase == state.Adopted {
		tells = row.Header
	}
	if row.Missing == 0 && !p.plan.Reused || tells.IsZero() || row.Phase == state.Deleted {
		return false
	}
	return !p.hasHeaderOf(e, row)
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

// reportFate says what is planned for a message, to who wants to know.
func (p *planner) reportFate(w Want, f Fate) {
	if p.pol.Each != nil {
		p.pol.Each(w, f)
	}
}

// deleteOrKeep plans a message that landed to be kept for as long as it is wanted.
func (p *planner) deleteOrKeep(w Want) {
	if p.pol.isDue(w.Row.Landed) {
		p.plan.Delete = append(p.plan.Delete, Listed{w.Num, w.Key})
		p.reportFate(w, FateDelete)
	} else {
		p.planKept(w)
	}
}

// planKept plans a message that landed and stays for now, or was adopted and stays.
func (p *planner) planKept(w Want) {
	p.plan.Kept++
	p.reportFate(w, FateKeep)
}

// planWaiting plans a message whose pause is not over.
func (p *planner) planWaiting(w Want) {
	p.plan.Waiting++
	p.reportFate(w, FateWait)
}

func (p *planner) planFetch(w Want) {
	p.reportFate(w, FateFetch)
	if w.mayBreakSink() || w.tries() > 0 {
		p.retries = append(p.retries, w)
	} else {
		p.addFetch(w)
	}
}

// addFetch plans a message to be fetched next.
func (p *planner) addFetch(w Want) {
	if p.pol.Limit > 0 && len(p.plan.Fetch) >= p.pol.Limit {
		p.leaveForNextSession(w)
		return
	}
	p.plan.Fetch = append(p.plan.Fetch, w)
}

func (p *planner) planVerify(w Want) {
	p.reportFate(w, FateCompare)
	p.toVerify = append(p.toVerify, w)
}

// sortVerify puts what is to be compared in order. What raised a doubt is settled before
// what it was cast on, or it would be raised again. What seems to be a message that a
// sink may have failed over comes last, or those behind it would never be looked at.
func (p *planner) sortVerify() {
	suspects := map[int64]bool{} // sizes
	for r := range p.rows {
		if p.rows[r].Phase == state.Promised {
			suspects[p.rows[r].Size] = true
		}
	}
	rank := func(w Want) int {
		switch {
		case presumedDeleted(w.Row):
			return 0
		case w.Row == nil && suspects[w.Size]:
			return 2
		default:
			return 1
		}
	}
	slices.SortFunc(p.toVerify, func(a, b Want) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), byTries(a, b)) })
}

// verifyOrWait plans a message that is to be compared, unless that failed and its
// pause is not over. If only its header is not known yet, that comes first.
func (p *planner) verifyOrWait(w Want) {
	switch {
	case p.pol.isPaused(w.Row):
		p.verifyLater = append(p.verifyLater, w)
		p.planWaiting(w)
	case p.headers == nil:
		p.toProbe = append(p.toProbe, w.Entry)
	case w.Row.Phase == state.Adopted:
		p.resolveAdopted(w)
	default:
		p.planVerify(w)
	}
}

// resolveAdopted plans a message that has the unique-id of an adopted one and is
// not known to have its header. If that is new, so is the message. If it is that
// of another adopted message, the server has numbered them anew.
func (p *planner) resolveAdopted(w Want) {
	if p.adoptedHeaders == nil {
		p.adoptedHeaders = map[state.Sum]bool{}
		for _, r := range p.rows {
			if r.Phase == state.Adopted && !r.Header.IsZero() {
				p.adoptedHeaders[r.Header] = true
			}
		}
	}
	sum, told := p.headers[w.Num]
	if !told || p.adoptedHeaders[sum] {
		p.listedAdopted++
		p.planKept(w)
		return
	}
	if w.Row.Tries == 0 {
		w.Row = nil // which is of the other message
	}
	p.fetchUnlessLarge(w)
}

// leaveForNextSession leaves a message to the next session.
func (p *planner) leaveForNextSession(w Want) {
	p.plan.More++
	p.plan.MoreOctets += w.Size
}

// planUnlisted plans the rows whose messages are not listed. An empty listing, which
// a server may give in the middle of a repair, forgets nothing.
func (p *planner) planUnlisted() {
	old, older := p.pol.Now.Add(-Remembered).Unix(), p.pol.Now.Add(-2*Remembered).Unix()
	for r := range p.rows {
		row := p.rows[r]
		if p.claimed[r] {
			continue
		}
		open := p.pol.Open[row.UID]
		if p.displaced[r] {
			// It may be listed again, under whatever name.
			row.UID = p.plan.keys.next(cmp.Or(row.Header, row.Content), p.rows)
			p.plan.Keep.Rekey = append(p.plan.Keep.Rekey, state.Rekey{From: p.rows[r].UID, To: row.UID})
		}
		twin := len(p.toVerify) > 0 && !row.Content.IsZero()
		if twin {
			p.plan.Twins = append(p.plan.Twins, row)
		}
		gone := max(row.Missing, row.Deleted)
		switch {
		case gone == 0:
			p.plan.Keep.Missing = append(p.plan.Keep.Missing, row.UID)
		case gone >= old || len(p.listing) == 0 || open:
		case !twin:
			p.plan.Keep.Forget = append(p.plan.Keep.Forget, row.UID)
		case gone < older: // what is always compared with something would never go
			p.plan.Stale = append(p.plan.Stale, len(p.plan.Twins)-1)
		}
	}
	if len(p.toVerify) == 0 {
		return
	}
	// What has to wait may be listed under another name as well.
	for _, w := range slices.Concat(p.toVerify, p.verifyLater) {
		if w.Row != nil {
			row := *w.Row
			row.UID = w.Key
			p.plan.Twins = append(p.plan.Twins, row)
		}
	}
}
