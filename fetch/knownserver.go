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
	// trustedFor is how long remembered capabilities are used. Servers are
	// updated: a day later they may offer a better login.
	trustedFor = 24 * time.Hour
	// shortListing is the largest number of messages that are listed with their
	// sizes at once. If the last poll left more on the server, the sizes are
	// asked for only when they are needed.
	shortListing = 500
)

// knownServer is what earlier polls learned about an account's server. It saves a
// poll the round trips of asking again. It decides only what is tried first: it never
// weakens a login, and what proves wrong is asked for again.
type knownServer struct {
	state.Server
	leftOnServer int  // messages that the last poll left there
	trustBefore  bool // Server.Before, the capabilities before the login, may be used
	trustAfter   bool // Server.After, those after the login, may be used
	used         bool // the current session has relied on remembered capabilities
	changed      bool // Server differs from what the state holds
	noPipelining bool // the server was found to lose or drop pipelined commands
	noCAPA       bool // the server was found to hang up over CAPA: its capabilities are unknown

	rest    state.Rest  // what the last poll noted about the maildrop, see hasNothingToDo
	newRest *state.Rest // what this poll found; nil if it found none, or the same
	// shared holds, by host, what servers say before a login, for all accounts of a
	// run. It may be nil.
	shared *sync.Map
}

// recallServer returns what is known of the account's server.
func (a *Account) recallServer(o *Options, was *state.Standing) *knownServer {
	server := was.Server
	key := fmt.Sprintf("%s %d %s", a.Server.way(), a.Server.Security, a.User)
	if len(a.Auth) > 0 {
		key += "," + strings.Join(a.Auth, ",") // auth decides whether retryWithoutCAPA may apply
	}
	if server.Key != key {
		server = state.Server{Key: key}
	}
	k := &knownServer{Server: server, leftOnServer: was.Left, shared: o.servers}
	if !was.Open { // settling open promises changes rows
		k.rest = was.Rest
	}
	age := o.now().Sub(time.Unix(server.Asked, 0))
	k.trustBefore = age >= 0 && age < trustedFor
	k.trustAfter = k.trustBefore
	return k
}

// serverKey is the part of the key that names the server, without the user.
func (k *knownServer) serverKey() string { return k.Key[:strings.LastIndexByte(k.Key, ' ')+1] }

// capabilitiesBeforeLogin returns what the server can do before the login. It asks the
// server unless what is remembered is recent enough, or the server hangs up over CAPA.
func (k *knownServer) capabilitiesBeforeLogin(ctx context.Context, c *pop3proto.Client) (pop3proto.Capabilities, error) {
	if k.shared != nil && !k.trustBefore {
		if lines, ok := k.shared.Load(k.serverKey()); ok {
			k.Before, k.trustBefore = lines.([]string), true
		}
	}
	if k.trustBefore || k.noCAPA {
		return k.useRemembered(c, k.Before), nil
	}
	caps, err := c.Capabilities(ctx)
	if err == nil {
		k.Before = caps.Lines()
	}
	return caps, err
}

// useRemembered makes the client use remembered capabilities.
func (k *knownServer) useRemembered(c *pop3proto.Client, lines []string) pop3proto.Capabilities {
	k.used = true
	caps := pop3proto.ParseCapabilities(lines)
	c.Assume(caps)
	return caps
}

// learn remembers what the server said after the login.
func (k *knownServer) learn(after pop3proto.Capabilities, now time.Time) {
	k.After, k.Asked = after.Lines(), now.Unix()
	if k.noPipelining {
		k.Before, k.After = withoutPipelining(k.Before), withoutPipelining(k.After)
	}
	k.trustBefore, k.trustAfter, k.changed = true, true, true
	if k.shared != nil && !k.noCAPA { // without TLS, only some accounts may do without CAPA
		k.shared.Store(k.serverKey(), k.Before)
	}
}

// disablePipelining makes later sessions, of this poll and of others, send one
// command at a time.
func (k *knownServer) disablePipelining() {
	k.Before, k.After = withoutPipelining(k.Before), withoutPipelining(k.After)
	k.noPipelining, k.changed = true, k.changed || k.trustAfter
}

// withoutPipelining returns the lines of a CAPA reply except PIPELINING.
func withoutPipelining(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.EqualFold(line, "PIPELINING") })
}

// forget makes the next session ask the server again.
func (k *knownServer) forget() {
	k.changed = k.changed || k.trustBefore
	k.trustBefore, k.trustAfter = false, false
	if k.shared != nil {
		k.shared.Delete(k.serverKey())
		k.shared = nil // else what other accounts store meanwhile would be used again
	}
}

// changes returns what to store in the state; nil if nothing changed.
func (k *knownServer) changes() *state.Server {
	switch {
	case !k.changed:
		return nil
	case !k.trustAfter:
		return new(state.Server)
	default:
		return &k.Server
	}
}

// mayHaveMisled reports whether a login or a listing may have failed because it
// relied on remembered capabilities.
func (k *knownServer) mayHaveMisled(err error) bool {
	if !k.trustBefore || !k.used || k.noPipelining || errors.Is(err, context.Canceled) || errors.Is(err, errWantsChallenge) {
		return false
	}
	// A peer that did not prove to be the server is not asked for another way to
	// log in: it would name one that reveals the password.
	if _, ok := errors.AsType[*exchangeError](err); ok || errors.Is(err, mech.ErrSuspect) {
		return false
	}
	class := Classify(err)
	_, login := errors.AsType[*LoginError](err)
	return login && class == ClassOperator || errors.Is(err, pop3proto.ErrBroken)
}

// settleForFirstCAPA reports whether a server hung up over the second CAPA, after the
// login. If so, the next sessions of this poll use what it said before the login
// instead. That is not remembered for other polls: a line that happened to die, or a
// server that fell silent, would look the same.
func (k *knownServer) settleForFirstCAPA(err error) bool {
	if _, over := errors.AsType[*pop3proto.CapabilitiesError](err); !over || k.trustAfter || k.noCAPA || len(k.Before) == 0 {
		return false
	}
	k.After, k.trustAfter, k.Asked = k.Before, true, 0
	return true
}

// retryWithoutCAPA reports whether an unknown server hung up over CAPA. If so, it
// closes the connection, and the next one does without CAPA, as if the server had
// said that it can do nothing. Without TLS, somebody in the middle could bring that
// about to make the client reveal the password: there it is done only if auth allows
// nothing but USER and APOP anyway.
func (s *session) retryWithoutCAPA(err error) bool {
	k := s.server
	if _, over := errors.AsType[*pop3proto.CapabilitiesError](err); !over || k.noCAPA || len(k.Before) > 0 || len(k.After) > 0 {
		return false
	}
	isSASL := func(name string) bool { return name != userPass.Name && name != apop.Name }
	if _, encrypted := s.client.TLS(); !encrypted && (len(s.Auth) == 0 || slices.ContainsFunc(s.Auth, isSASL)) {
		return false
	}
	k.noCAPA = true
	k.learn(pop3proto.Capabilities{}, s.opts.now())
	s.client.Close()
	s.notice("%v; connecting again, without that", err)
	return true
}

// logInAsRemembered logs in by what is known of the server. If that is refused, it
// asks the server what it can do now, and tries once more if that makes for another
// mechanism: the same one again would count as another wrong password on some servers.
//
// A server that has come to offer -PLUS in the meantime must conclude that somebody
// removed the offer (RFC 5802 §6), so that login is repeated, too. But whoever says so
// may be an impostor, and gets no mechanism that reveals the password.
func (s *session) logInAsRemembered(ctx context.Context) (before pop3proto.Capabilities, choice Choice, err error) {
	k, c := s.server, s.client
	if before, err = k.capabilitiesBeforeLogin(ctx, c); err != nil {
		return before, choice, s.connectError(err)
	}
	s.noteLoginDelay(before)
	choice = s.choose(c, before)
	// A password command or a person may take forever to answer, and nothing has
	// begun yet: a drain ends the wait.
	asking, stop := s.opts.untilDrain(ctx)
	defer stop()
	err = s.login(ctx, asking, c, before, choice)
	stripped := k.trustBefore && k.used && errors.Is(err, mech.ErrStripped)
	if err == nil || k.noCAPA || !stripped && !k.mayHaveMisled(err) {
		return before, choice, err
	}
	fresh, capaErr := c.Capabilities(ctx)
	if capaErr == nil || stripped {
		k.forget()
	}
	if capaErr != nil {
		return before, choice, err
	}
	again := s.choose(c, fresh)
	if fresh.Equal(before) || stripped && again.Reveals || !stripped && again.Mechanism == choice.Mechanism {
		return fresh, choice, err
	}
	k.Before = fresh.Lines()
	return fresh, again, s.login(ctx, asking, c, fresh, again)
}
