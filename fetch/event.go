package fetch

import (
	"crypto/tls"
	"fmt"
	"time"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// Observer is called with each event of the polls. Several goroutines may call it at
// once. It must return quickly, since the poll waits for it.
type Observer func(Event)

// Event is one of the types in this file.
type Event interface{ event() }

// Started is the first event of a poll, Finished the last. Meter follows the poll while
// it runs.
type Started struct {
	Account string
	Meter   *Meter
}

// Connected means that the server has sent its greeting. The connection is encrypted
// unless State is nil.
type Connected struct {
	Account, Addr string
	State         *tls.ConnectionState
}

// LoggedIn means that the login succeeded, by that mechanism.
type LoggedIn struct {
	Account, Mechanism string
}

// Planned says what a session is going to do. Each session of a poll that fetches
// reports it once.
type Planned struct {
	Account string
	// Listed messages of Octets in all are on the server. Of them, Fetch messages of
	// FetchOctets will be downloaded in this session, and Delete messages will be
	// deleted without a download.
	Listed, Fetch, Delete int
	Octets, FetchOctets   int64
	// More messages of MoreOctets are left to later sessions of the poll.
	More       int
	MoreOctets int64
}

// Landed means that a message is safe in a sink.
type Landed struct {
	Account, UID, Sink, Where string
	Octets                    int64
}

// Refused means that a message stays on the server, for the given Reason.
type Refused struct {
	Account, UID, Reason string
	// NextTry is when the message is tried again. It is zero if that is not settled:
	// nothing identifies the message, and the next poll tries it; or it is over
	// Account.MaxSize, or in the Quarantine, and no poll does.
	NextTry time.Time
	// Again is set if an earlier poll has reported this.
	Again bool
	// Quarantine, unless empty, is the sink that has the message instead.
	Quarantine string
}

// MessageName names a message by its unique-id (RFC 1939 §7), in words for a person. An
// empty uid stands for a message without one.
func MessageName(uid string) string {
	if uid == "" {
		return "a message without a unique-id"
	}
	return fmt.Sprintf("message %q", uid)
}

// Noticed is something to know that calls for no action: a server that breaks the
// protocol, a promise that a crash left open, a message that Account.Filter dropped.
type Noticed struct {
	Account, Text string
}

// Warned is something that somebody should look at although no mail was held up: a
// failure of Account.Postpoll or, if Filter is set, of Account.Filter. The latter is
// reported once, at the end of a poll.
type Warned struct {
	Account, Text string
	Filter        bool
}

// Finished is the last event of a poll.
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
	// Sessions counts the connections that the server greeted.
	Sessions int
	// Listed is how many messages the last listing had. Fetched messages landed, of
	// Octets in all as the server sent them. Deleted messages were deleted by a QUIT
	// that the server confirmed.
	Listed, Fetched, Deleted int
	Octets                   int64
	// Restored counts the messages that the server lists although it confirmed their
	// deletion.
	Restored int
	// Quarantined counts the messages among Fetched that are in the quarantine.
	Quarantined int
	// Dropped counts the messages that the filter dropped. They are in no sink and not
	// among Fetched.
	Dropped int
	// Refused counts the messages that stay on the server because it did not give them
	// or a sink did not take them, in this poll or earlier. TooLarge counts those that
	// stay because they are over MaxSize.
	Refused, TooLarge int
	// Unfetched counts the messages that were to be fetched or compared when the poll
	// ended: because of Options.Drain, because the server wants a pause, or because no
	// further session got to them.
	Unfetched int
	// ToDelete counts the messages that are due for deletion and that the server has not
	// confirmed as deleted. NotDeleted is its reply if it refused to delete some.
	ToDelete   int
	NotDeleted error
	// Skipped is set if the account was not polled because another process was polling
	// it or because its server wants a pause.
	Skipped bool
	// LoggedIn is when the last login succeeded. LoginDelay is the time that the server
	// wants between two logins (RFC 2449 §6.5); 0 if it does not say.
	LoggedIn   time.Time
	LoginDelay time.Duration
	// Deferred is set if the poll left the rest to the next one because the server wants
	// a pause before another login.
	Deferred bool
	// Schedule is what was recorded for the next poll.
	Schedule state.Schedule
	// Would is what a dry run, which changes nothing, would have done; nil after any
	// other poll.
	Would *Outlook
	// Err is what ended the poll early, nil if nothing did. Class is Classify(Err), or
	// ClassRefused if the poll only refused messages.
	Err   error
	Class Class

	// pauseReply is the reply of a server that asked for a pause instead of a login.
	pauseReply *pop3proto.ReplyError
	// unconfirmed is set while it is not known what the server has deleted; the state
	// database counts all of it as deleted meanwhile.
	unconfirmed bool
	// unfiltered counts the messages that were delivered although the filter failed;
	// whyUnfiltered is the reason for the first of them.
	unfiltered    int
	whyUnfiltered string
	// next is when Run is to poll again.
	next time.Time
}

// handled counts the messages that the poll is done with for now.
func (s *Summary) handled() int { return s.Fetched + s.Dropped + s.Refused }
