// Package deliver holds the contract between the fetch path and the places
// where mail comes to rest: Maildir, mbox, a program, a mail server.
//
// A sink takes messages in batches, in two phases. Stage and Prepare make a
// batch durable while nobody can see it; between Prepare and Commit the
// caller journals what was promised; Commit makes the batch visible. After a
// crash the caller shows each promise that is still open to Settle, which
// says whether that message landed. Only a message that landed is ever
// deleted from the server.
package deliver

import (
	"context"
	"io"
	"time"
)

// Mail is what a sink is told of a message beside its bytes. Every string is
// free of CR, LF and NUL unless its comment says otherwise.
type Mail struct {
	// Account is the account's name in the configuration.
	Account string
	// User is the name the account logs in with.
	User string
	// UID is the unique-id as the server gave it (RFC 1939 §7): any bytes but
	// CR, LF and NUL, perhaps none. Never use it as a file name.
	UID string
	// Content returns a sum of what the server sent: what tells the message
	// from others at each download, whatever header fields of ours and a filter
	// make of it. It is known from the end of body until Stage returns. If it
	// is nil, nobody can tell that the message comes again.
	Content func() []byte
	// Sender is the envelope sender as far as the message tells it: its
	// Return-Path, else Sender, else From. Empty is the null sender.
	Sender string
	// Recipients are those for whom the message was routed here, addresses or
	// local parts, as its envelope names them. It is empty if there is no
	// routing.
	Recipients []string
	// Date is the message's own date: that of its topmost Received field,
	// else of its Date field. It is zero if neither could be read.
	Date time.Time
	// Arrived is when the message was retrieved.
	Arrived time.Time
}

// Sink is a place where mail comes to rest. All methods may be called from
// several goroutines at once; the batches they return may not.
type Sink interface {
	// Profile describes the sink. It is constant for the sink's lifetime.
	Profile() Profile

	// Begin starts an empty batch. It checks that the sink can be used at
	// all, so that a sink that is missing, is of the wrong kind or may not be
	// written to is found before a message is downloaded. Its errors are
	// *Error with FaultOperator, FaultMachine or FaultTemporary.
	Begin(ctx context.Context) (Batch, error)

	// Settle answers for a promise whose batch did not live to report it.
	// token is a Promise.Token of this sink; promises are shown in the order
	// in which they were made. Settle may complete the delivery itself if it
	// can do so exactly once, and then answers Landed. Whatever it answers
	// without an error is durable: asked again, it gives an answer that is as
	// good. After NotLanded and Unknown nothing of the message is left behind
	// in the sink's staging area. An error means that the question could not
	// be answered now; the promise stays open.
	Settle(ctx context.Context, token string) (Verdict, error)

	// Made reports whether a token is of a promise to deliver to where this sink
	// does: it is this sink's own then, even if its name was another. It does
	// not say what became of the promise. A sink whose tokens do not tell where
	// to says false.
	Made(token string) bool

	// Sweep removes what batches of account left in the sink's staging area
	// when they died before Prepare. The caller holds the account's lease and
	// has no open batch and no open promise of that account. Sinks may share the
	// area: of the account "", which has nothing there, those with Locks are swept
	// before any is of another, to see to a lock that a crash has left.
	Sweep(ctx context.Context, account string) error

	// Close releases what the sink holds. It never publishes a batch.
	io.Closer
}

// Batch is a group of messages of one account that become durable and visible
// together. Its methods are called by one goroutine at a time, in the order
// Stage*, Prepare, Commit; Abort may be called at any time after which nothing
// else is.
type Batch interface {
	// Stage reads body to its end and keeps the message where no reader of
	// the sink sees it. body is the message in wire form: lines end in CRLF,
	// dots are unstuffed, every other byte is as the server sent it, bare CR
	// and bare LF included. It is a loan that ends when Stage returns.
	//
	// Only a body that ends in io.EOF is a whole message. On any other error
	// from body, Stage drops the message and returns an error that wraps
	// body's. An error drops that message only: the batch can go on with the
	// next, unless the error is an *Error whose Fault is not FaultMessage.
	Stage(ctx context.Context, mail Mail, body io.Reader) (Ticket, error)

	// Prepare makes everything that was staged durable, still invisible, and
	// returns one promise a message, in the order of their tickets. After an
	// error the batch can only be aborted: a failed fsync is never tried
	// again.
	Prepare(ctx context.Context) ([]Promise, error)

	// Commit makes the batch visible. It calls landed once for each message,
	// in any order and from the calling goroutine: with Err nil when the
	// message is visible and durable, with an *Error when the sink did not
	// take it. Locks that keep mail readers away are held until landed has
	// returned for every message; the journal has all of them by then, unless
	// the sink is ExactlyOnce without Locks: then it may be later, since what
	// has landed there speaks for itself. If landed returns an error, Commit stops
	// and returns that error; what was not reported stays promised and is
	// settled later. A Commit that fails as a whole, its error an *Error,
	// leaves unreported messages in the same state: so does one that meets a
	// refusal which would meet every message, such as that of a full mailbox. Where
	// its error is Untaken or Blameless, there is nothing to settle.
	Commit(ctx context.Context, landed func(Receipt) error) error

	// Abort drops everything that was staged, as if it had never been. After
	// Prepare it may leave that to Settle and Sweep, since nobody can tell
	// whether the promises have reached the journal. Once Commit was called
	// it does nothing, so it can be deferred.
	Abort() error
}

// Ticket numbers the messages of a batch, from 0, in the order staged. A
// message that Stage dropped takes no ticket.
type Ticket int

// Promise says where a message will be once it has landed.
type Promise struct {
	Ticket Ticket
	// Token is all that Settle needs to find the message again, even in
	// another process and after a reboot. It is text without control
	// characters, at most 4 KiB.
	Token string
	// Where is the Where of the receipt to come, if the sink knows it by now.
	// It saves the journal work; else it is empty.
	Where string
}

// Receipt reports the fate of one message of a batch.
type Receipt struct {
	Ticket Ticket
	// Where the message landed, for a person to read: a path, a reply.
	Where string
	// Err is nil if the message landed.
	Err error
}

// Verdict is what became of a promise.
type Verdict int

const (
	// Unknown means that the sink cannot tell. The message is fetched again:
	// twice is better than never.
	Unknown Verdict = iota
	// Landed means that the message is in the sink, visible and durable, or
	// was and has since been taken by its owner.
	Landed
	// NotLanded means that the message is not in the sink and will not be. To
	// the caller it is Unknown: the message is fetched again. It is a sink's
	// word that this brings no second copy, and its tests hold it to that.
	NotLanded
)

// String returns the verdict in words.
func (v Verdict) String() string {
	switch v {
	case Landed:
		return "landed"
	case NotLanded:
		return "not landed"
	default:
		return "unknown"
	}
}

// Guarantee is how often a message can arrive if a crash or a power cut
// comes at the worst moment. No sink ever loses one.
type Guarantee int

const (
	// AtLeastOnce sinks may see a message again after a crash (RFC 1047).
	AtLeastOnce Guarantee = iota
	// ExactlyOnce sinks can always answer Settle.
	ExactlyOnce
)

// Profile describes a sink.
type Profile struct {
	// Kind names the sort of sink: "maildir", "mbox".
	Kind string
	// Target names the place for a person: "~/Maildir".
	Target string
	// Way tells ways to Target apart, since another one may lead to another place.
	Way string
	// Guarantee is what a crash can do.
	Guarantee Guarantee
	// Locks means that Prepare takes locks that keep others out until Commit
	// has ended. The caller prepares such a sink last, in the order of
	// Target where there are several, and commits it first.
	Locks bool
	// MaxMessages bounds a batch; 0 leaves it to the caller.
	MaxMessages int
}
