// Package state is what mailhaul remembers between runs: which messages of
// which account it has seen, what it promised to deliver where, and how the
// last polls went. It is one SQLite database in the state folder, and a lease
// file for each account that is being polled.
//
// Every method that writes returns only once its change would survive a power
// cut. Open makes durable what an earlier process may have left in the page
// cache, so that nothing is believed that a power cut could still undo.
package state

import "strconv"

// Phase is how far a message has come.
type Phase uint8

const (
	// Promised messages are staged in a sink that may or may not have made
	// them visible: only the sink can tell (deliver.Sink.Settle). Without an
	// open promise, they are owed to sinks that may have failed over them: see
	// Store.Suspect.
	Promised Phase = iota + 1
	// Landed messages are in every sink they were for. They may still be on
	// the server.
	Landed
	// Deleted messages were deleted from the server, or are about to be: see
	// Store.Delete. They are remembered for a time, since servers restore mail
	// and reuse unique-ids.
	Deleted
	// Refused messages stay on the server: it would not give them, or a sink
	// would not take them, while others may have. They are tried again at
	// Row.NextTry.
	Refused
	// Adopted messages were on the server when a person wanted to start from
	// then on: they are never fetched, and never deleted from it.
	Adopted
)

// String returns the phase in a word.
func (p Phase) String() string {
	switch p {
	case Promised:
		return "promised"
	case Landed:
		return "landed"
	case Deleted:
		return "deleted"
	case Refused:
		return "refused"
	case Adopted:
		return "adopted"
	default:
		return "unknown"
	}
}

// Sum identifies a header or a listing, by the first 16 bytes of a SHA-256, or the
// content of a message, by a HighwayHash-128 (https://arxiv.org/abs/1612.06257); in
// rows of older versions that is a SHA-256, too. The zero Sum means that none was
// taken.
type Sum [16]byte

// IsZero reports whether no sum was taken.
func (s Sum) IsZero() bool { return s == Sum{} }

// Row is what is remembered of one message of an account. Times are Unix
// seconds; 0 is never.
type Row struct {
	// UID is the key: the server's unique-id, any bytes; or, for a message
	// that has no usable one, what KeyOf makes of Header or Content.
	UID   string
	Phase Phase
	// Size is in octets, as retrieved; before that, as the server said.
	Size int64
	// Header and Content are sums of the header and of the whole message, as
	// fetch takes them.
	Header, Content Sum
	// Seen is when the row was first written: a sink had the message staged,
	// it was refused, or adopted. 0 is a row of a version that did not note it.
	Seen int64
	// Landed is when the message landed, Deleted when the server was asked to
	// delete it: it did if the row is Deleted, and if it is Landed nobody knows.
	Landed, Deleted int64
	// Missing is since when nobody knows that the server has the message: its
	// listing lacked it, or has another by its unique-id, perhaps, or it was to
	// delete it and did not say that it did.
	Missing int64
	// Tries counts the failed attempts at a message that is Refused, or that
	// some sinks lack; NextTry is when the next one is due, and Reason says in
	// words why it failed.
	Tries   int
	NextTry int64
	Reason  string
}

// KeyOf returns a key for a message without a usable unique-id, by its sum: a NUL,
// the sum, and a "+" with how many others before it have the same, if any.
func KeyOf(s Sum, others int) string {
	key := "\x00" + string(s[:])
	if others > 0 {
		key += "+" + strconv.Itoa(others)
	}
	return key
}

// Nameless takes a key of KeyOf apart, into the sum and what follows it. It
// returns false for a unique-id.
func Nameless(key string) (s Sum, copies string, ok bool) {
	if len(key) <= len(s) || key[0] != 0 {
		return s, "", false
	}
	return Sum([]byte(key[1:])), key[1+len(s):], true
}

// Promise is a message that a sink has staged.
type Promise struct {
	UID  string
	Sink string // the sink's name in the configuration
	// Token is the sink's own (deliver.Promise.Token).
	Token string
	// Where it will land (deliver.Promise.Where), or empty.
	Where           string
	Size            int64
	Header, Content Sum
	// Missing is what Row.Missing is to be: not 0 if the message may be another than
	// the one that the server has by that UID. Promises leaves it out.
	Missing int64
}

// Landing is a message that a sink has made visible.
type Landing struct {
	UID  string
	Sink string
	// Where it landed, for a person to read; empty means where its promise
	// said that it would, if it did.
	Where string
	// Dropped is set if it landed nowhere, since a filter wants it so. Such a
	// landing is noted alone.
	Dropped bool
}

// Refusal is a failed attempt at a message.
type Refusal struct {
	UID     string
	Size    int64
	NextTry int64
	// Reason is a line of text for a person, without the account's name.
	Reason string
	// Header and Content may be zero if they are not known.
	Header, Content Sum
}

// Delivery is what became of a message in one sink.
type Delivery struct {
	Sink string
	// Token is the sink's own (deliver.Promise.Token).
	Token string
	// Where the message landed, for a person to read; empty until then.
	Where string
	// Promised is when the sink promised it last; 0 is a delivery of a version
	// that did not note it.
	Promised int64
	// Open reports that the sink promised the message and nobody has said
	// yet what became of it. Landed is when it landed, in Unix seconds; 0
	// without Open says that the promise was withdrawn.
	Open   bool
	Landed int64
}

// Rekey gives a row another key: the server now lists the message by it.
type Rekey struct{ From, To string }

// Housekeeping is what one poll learned of the rows it did not fetch.
type Housekeeping struct {
	// Missing rows were not listed this time and had been before, or nobody knows
	// whether they are listed; Found rows are listed again.
	Missing, Found []string
	// Restored rows were Deleted, and the server lists their messages again,
	// with the content they had: they are Landed again.
	Restored []string
	// Complete rows landed in some sinks and are owed to others, which nobody
	// wants them to go to any more: they are Landed.
	Complete []string
	// Landed says where messages have landed, by their UIDs, in the place of what is
	// known of that: the sinks have other names now.
	Landed map[string][]Delivery
	// Forget drops rows for good.
	Forget []string
	Rekey  []Rekey
	// Maildrop, unless empty, is whose maildrop the rows are (Standing.Maildrop).
	Maildrop string
}

// Empty reports whether there is nothing to write.
func (h *Housekeeping) Empty() bool {
	return len(h.Missing) == 0 && len(h.Found) == 0 && len(h.Restored) == 0 && len(h.Complete) == 0 && len(h.Forget) == 0 && len(h.Rekey) == 0 &&
		len(h.Landed) == 0 && h.Maildrop == ""
}

// Poll is the record of one poll of an account. Times are Unix seconds.
type Poll struct {
	Started, Ended int64
	// Result is the outcome in one word, Class.String of package fetch.
	Result string
	// Error is what failed and Hint what to do about it; both empty if
	// nothing failed.
	Error, Hint string
	// Fetched messages landed, Bytes of them; Deleted ones were deleted from
	// the server; Listed is how many it had. What a filter dropped is not among
	// those that landed.
	Fetched, Deleted, Listed int
	Bytes                    int64
	// Schedule is what SavePoll notes for the next poll; nil leaves that as it
	// is. Polls does not return it.
	Schedule *Schedule
	// Server is what was learned of the server, the zero Server that what is
	// remembered does not hold; nil if nothing was. SavePoll remembers it,
	// Polls does not return it.
	Server *Server
	// Maildrop is whose maildrop it was, in the caller's own words; empty leaves
	// what is remembered of that. Polls does not return it.
	Maildrop string
	// Unconfirmed is set if the server was asked to delete messages, did not
	// confirm it, and Undelete could not note that. Polls does not return it.
	Unconfirmed bool
	// Rest is the rest that the poll found the maildrop in; nil leaves what is
	// remembered of one as it is. Polls does not return it.
	Rest *Rest
}

// Status is the sum of what is remembered of an account.
type Status struct {
	Account string
	// Last is the latest poll, nil if there was none.
	Last     *Poll
	Schedule Schedule
	// Fetched counts the messages that landed and are remembered. Of those
	// that the server still listed when last asked, Waiting are due for
	// deletion and Kept are not, nor ever will be what was adopted. Open are
	// promised to sinks that have not answered for them.
	Fetched, Waiting, Kept, Open int
	// Refused are the rows of messages that stay on the server for now, since they
	// could not be delivered, or compared with what was: in the order of their UIDs.
	Refused []Row
}
