// Package deliver defines the contract between the fetch path and the sinks:
// the places where mail comes to rest, such as a Maildir, an mbox, a program
// or a mail server.
//
// A Sink takes messages in batches, and makes a Batch visible in two phases,
// so that a message is deleted from the POP3 server only after it has landed,
// and so that a crash at any point leaves a question that can be answered:
//
//	Sink.Begin      checks that the sink can be used and returns an empty Batch
//	Batch.Stage     stores one message where no reader of the sink sees it
//	Batch.Prepare   makes the batch durable and returns a Promise per message
//	                (the caller records the promises in its journal)
//	Batch.Commit    makes the batch visible and reports a Receipt per message
//	                (the caller records the landings in its journal)
//	Batch.Abort     drops the batch instead
//
// After a crash, the caller passes the token of each promise that is still
// open to Sink.Settle, whose Verdict says whether that message landed. It then
// calls Sink.Sweep to remove what was staged and never promised.
//
// Errors of a sink are *Error; their Fault says who has to act. LFReader and
// Copy convert and copy the body of a message. The sinks are the packages
// maildir, mbox, mda, smtp, imap and discard; delivertest is the test suite
// that each of them must pass. They build on
//
//	durable   file operations, and the order in which they reach the disk
//	spool     private files for messages that wait to be delivered
//	program   running an external command on a message
//	remote    connections and logins to mail servers
//	envelope  reading senders, recipients and dates from a header
//
// Package filter runs a message through a program before it reaches a sink.
package deliver

import (
	"context"
	"io"
	"time"
)

// Mail describes a message to a sink, in addition to its bytes. No string
// contains CR, LF or NUL.
type Mail struct {
	// Account is the account's name in the configuration.
	Account string
	// User is the name the account logs in with.
	User string
	// UID is the unique-id as the server sent it (RFC 1939 §7). It may be empty
	// or contain any other bytes: never use it as a file name.
	UID string
	// Content returns a checksum of the message as the server sent it, before
	// mailhaul added header fields and before a filter changed it, so that a
	// later download of the same message has the same checksum. It may be
	// called once body has reached io.EOF and until Stage returns. It is nil if
	// there is no checksum.
	Content func() []byte
	// Sender is the envelope sender, taken from the Return-Path, Sender or From
	// field, in this order. Empty is the null sender.
	Sender string
	// Recipients are the envelope recipients, addresses or local parts, for
	// whom the message was routed to this sink. It is empty without routing.
	Recipients []string
	// Date is the date in the topmost Received field, else that in the Date
	// field. It is zero if neither can be parsed.
	Date time.Time
	// Arrived is when the message was retrieved.
	Arrived time.Time
}

// Sink is a place where mail comes to rest. Its methods may be called from
// several goroutines at once; those of the batches it returns may not.
type Sink interface {
	// Profile describes the sink. It is constant for the sink's lifetime.
	Profile() Profile

	// Begin returns an empty batch. It first checks that the sink can be used,
	// so that a sink that is missing, of the wrong kind or not writable is
	// found before any message is downloaded. Its errors are *Error with
	// FaultOperator, FaultMachine or FaultTemporary.
	Begin(ctx context.Context) (Batch, error)

	// Settle says what became of a promise whose Commit never reported it, by
	// the Promise.Token that this sink returned. The caller settles promises in
	// the order in which they were made.
	//
	// Settle may complete the delivery, if it can do so exactly once, and then
	// returns Landed. A verdict is durable: a later call may return another one
	// only if that is as good. With NotLanded and Unknown, nothing of the
	// message is left in the sink's staging area. An error means that the
	// question cannot be answered now; the promise stays open.
	Settle(ctx context.Context, token string) (Verdict, error)

	// Made reports whether token was made for the destination of this sink,
	// possibly when the sink was configured under another name. It does not say
	// what became of the promise. Sinks whose tokens do not identify their
	// destination return false.
	Made(token string) bool

	// Sweep removes from the sink's staging area what batches of account left
	// there that died before Prepare. The caller holds the account's lease, and
	// the account has no open batch and no open promise.
	//
	// A staging area may be shared by sinks, and a sink may need the files there
	// to release a lock that a crash left behind. Therefore the caller first
	// sweeps the account "", which has no files, on all sinks with
	// Profile.Locks.
	Sweep(ctx context.Context, account string) error

	// Close releases what the sink holds. It never publishes a batch.
	io.Closer
}

// Batch is a group of messages of one account that become durable and visible
// together. Its methods are called by one goroutine at a time, in the order
// Stage (any number of times), Prepare, Commit. Abort may be called at any
// point and ends the batch.
type Batch interface {
	// Stage reads body to its end and stores the message where no reader of
	// the sink sees it. body is the message in wire form: lines end in CRLF,
	// dots are unstuffed, and every other byte is as the server sent it, bare CR
	// and bare LF included. body must not be used after Stage returns.
	//
	// Only a body that ends in io.EOF is a whole message. If reading body fails
	// otherwise, Stage drops the message and returns an error that wraps body's.
	// After an error the batch is usable, without that message, unless the error
	// is an *Error whose Fault is not FaultMessage.
	Stage(ctx context.Context, mail Mail, body io.Reader) (Ticket, error)

	// Prepare makes all staged messages durable, while they stay invisible, and
	// returns one promise per message in the order of their tickets. After an
	// error the batch can only be aborted: a failed fsync is never retried.
	Prepare(ctx context.Context) ([]Promise, error)

	// Commit makes the batch visible. It calls landed once per message, in any
	// order and from the calling goroutine: with a nil Receipt.Err once the
	// message is visible and durable, with an *Error if the sink did not take
	// it.
	//
	// Locks that keep mail readers out are held until landed has returned for
	// every message, so that the journal knows of all of them before a reader
	// can move one. If the sink is ExactlyOnce and has no Locks, the caller may
	// record landings later: Settle finds what has landed.
	//
	// If landed returns an error, Commit stops and returns that error. Commit
	// returns an *Error of its own if it cannot go on, or if the sink refuses
	// for a reason that would apply to every message, such as a full mailbox. In
	// both cases the messages that were not reported stay promised and must be
	// settled, unless the *Error says Untaken or Blameless.
	Commit(ctx context.Context, landed func(Receipt) error) error

	// Abort drops all staged messages. After Prepare it may leave that to Settle
	// and Sweep, because the promises may have reached the journal. After Commit
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
	// Where is what Receipt.Where will be, if the sink already knows it; it saves
	// the journal a write. Otherwise it is empty.
	Where string
}

// Receipt reports the fate of one message of a batch.
type Receipt struct {
	Ticket Ticket
	// Where says for a person where the message landed: a path, or the reply of
	// a server.
	Where string
	// Err is nil if the message landed.
	Err error
}

// Verdict is what became of a promise.
type Verdict int

const (
	// Unknown means that the sink cannot tell. The message is fetched again: a
	// duplicate is better than a loss.
	Unknown Verdict = iota
	// Landed means that the message is visible and durable in the sink, or was
	// until its owner moved or removed it.
	Landed
	// NotLanded means that the message is not in the sink and will not get
	// there, so that fetching it again makes no duplicate. The caller treats it
	// like Unknown; the tests of a sink tell the two apart.
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

// Guarantee says how often a message can arrive when a crash or a power cut
// interrupts its delivery. No sink ever loses a message.
type Guarantee int

const (
	// AtLeastOnce sinks may get a message twice (RFC 1047).
	AtLeastOnce Guarantee = iota
	// ExactlyOnce sinks can always answer Settle.
	ExactlyOnce
)

// Profile describes a sink.
type Profile struct {
	// Kind is the type of the sink: "maildir", "mbox".
	Kind string
	// Target names the place for a person: "~/Maildir".
	Target string
	// Way identifies the proxy or command through which Target is reached: the
	// same Target may be another server by another Way.
	Way string
	// Guarantee says what a crash can do to a message.
	Guarantee Guarantee
	// Locks says that the batches hold locks from Prepare to the end of Commit.
	// The caller prepares such sinks last, in the order of Target, so that no
	// two batches wait for each other, and commits them first.
	Locks bool
	// MaxMessages bounds a batch; 0 leaves it to the caller.
	MaxMessages int
}
