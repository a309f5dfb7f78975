// Package smtp is a sink that hands messages to a mail server by SMTP (RFC 5321), to be sent
// on, or by LMTP (RFC 2033), to be delivered there.
//
// SMTP can only carry text in lines. So four things are repaired, and nothing else is
// changed:
//
//   - a CR or LF that stands alone becomes CRLF (RFC 5321 §2.3.8),
//   - NUL is left out (RFC 5322 §4.1),
//   - a last line without a line end gets one,
//   - a message of no octets becomes an empty line.
//
// Lines longer than the 998 octets of RFC 5321 §4.5.3.1.6 are sent unchanged, and so are
// 8-bit octets to a server without 8BITMIME: to break or to encode them would change what
// the sender has signed.
//
// SMTPUTF8 (RFC 6531) is requested only if an address needs it, and not for UTF-8 in a
// header, which is common in spam and old mail. All servers pass that on as long as it is
// not announced. Once it is, a relay bounces the message if the next server, as many local
// delivery agents, lacks the extension.
//
// The order of operations:
//
//	Stage    1 write each message to the spool file, repaired
//	Prepare  2 sync the spool file and its folder
//	         (the caller records the promises in its journal)
//	Commit   for each message:
//	         3 send it
//	         4 record its recipients in the ledger, and sync that
//	         (the caller records the landing in its journal)
//
// The server has the message from its last reply on. If this machine dies between that
// reply and 4, the message is sent again; RFC 1047 explains why that cannot be avoided.
// After 4, Settle knows that the message landed.
//
// A message has landed when the server has it for every recipient. It goes to all
// recipients that the server accepts, in several transactions if they are more than a
// hundred or more than the server accepts at once. The ledger records who has it. When
// the message is tried again, it goes only to the others, even if the server's address or
// the recipients have been corrected meanwhile, or the message has another unique-id.
//
// smtp.go has the Sink, session.go, starttls.go and wire.go the connection, batch.go and
// repair.go what happens before a message is sent, commit.go, send.go and report.go the
// sending, reply.go the refusals, ledger.go and settle.go what is remembered.
package smtp

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/envelope"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

// Options are the settings of a Sink. Server and Spool are required.
type Options struct {
	// Name is the name of the sink. It identifies the sink's ledger, even if the
	// server or the recipients change, so no two sinks may have the same name.
	Name string
	// Server is where to connect to.
	Server remote.Server
	// LMTP speaks LMTP instead of SMTP.
	LMTP bool
	// Hello is the name in EHLO or LHLO (RFC 5321 §4.1.1.1), this machine's by default.
	Hello string
	// To are the recipients of every message. If it is empty, they are those of
	// deliver.Mail. Only LMTP accepts one without a domain.
	To []string
	// Sender replaces the message's own envelope sender.
	Sender string
	// NullSender makes "<>" the sender of all messages, so that nobody gets a bounce.
	NullSender bool
	// Spool keeps the messages until they are sent, and the ledgers.
	Spool *spool.Dir
	// Idle is how long an unused connection is kept; 30 seconds by default.
	Idle time.Duration
	// Pool keeps unused connections, together with those of other sinks. If it is
	// nil, the sink has its own pool.
	Pool *remote.Pool
	// Now returns the time; nil is time.Now.
	Now func() time.Time
}

// Sink delivers to one server. It implements deliver.Sink.
type Sink struct {
	o  Options
	to []string // Options.To without duplicates

	closed  atomic.Bool // no connection is kept any more
	mu      sync.Mutex
	ledgers map[string]*ledger // by account
}

var _ deliver.Sink = (*Sink)(nil)

// New returns a sink. It does not use the disk or the network. If a name or an address of
// the options is not valid in an SMTP command, the error is a *deliver.Error with
// FaultOperator.
func New(o Options) (*Sink, error) {
	s := &Sink{o: o, ledgers: make(map[string]*ledger)}
	if s.o.Server.Service = "smtp"; s.o.LMTP {
		s.o.Server.Service = "lmtp"
	}
	s.o.Idle, s.o.Pool = cmp.Or(o.Idle, 30*time.Second), cmp.Or(o.Pool, remote.NewPool(maxIdle))
	if s.o.Now == nil {
		s.o.Now = time.Now
	}
	s.o.Hello = cmp.Or(o.Hello, hostname())
	if !validName(s.o.Hello) {
		return nil, s.refuse(fmt.Sprintf("greet as %q", s.o.Hello), "hello must be a name without blanks")
	}
	seen := make(map[string]bool)
	for _, to := range o.To {
		if !s.validRecipient(to) {
			return nil, s.refuse(fmt.Sprintf("send to %q", to), "to must be an address of the form name@domain")
		}
		if !seen[to] {
			seen[to] = true
			s.to = append(s.to, to)
		}
	}
	if o.Sender != "" && !envelope.ValidAddress(o.Sender) {
		return nil, s.refuse(fmt.Sprintf("send as %q", o.Sender), "sender must be an address of the form name@domain")
	}
	return s, nil
}

// hostname returns this machine's name, or "localhost" if the name is not valid in EHLO.
func hostname() string {
	if name, err := os.Hostname(); err == nil && validName(name) {
		return name
	}
	return "localhost"
}

// validName reports whether a name is valid in EHLO.
func validName(name string) bool {
	return name != "" && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || strings.ContainsRune(" <>", r) })
}

// Profile implements deliver.Sink.
func (s *Sink) Profile() deliver.Profile {
	return deliver.Profile{Kind: s.o.Server.Service, Target: s.o.Server.Addr, Way: s.o.Server.Via.Way(), Guarantee: deliver.AtLeastOnce}
}

// Begin implements deliver.Sink. It connects to the server and logs in, unless the pool has
// a connection.
func (s *Sink) Begin(ctx context.Context) (deliver.Batch, error) {
	ss, err := s.acquireSession(ctx)
	if err != nil {
		return nil, err
	}
	s.releaseSession(ss)
	return &batch{Batch: s.o.Spool.Batch(s.o.Server.Addr), sink: s}, nil
}

// Sweep implements deliver.Sink. It also removes the messages from the ledger that all of
// their recipients have.
func (s *Sink) Sweep(ctx context.Context, account string) error {
	if err := ctx.Err(); err != nil {
		return s.fail("sweep", err)
	}
	if err := s.ledger(account).prune(); err != nil {
		return s.o.Spool.Error("prune the ledger", err)
	}
	return s.o.Spool.Sweep(account)
}

// Close implements deliver.Sink. It ends the connections in the pool with QUIT.
func (s *Sink) Close() error {
	s.closed.Store(true)
	s.o.Pool.Quit(s)
	return nil
}

// validRecipient reports whether to is valid in RCPT.
func (s *Sink) validRecipient(to string) bool {
	return envelope.ValidAddress(to) || s.o.LMTP && envelope.ValidLocal(to)
}

// recipients returns the recipients of a message. The error is a FaultMessage.
func (s *Sink) recipients(mail deliver.Mail) ([]string, error) {
	if len(s.to) > 0 {
		return s.to, nil
	}
	refuse := func(op string) error {
		return &deliver.Error{
			Fault: deliver.FaultMessage, Target: s.o.Server.Addr, Op: op,
			Hint: "say with to whom the sink's mail is for, or with default where mail goes that names nobody",
		}
	}
	if len(mail.Recipients) == 0 {
		return nil, refuse("the message does not say for whom it is")
	}
	for _, to := range mail.Recipients {
		if !s.validRecipient(to) {
			return nil, refuse(fmt.Sprintf("send to %.200q", to))
		}
	}
	return mail.Recipients, nil
}

// sender returns the envelope sender of a message. An invalid one becomes the null sender: a
// server would refuse it, and a bounce to it would reach nobody.
func (s *Sink) sender(mail deliver.Mail) string {
	switch {
	case s.o.NullSender:
		return ""
	case s.o.Sender != "":
		return s.o.Sender
	case envelope.ValidMailbox(mail.Sender):
		return mail.Sender
	default:
		return ""
	}
}

// fail returns a *deliver.Error for an error of this machine or of a context.
func (s *Sink) fail(op string, err error) error {
	return &deliver.Error{Fault: deliver.FaultOf(err), Target: s.o.Server.Addr, Op: op, Err: err}
}

// refuse returns an error that only the user can correct.
func (s *Sink) refuse(op, hint string) error {
	return &deliver.Error{Fault: deliver.FaultOperator, Target: s.o.Server.Addr, Op: op, Hint: hint}
}

// needsUTF8 reports whether an address is valid only with SMTPUTF8.
func needsUTF8(addr string) bool {
	return strings.ContainsFunc(addr, func(r rune) bool { return r > 0x7f })
}
