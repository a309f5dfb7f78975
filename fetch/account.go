package fetch

import (
	"context"
	"crypto/tls"
	"maps"
	"math"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/filter"
	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/kpop"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// Account is one maildrop and all that a poll of it needs. Its fields must not change during
// a poll, and there must be only one poll, look or check of an Account at a time, because it
// remembers what logins show of the server.
type Account struct {
	// Name is the account's name in the configuration, the key of its state.
	Name   string
	Server Server
	// User is the name to log in with.
	User string
	// Secret returns the password. It is called only when a mechanism needs
	// one, once a login.
	Secret func(ctx context.Context) (string, error)
	// Token returns an access token for the mechanisms that take one (XOAUTH2,
	// RFC 7628). It is called once a login; nil if the account has none.
	Token func(ctx context.Context) (string, error)
	// TokenRefused, if not nil, is called with a token that the server refused.
	TokenRefused func(token string)
	// Kerberos is where GSSAPI finds its tickets; nil if the account has none.
	Kerberos *mech.Kerberos
	// Auth restricts the mechanisms, by their names in AuthNames; nil leaves
	// the choice to the server's offer.
	Auth    []string
	learned loginQuirks

	// Keep says how long a message stays on the server after it landed.
	Keep Keep
	// MaxSize is the size in octets above which a message is not for the sinks;
	// 0 is no limit.
	MaxSize int64
	// MaxMessages caps a session: after as many messages, and as many again that
	// are only compared, it quits, which commits the deletions, and connects
	// again. 0 is 1000.
	MaxMessages int

	// Deliver is where the mail goes. A message counts as delivered once all
	// of them have it; each remembers what it took.
	Deliver []Target
	// Route, if not nil, chooses other sinks for some messages.
	Route *Route
	// Filter, if not nil, sees each message before the sinks do.
	Filter *filter.Filter
	// Quarantine takes what a sink refuses for good, what is over MaxSize and
	// what Filter sends there; nil leaves such messages on the server.
	Quarantine *Target
	Headers    Headers

	// Postpoll, if not nil, is called after each poll that was not a dry run and
	// not skipped, even if the poll was cancelled: then its ctx ends ten seconds
	// later. Its error is a warning.
	Postpoll func(ctx context.Context, s Summary) error

	// Every is how often Run polls the account; 0 is five minutes.
	Every time.Duration
	// Budget bounds a whole poll, and each look, whatever the server does; 0 is one
	// hour. What was received completely by then is still committed.
	Budget time.Duration
}

// Target is a sink by its name in the configuration.
type Target struct {
	Name string
	Sink deliver.Sink
}

// deliverySinks returns the deliverySinks that the account delivers to.
func (a *Account) deliverySinks() []Target {
	all := slices.Clone(a.Deliver)
	if a.Route != nil {
		for _, name := range slices.Sorted(maps.Keys(a.Route.Map)) {
			all = append(all, a.Route.Map[name]...)
		}
	}
	return all
}

// allSinks returns all the sinks of the account, the quarantine included, each
// once.
func (a *Account) allSinks() []Target {
	all := a.deliverySinks()
	if a.Quarantine != nil {
		all = append(all, *a.Quarantine)
	}
	var once []Target
	for _, t := range all {
		if !slices.Contains(once, t) {
			once = append(once, t)
		}
	}
	return once
}

// Headers says which header fields are put before a message.
type Headers struct {
	// Received adds the trace line that RFC 5321 §4.4 asks of a gateway.
	Received bool
	// DeliveredTo adds a Delivered-To field with this address unless empty.
	DeliveredTo string
	// ReturnPath adds a Return-Path field with the envelope sender where the
	// message has none.
	ReturnPath bool
}

// Keep is how long a message stays on the server after it landed. The zero
// Keep deletes at once.
type Keep struct {
	Forever bool
	For     time.Duration
}

// Due returns the time, in Unix seconds, of the last landings that are due to be
// deleted at now.
func (k Keep) Due(now time.Time) int64 {
	switch {
	case k.Forever:
		return math.MinInt64
	case k.For == 0:
		return math.MaxInt64 // even if a clock was wrong when it landed
	default:
		return now.Add(-k.For).Unix()
	}
}

// Security is how a connection is protected.
type Security int

const (
	// ImplicitTLS negotiates TLS before the greeting (RFC 8314 §3.1), port 995.
	ImplicitTLS Security = iota
	// StartTLS upgrades by STLS (RFC 2595) and gives up if the server cannot,
	// port 110.
	StartTLS
	// PlainText sends everything in the clear, passwords too, port 110.
	PlainText
)

// Server says where a maildrop is and how to connect to it.
type Server struct {
	Host     string
	Port     int // 0 is the port of Security
	Security Security
	// TLS is what to verify, as channel.Trust makes it. nil trusts the system's
	// authorities, with TLS 1.2 or newer. Without a ServerName, the certificate must be
	// for Host.
	TLS *tls.Config
	// Preconnect, if not nil, is called before each connection. Its error, a
	// *HookError, ends the poll.
	Preconnect func(ctx context.Context) error
	// Silence is the longest wait for the server's next byte; 0 is 60 s.
	Silence time.Duration
	// Window is the most commands in flight where the server offers
	// PIPELINING; 0 leaves it to pop3proto, 1 turns it off.
	Window int
	// Trace sees the dialogue, with secrets and messages masked. It may be nil.
	Trace pop3proto.Tracer
	// KPOP, if not nil, says how Kerberos tells the server who we are, before
	// it greets; port 1109. Security is PlainText: nothing else is encrypted.
	KPOP *kpop.Options
	// Via is how the connection is made, unless Dial, not nil, makes it.
	Via  channel.Via
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Addr returns host:port.
func (s *Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.port())) }

func (s *Server) port() int {
	switch {
	case s.Port != 0:
		return s.Port
	case s.KPOP != nil:
		return kpop.Port
	case s.Security == ImplicitTLS:
		return 995
	default:
		return 110
	}
}
