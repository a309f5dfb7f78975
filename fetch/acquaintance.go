package fetch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

const (
	// trustedFor is how long a server is taken by its word. Servers are
	// updated: a day later they may offer a better login.
	trustedFor = 24 * time.Hour
	// shortListing is how many messages are listed with their sizes at once.
	// Where more were left on the server, the sizes are asked for once they
	// are needed.
	shortListing = 500
)

// acquaintance is what is known of a server from earlier polls, so that a poll
// need not spend round trips on it. It says what to try first, never what to
// put up with: a login is as strong as the account demands, and what proves
// wrong is asked for again.
type acquaintance struct {
	state.Server
	left   int         // messages that the last poll left there
	before bool        // Before is to be believed
	after  bool        // After is to be believed
	used   bool        // a session has relied on them
	dirty  bool        // Server is not what is in the state
	singly bool        // it was found to lose what is sent ahead
	mute   bool        // it was found to break off over CAPA: nothing is known of it
	rest   state.Rest  // of the maildrop, before the poll
	found  *state.Rest // by the poll; nil if it found none, or that one
	others *sync.Map   // of the accounts of one run, what servers say before a login; may be nil
}

// recall returns the acquaintance of the account's server.
func (a *Account) recall(o *Options, was *state.Standing) *acquaintance {
	server := was.Server
	key := fmt.Sprintf("%s %d %s", a.Server.way(), a.Server.Security, a.User)
	if len(a.Auth) > 0 {
		key += "," + strings.Join(a.Auth, ",") // it may have done without CAPA for that, see mutes
	}
	if server.Key != key {
		server = state.Server{Key: key}
	}
	q := &acquaintance{Server: server, left: was.Left, others: o.servers}
	if !was.Open { // what came of promises has changed rows
		q.rest = was.Rest
	}
	age := o.now().Sub(time.Unix(server.Asked, 0))
	q.before = age >= 0 && age < trustedFor
	q.after = q.before
	return q
}

// host is the part of the key that says whom to ask, and not as whom.
func (q *acquaintance) host() string { return q.Key[:strings.LastIndexByte(q.Key, ' ')+1] }

// beforeLogin returns what the server can do before the login.
func (q *acquaintance) beforeLogin(ctx context.Context, c *pop3proto.Client) (pop3proto.Capabilities, error) {
	if q.others != nil && !q.before {
		if lines, ok := q.others.Load(q.host()); ok {
			q.Before, q.before = lines.([]string), true
		}
	}
	if q.before || q.mute {
		return q.assume(c, q.Before), nil
	}
	caps, err := c.Capabilities(ctx)
	if err == nil {
		q.Before = caps.Lines()
	}
	return caps, err
}

// mutes reports whether err is that an unknown server breaks off over CAPA, and then has
// the next connections do without it, as if the server had said that it can do nothing.
// Without TLS somebody in the middle could bring that about, to make us reveal the
// password: there it is done only if auth allows nothing but USER and APOP anyway.
func (s *session) mutes(err error) bool {
	q := s.server
	if _, over := errors.AsType[*pop3proto.CapabilitiesError](err); !over || q.mute || len(q.Before) > 0 || len(q.After) > 0 {
		return false
	}
	offered := func(name string) bool { return name != userPass.Name && name != apop.Name }
	if _, encrypted := s.client.TLS(); !encrypted && (len(s.Auth) == 0 || slices.ContainsFunc(s.Auth, offered)) {
		return false
	}
	q.mute = true
	q.met(pop3proto.Capabilities{}, s.opts.now())
	s.client.Close()
	s.notice("%v; connecting again, without that", err)
	return true
}

// settlesFor reports whether a server broke off when it was asked once more after the
// login, and has this poll's next sessions take what it said before for its answer.
// It is not remembered: a line that just then broke, or fell silent, would pass for that.
func (q *acquaintance) settlesFor(err error) bool {
	if _, over := errors.AsType[*pop3proto.CapabilitiesError](err); !over || q.after || q.mute || len(q.Before) == 0 {
		return false
	}
	q.After, q.after, q.Asked = q.Before, true, 0
	return true
}

// assume has the client go by what is known.
func (q *acquaintance) assume(c *pop3proto.Client, lines []string) pop3proto.Capabilities {
	q.used = true
	caps := pop3proto.ParseCapabilities(lines)
	c.Assume(caps)
	return caps
}

// met has the next sessions, of this poll and of others, believe what the
// server said.
func (q *acquaintance) met(after pop3proto.Capabilities, now time.Time) {
	q.After, q.Asked = after.Lines(), now.Unix()
	if q.singly {
		q.Before, q.After = withoutPipelining(q.Before), withoutPipelining(q.After)
	}
	q.before, q.after, q.dirty = true, true, true
	if q.others != nil && !q.mute { // others may not do without, see mutes
		q.others.Store(q.host(), q.Before)
	}
}

// oneByOne has the sessions to come, of this poll and of others, send no command
// ahead.
func (q *acquaintance) oneByOne() {
	q.Before, q.After = withoutPipelining(q.Before), withoutPipelining(q.After)
	q.singly, q.dirty = true, q.dirty || q.after
}

// withoutPipelining takes the words of a server, but for the one that it does not
// keep.
func withoutPipelining(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.EqualFold(line, "PIPELINING") })
}

// distrust has the server asked anew.
func (q *acquaintance) distrust() {
	q.dirty = q.dirty || q.before
	q.before, q.after = false, false
	if q.others != nil {
		q.others.Delete(q.host())
		q.others = nil // or what others store meanwhile would be distrusted again
	}
}

// toRemember returns what is to be remembered, nil if that is as it was.
func (q *acquaintance) toRemember() *state.Server {
	switch {
	case !q.dirty:
		return nil
	case !q.after:
		return new(state.Server)
	default:
		return &q.Server
	}
}

// loginAs logs in by what is known of the server. If that is refused, it asks the
// server what it can do now, and tries again if that makes for another mechanism: with
// the same one it would be another wrong password to some servers. A server that has
// got -PLUS in the meantime must think that it was stripped (RFC 5802 §6). But whoever
// says so may be another, and gets no mechanism that reveals the password.
func (s *session) loginAs(ctx context.Context) (before pop3proto.Capabilities, choice Choice, err error) {
	q, c := s.server, s.client
	if before, err = q.beforeLogin(ctx, c); err != nil {
		return before, choice, s.broken(err)
	}
	s.wantPause(before)
	choice = s.choose(c, before)
	asking, stop := s.opts.untilDrain(ctx) // which may take for ever, and nothing was begun yet
	defer stop()
	err = s.login(ctx, asking, c, before, choice)
	grown := q.before && q.used && errors.Is(err, mech.ErrStripped)
	if err == nil || q.mute || !grown && !q.misled(err) {
		return before, choice, err
	}
	fresh, hungUp := c.Capabilities(ctx)
	if hungUp == nil || grown {
		q.distrust()
	}
	if hungUp != nil {
		return before, choice, err
	}
	again := s.choose(c, fresh)
	if fresh.Equal(before) || grown && again.Reveals || !grown && again.Mechanism == choice.Mechanism {
		return fresh, choice, err
	}
	q.Before = fresh.Lines()
	return fresh, again, s.login(ctx, asking, c, fresh, again)
}

// misled reports whether a login or a listing may have failed because it relied
// on what an earlier session had been told.
func (q *acquaintance) misled(err error) bool {
	if !q.before || !q.used || q.singly || errors.Is(err, context.Canceled) || errors.Is(err, errOneStep) {
		return false
	}
	// Whoever did not prove to be the server is not asked for another way to
	// log in: he would name one that gives him the password.
	if _, ok := errors.AsType[*exchangeError](err); ok || errors.Is(err, mech.ErrSuspect) {
		return false
	}
	class, _ := advise(err)
	_, login := errors.AsType[*LoginError](err)
	return login && class == ClassOperator || errors.Is(err, pop3proto.ErrBroken)
}
