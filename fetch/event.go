package fetch

import (
	"crypto/tls"
	"time"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// Observer is told what happens during polls. It may be called from several
// goroutines at once and must return quickly: it holds up the poll.
type Observer func(Event)

// Event is one of the types of this file.
type Event interface{ event() }

// Started begins a poll; Finished ends it. Meter is the poll's own.
type Started struct {
	Account string
	Meter   *Meter
}

// Connected tells that the server greeted us, over TLS if State is not nil.
type Connected struct {
	Account, Addr string
	State         *tls.ConnectionState
}

// LoggedIn tells that the server let us in, and by which mechanism.
type LoggedIn struct {
	Account, Mechanism string
}

// Planned tells what a session will do, once for each session.
type Planned struct {
	Account string
	// Listed messages are on the server, Octets of them. Fetch of them,
	// FetchOctets, will be downloaded in this session, and Delete be deleted
	// without a download.
	Listed, Fetch, Delete int
	Octets, FetchOctets   int64
	// More messages, MoreOctets of them, are left to the next sessions of the
	// poll.
	More       int
	MoreOctets int64
}

// Landed tells that a message is safe in a sink.
type Landed struct {
	Account, UID, Sink, Where string
	Octets                    int64
}

// Refused tells that a message stays on the server, why, and until when it is
// left alone: zero if nothing tells it from others, so that the next poll tries it.
// Again is set if an earlier poll has told so. If Quarantine is not empty, that sink
// has the message instead.
type Refused struct {
	Account, UID, Reason string
	NextTry              time.Time
	Again                bool
	Quarantine           string
}

// Noticed tells of something that asks nothing of anybody: a server that lies, a
// promise that a crash left open, a message that Account.Filter dropped.
type Noticed struct {
	Account, Text string
}

// Warned tells of something that somebody should look at, and that held up no
// mail: a command of Account.Postpoll that failed, or Account.Filter if
// Filter is set, which is told once, at the end of a poll.
type Warned struct {
	Account, Text string
	Filter        bool
}

// Finished ends a poll.
type Finished struct{ Summary }

func (Started) event()   {}
func (Connected) event() {}
func (LoggedIn) event()  {}
func (Planned) event()   {}
func (Landed) event()    {}
func (Refused) event()   {}
func (Noticed) event()   {}
func (Warned) event()    {}
func (Finished) event()  {}

// Summary is the outcome of a poll.
type Summary struct {
	Account        string
	Started, Ended time.Time
	// Sessions is how often the server was connected to.
	Sessions int
	// Listed messages were on the server at the last look, Fetched ones
	// landed, Bytes of them as the server sent them, and Deleted ones were
	// deleted by a QUIT that the server confirmed.
	Listed, Fetched, Deleted int
	Bytes                    int64
	// Restored counts the messages that were on the server although it had confirmed
	// that it had deleted them.
	Restored int
	// Quarantined counts the messages that landed in the quarantine; they are
	// among those fetched.
	Quarantined int
	// Dropped counts the messages that the filter dropped: they are in no sink,
	// and not among those fetched.
	Dropped int
	// Refused counts the messages that stay on the server because it would
	// not give them or the sink would not take them, those of earlier polls
	// included; TooLarge counts those that stay since they are over MaxSize.
	Refused, TooLarge int
	// Unfetched messages were to be fetched, or to be compared first, and the poll
	// ended before that: it was told to (Options.Drain), the server wants a pause, or
	// as many came in as a session takes.
	Unfetched int
	// Waiting messages landed and are due for deletion, which the server has
	// not confirmed. NotDeleted is what it said if it would not delete some of them.
	Waiting    int
	NotDeleted error
	// Skipped is set when another process is polling the account, or its
	// server wants a pause.
	Skipped bool
	// LoggedIn is when the server last let us in, LoginDelay the time that it
	// wants between two logins (RFC 2449 §6.5); 0 if it does not say.
	LoggedIn   time.Time
	LoginDelay time.Duration
	// Rest is set when the poll ended before all was fetched, since
	// the server wants a pause before the next login.
	Rest bool
	// Schedule is what was recorded for the next poll.
	Schedule state.Schedule
	// Would is what would have been done, of a dry run, and nil of any other: it
	// has changed nothing.
	Would *Outlook
	// Err is what ended the poll early, nil if nothing did; Class is
	// Classify(Err), or ClassRefused if only messages were refused.
	Err   error
	Class Class

	// refused is the answer of a server that did not want a login now.
	refused *pop3proto.ReplyError
	// unconfirmed is set while nobody knows what the server has deleted, and the
	// state holds that for deleted.
	unconfirmed bool
	// unfiltered counts the messages that went on although the filter failed,
	// which it did for the first of them for the reason whyUnfiltered.
	unfiltered    int
	whyUnfiltered string
	// next is when Run is to poll again.
	next time.Time
}
