package fetch

import (
	"context"
	"errors"
	"fmt"
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
	left  int  // messages that the last poll left there
	known bool // Before and After are to be believed
	used  bool // a session has relied on them
	dirty bool // Server is not what is in the state
}

// recall returns the acquaintance of the account's server.
func (a *Account) recall(ctx context.Context, o *Options) (*acquaintance, error) {
	server, left, err := o.State.ServerOf(ctx, a.Name)
	if err != nil {
		return nil, err
	}
	q := &acquaintance{Server: server, left: left}
	key := fmt.Sprintf("%s %d %s", a.Server.Addr(), a.Server.Security, a.User)
	age := o.now().Sub(time.Unix(server.Asked, 0))
	q.known = server.Key == key && age >= 0 && age < trustedFor
	q.Key = key
	return q, nil
}

// before returns what the server can do before the login.
func (q *acquaintance) before(ctx context.Context, c *pop3proto.Client) (pop3proto.Capabilities, error) {
	return q.ask(ctx, c, &q.Before)
}

// after returns what the server can do after the login.
func (q *acquaintance) after(ctx context.Context, c *pop3proto.Client) (pop3proto.Capabilities, error) {
	return q.ask(ctx, c, &q.After)
}

func (q *acquaintance) ask(ctx context.Context, c *pop3proto.Client, lines *[]string) (pop3proto.Capabilities, error) {
	if q.known {
		q.used = true
		caps := pop3proto.ParseCapabilities(*lines)
		c.Assume(caps)
		return caps, nil
	}
	caps, err := c.Capabilities(ctx)
	if err == nil {
		*lines = caps.Lines()
	}
	return caps, err
}

// met has the next sessions, of this poll and of others, believe what the
// server said.
func (q *acquaintance) met(now time.Time) {
	if !q.known {
		q.known, q.dirty, q.Asked = true, true, now.Unix()
	}
}

// doubt has the server asked anew.
func (q *acquaintance) doubt() {
	if q.known {
		q.known, q.dirty = false, true
	}
}

// learned returns what is to be remembered, nil if that is as it was.
func (q *acquaintance) learned() *state.Server {
	switch {
	case !q.dirty:
		return nil
	case !q.known:
		return new(state.Server)
	default:
		return &q.Server
	}
}

// loginAs logs in by what is known of the server. If it refuses, and says that
// it can do something else than what is known, that decides.
func (s *session) loginAs(ctx context.Context) (before pop3proto.Capabilities, choice Choice, err error) {
	q, c := s.server, s.client
	if before, err = q.before(ctx, c); err != nil {
		return before, choice, s.broken(err)
	}
	s.wantPause(before)
	choice = s.choose(c, before)
	err = s.login(ctx, c, before, choice)
	if err == nil || !q.misled(err) {
		return before, choice, err
	}
	fresh, hungUp := c.Capabilities(ctx)
	if hungUp != nil {
		return before, choice, err
	}
	q.doubt()
	if !fresh.Equal(before) {
		q.Before = fresh.Lines()
		choice = s.choose(c, fresh)
		err = s.login(ctx, c, fresh, choice)
	}
	return fresh, choice, err
}

// misled reports whether a login or a listing may have failed since it relied
// on what an earlier session had been told.
func (q *acquaintance) misled(err error) bool {
	if !q.known || !q.used || errors.Is(err, context.Canceled) || errors.Is(err, errOneStep) {
		return false
	}
	// Whoever did not prove to be the server is not asked for another way to
	// log in: he would name one that gives him the password.
	if _, ok := errors.AsType[*exchangeError](err); ok || errors.Is(err, mech.ErrUnproven) {
		return false
	}
	class, _ := advise(err)
	_, login := errors.AsType[*LoginError](err)
	return login && class == ClassOperator || errors.Is(err, pop3proto.ErrBroken)
}

// ahead reads the rows of an account while its server is being reached.
type ahead struct {
	cancel func()
	done   chan struct{}
	rows   []state.Row
	err    error
}

func (a *Account) readAhead(ctx context.Context, o *Options) *ahead {
	ctx, cancel := context.WithCancel(ctx)
	h := &ahead{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(h.done)
		h.rows, h.err = o.State.Rows(ctx, a.Name)
	}()
	return h
}

// stop ends the reading, of which nobody wants anything any more.
func (h *ahead) stop() {
	h.cancel()
	<-h.done
}
