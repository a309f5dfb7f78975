package fetch

import (
	"slices"
	"time"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// Remembered is how long a row is kept after the server ceased to list its message.
// Servers list partially, restore what was deleted, and come back empty from a repair,
// all for days on end.
const Remembered = 30 * 24 * time.Hour

// Policy is what an account wants done with the messages of its maildrop.
type Policy struct {
	Keep Keep
	// KeepAll deletes nothing this time.
	KeepAll bool
	// MaxSize leaves larger messages on the server; 0 is no limit.
	MaxSize int64
	// Limit is the most messages to fetch now, and the most to compare; 0 is no limit.
	Limit int
	Now   time.Time
	// Open are the keys of rows with an open promise. Their messages are left alone.
	Open map[string]bool
	// Torn are messages that nothing identifies and over which a connection of this
	// poll died. They wait for the next poll.
	Torn map[pop3proto.Entry]bool
	// NoMoreHeaders is set once the headers that are still unknown cannot be had.
	NoMoreHeaders bool
	// Partial is set if the server has more messages than it lists.
	Partial bool
	// Each, unless nil, is called with the fate of each message.
	Each func(Want, Fate)
}

// isDue reports whether a message that landed at that time (Unix seconds) is to be
// deleted.
func (p *Policy) isDue(landed int64) bool {
	return !p.KeepAll && landed <= p.Keep.Due(p.Now)
}

// isPaused reports whether a row's message has to wait before the next try. A time
// further ahead than the longest pause was noted by a wrong clock, and is ignored.
func (p *Policy) isPaused(r *state.Row) bool {
	now := p.Now.Unix()
	return r.NextTry > now && r.NextTry <= now+int64((longestPause+time.Hour).Seconds())
}

// Plan says what to do with each message of a maildrop.
type Plan struct {
	// Probe messages cannot be identified without the sum of their header. The caller
	// asks for their headers and makes the plan again with all that it knows by then. A
	// plan with Probe has nothing else in it.
	Probe []pop3proto.Entry
	// Fetch messages are new, or due for another try.
	Fetch []Want
	// Compare messages may have landed before: they are downloaded and compared with
	// Candidates, and delivered only if they differ.
	Compare []Want
	// Delete messages landed and are due for deletion.
	Delete []Listed
	// Kept counts the messages that landed, or were adopted, and stay for now; Waiting
	// those whose pause after a refusal is not over; Open those in Policy.Open.
	Kept, Waiting, Open int
	// Large messages are over Policy.MaxSize.
	Large []Want
	// Unclear counts the messages without a unique-id that are left alone because they
	// may be adopted ones.
	Unclear int
	// UIDsChanged is set if all messages that were adopted have disappeared recently, no
	// header can identify them, and at least as many are new: the server may have given
	// all of them new unique-ids.
	UIDsChanged bool
	// More counts the messages beyond Policy.Limit, and MoreOctets their octets.
	More       int
	MoreOctets int64
	// Learned is what the listing taught about the rows.
	Learned state.Housekeeping
	// Candidates are the rows that Compare messages may belong to: those with their
	// unique-ids, and those whose unique-id is not listed or is another message's.
	Candidates []state.Row
	// Stale are indexes of Candidates that are to be forgotten unless a Compare message
	// proves to be theirs.
	Stale []int
	// Reused is set if the server seems to have given the unique-id of one message to
	// another. Then no unique-id is believed unless the header confirms it.
	Reused bool

	keys keyAllocator // for messages without a unique-id
}

// hasDownloads reports whether the plan needs any header or message from the server.
func (p *Plan) hasDownloads() bool {
	return len(p.Probe)+len(p.Fetch)+len(p.Compare) > 0
}

// Listed is a message on the server and the key of its row.
type Listed struct {
	Num int
	Key string
}

// Want is a message to download.
type Want struct {
	pop3proto.Entry
	// Key is the key of its row. It is empty if neither a usable unique-id nor the
	// header identifies the message: then its content does.
	Key string
	// Header is the sum of its header if Key is, or will be, made of that.
	Header state.Sum
	// Row is what is remembered of it, nil if nothing is.
	Row *state.Row
}

// MakePlan compares a listing with the rows, which are in the order of their UIDs.
// headers holds, by message number, the header sums that earlier Plans asked for by
// Probe; nil means that none was asked for yet.
//
// Rows and messages are matched by unique-id first (RFC 1939 §7), unless there is a
// sign that the server reuses unique-ids. Header sums then identify messages that have
// no unique-id, or an unknown one while known ones have disappeared. Where neither
// decides, the content does: such messages are in Plan.Compare.
func MakePlan(listing []pop3proto.Entry, rows []state.Row, headers map[int]state.Sum, pol Policy) Plan {
	p := planner{
		pol: pol, listing: listing, rows: rows, headers: headers, claimed: make([]bool, len(rows)),
		unreliable: map[state.Sum]bool{}, uncertain: map[int]bool{}, retryRows: map[int32]int{}, displaced: map[int]bool{},
		plan: Plan{keys: keyAllocator{}},
	}
	p.plan.Reused = pol.Partial && p.uidsAreNumbers() || headers != nil && p.uidsReused()
	if p.plan.Reused && !pol.NoMoreHeaders {
		if probe := p.unknownHeaders(); len(probe) > 0 {
			return Plan{Probe: probe}
		}
	}
	p.matchUIDs()
	uidsChanged := p.uidsMayHaveChanged() || p.plan.Reused
	if headers == nil {
		if probe := p.messagesToProbe(uidsChanged); len(probe) > 0 {
			return Plan{Probe: probe}
		}
	}
	p.identifyByHeader(uidsChanged)
	p.planUnlisted()
	slices.SortFunc(p.plan.Fetch, byTries)
	// Messages that failed before come last, so that they hold up no others.
	slices.SortFunc(p.retries, byDueTime)
	for _, w := range p.retries {
		p.addFetch(w)
	}
	p.sortToCompare()
	for _, w := range p.toCompare {
		p.addCompare(w)
	}
	return p.plan
}
