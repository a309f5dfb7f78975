// Package state stores what mailhaul remembers between runs: which messages of
// which account it has seen, which sinks have them, and how the last polls
// went. It is one SQLite database in the state folder, and a lease file for each
// account that is being polled.
//
// A Store is an open state folder. It holds a Row for each message of an account,
// with the Phase that the message has reached, and a Delivery for each sink that
// was to get the message. A poll uses them in this order:
//
//	Lease            takes the sole right to poll the account
//	Standing         reads its schedule and what the last poll left open
//	Promises         lists what a crash left open; Land or Suspect settles it
//	RowStates, Rows   read what is known of the messages on the server
//	Promise, Land    journal each batch before and after its sink commits it
//	Refuse, Keep     note failed attempts, and what the listing says of old rows
//	Delete, Confirm  note deletions before QUIT and after the reply to it
//	SavePoll         notes how the poll went
//
// Every method that writes returns only once its change would survive a power
// cut. Open makes durable what an earlier process may have left in the page
// cache, so that no caller acts on what a power cut could still undo.
//
// The tables are in schema.go, the files of the folder in open.go and lease.go.
// writer.go joins the writes of many accounts into few transactions. lease.go,
// standing.go, rowstate.go, rows.go, promise.go, delete.go, keep.go and poll.go hold
// the methods named above; export.go exports and imports accounts.
package state

import "strconv"

// Phase is how far a message has come.
type Phase uint8

const (
	// Promised messages are staged in a sink that may or may not have made
	// them visible: only the sink can tell (deliver.Sink.Settle). If no promise
	// is open, a sink may have failed because of the message, and Store.Suspect
	// has withdrawn its promise.
	Promised Phase = iota + 1
	// Landed messages are in every sink they were for. They may still be on
	// the server.
	Landed
	// Deleted messages were deleted from the server, or Store.Delete has noted
	// that they are about to be. They are remembered for a time, since servers
	// restore mail and reuse unique-ids.
	Deleted
	// Refused messages stay on the server: it would not send them, or a sink
	// would not take them, though other sinks may have them. They are tried
	// again at Row.NextTry.
	Refused
	// Adopted messages were on the server when the user asked to fetch only
	// newer ones. They are never fetched, and never deleted from the server.
	Adopted
)

var phaseNames = [...]string{"unknown", Promised: "promised", Landed: "landed", Deleted: "deleted", Refused: "refused", Adopted: "adopted"}

// String returns the phase as one word.
func (p Phase) String() string {
	if int(p) >= len(phaseNames) {
		p = 0
	}
	return phaseNames[p]
}

// Sum is a digest. For a header or a listing it is the first 16 bytes of a SHA-256;
// for the content of a message it is a HighwayHash-128
// (https://arxiv.org/abs/1612.06257), or a SHA-256 in rows of older versions. The
// zero Sum means that no digest was computed.
type Sum [16]byte

// IsZero reports whether no digest was computed.
func (s Sum) IsZero() bool { return s == Sum{} }

// Row is what is remembered of one message of an account. Times are Unix
// seconds; 0 is never.
type Row struct {
	// UID is the key: the server's unique-id, which may hold any bytes, or
	// KeyOf of Header or Content for a message without a usable one.
	UID   string
	Phase Phase
	// Size is in octets: as retrieved, or as listed if nothing was retrieved.
	Size int64
	// Header and Content are digests of the header and of the whole message.
	Header, Content Sum
	// Seen is when the row was first written. It is 0 in rows of versions that
	// did not record it.
	Seen int64
	// Landed is when the message landed, Deleted when the server was asked to
	// delete it. In a row whose Phase is Landed, the server has not confirmed
	// that deletion.
	Landed, Deleted int64
	// Missing is since when the message may be gone from the server: the
	// listing lacked it, or may have another message under its unique-id, or
	// the server did not confirm its deletion.
	Missing int64
	// Tries counts failed attempts to deliver the message, or to compare it
	// with what was delivered. NextTry is when the next attempt is due, and
	// Reason says why the last one failed.
	Tries   int
	NextTry int64
	Reason  string
}

// KeyOf returns the key of a message without a usable unique-id: a NUL, its digest
// and, if other messages before it have the same digest, "+" and their number.
func KeyOf(s Sum, others int) string {
	key := "\x00" + string(s[:])
	if others > 0 {
		key += "+" + strconv.Itoa(others)
	}
	return key
}

// IsDigestKey reports whether KeyOf made a key: it is not the unique-id of a server.
func IsDigestKey(key string) bool {
	_, _, ok := SplitDigestKey(key)
	return ok
}

// SplitDigestKey splits a key that KeyOf made into the digest and what follows it. It
// returns false for the unique-id of a server.
func SplitDigestKey(key string) (s Sum, copies string, ok bool) {
	if len(key) <= len(s) || key[0] != 0 {
		return s, "", false
	}
	return Sum([]byte(key[1:])), key[1+len(s):], true
}

// Promise is a message that a sink has staged.
type Promise struct {
	UID  string
	Sink string // the sink's name in the configuration
	// Token is by what the sink recognises the promise (deliver.Promise.Token).
	Token string
	// Where is where the message will land (deliver.Promise.Where), or empty.
	Where           string
	Size            int64
	Header, Content Sum
	// Missing becomes Row.Missing. It is not 0 if the server may now have a
	// different message under UID. Promises does not return it.
	Missing int64
}

// Landing is a message that a sink has made visible.
type Landing struct {
	UID  string
	Sink string
	// Where is where the message landed, in words for a person. Empty means the
	// place that the promise named, if any.
	Where string
	// Dropped is set if a filter dropped the message, so that it landed nowhere.
	// Such a landing is passed to Land alone.
	Dropped bool
}

// Refusal is a failed attempt at a message.
type Refusal struct {
	UID     string
	Size    int64
	NextTry int64
	// Reason is one line for a person, without the account's name.
	Reason string
	// Header and Content are zero if they are not known.
	Header, Content Sum
}

// Delivery is what became of a message in one sink.
type Delivery struct {
	Sink string
	// Token is by what the sink recognises its promise (deliver.Promise.Token).
	Token string
	// Where is where the message landed, in words for a person; empty until
	// it has landed.
	Where string
	// Promised is when the sink last promised the message, in Unix seconds. It
	// is 0 in deliveries of versions that did not record it.
	Promised int64
	// Open is set while the outcome of the promise is not known.
	Open bool
	// Landed is when the message landed, in Unix seconds. If it is 0 and Open is
	// not set, the promise was withdrawn.
	Landed int64
}

// Rekey gives a row a new key, under which the server now lists the message.
type Rekey struct{ From, To string }

// Housekeeping is what a poll learned about messages that it did not fetch. Its
// lists hold UIDs.
type Housekeeping struct {
	// Missing messages are no longer listed, or may not be. Found messages are
	// listed again.
	Missing, Found []string
	// Restored messages were Deleted, and the server lists them again with
	// the same content. They become Landed.
	Restored []string
	// Complete messages landed in some sinks, and the configuration no longer
	// sends them to the others. They become Landed.
	Complete []string
	// Landed replaces the landed deliveries of messages, after sinks were
	// renamed.
	Landed map[string][]Delivery
	// Forget lists rows to delete.
	Forget []string
	Rekey  []Rekey
	// Maildrop, unless empty, says whose maildrop the rows belong to
	// (Standing.Maildrop).
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
	// Fetched messages landed, of Octets in all; those that a filter
	// dropped do not count. Deleted were deleted from the server, and Listed
	// were on it.
	Fetched, Deleted, Listed int
	Octets                   int64

	// The fields below are for SavePoll; Polls does not return them.

	// Schedule is for the next poll; nil keeps the stored one.
	Schedule *Schedule
	// Server replaces what is known of the server; nil keeps it, and the zero
	// Server deletes it.
	Server *Server
	// Maildrop identifies the maildrop, in a form that the caller chooses; empty
	// keeps the stored one.
	Maildrop string
	// Unconfirmed is set if the server did not confirm deletions and Undelete
	// failed to note it.
	Unconfirmed bool
	// Rest is the rest that the poll found the maildrop in; nil keeps the
	// stored one.
	Rest *Rest
}

// Status sums up what is remembered of an account.
type Status struct {
	Account string
	// Last is the latest poll, nil if there was none.
	Last     *Poll
	Schedule Schedule
	// Fetched counts the remembered messages that landed. Of those that were
	// on the server when it was last asked, ToDelete are due for deletion.
	Fetched, ToDelete int
	// Kept counts messages on the server that are not due for deletion,
	// adopted ones among them. Open counts those with an open promise.
	Kept, Open int
	// Refused holds, ordered by UID, the messages that stay on the server for
	// now because they could not be delivered, or compared with what was.
	Refused []Row
}
