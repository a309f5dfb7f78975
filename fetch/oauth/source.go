package oauth

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"sync"
	"time"
)

// RenewalLimit bounds the request for an access token. It is not cut off by its caller's
// ctx: a provider that rotates refresh tokens may have replaced ours already, and an
// answer that nobody reads is a grant lost.
const RenewalLimit = time.Minute

const (
	// ahead is how long before its end an access token is renewed, so that
	// none ends during a login.
	ahead = 5 * time.Minute
	// unknownLife is how long an access token is used whose provider does not
	// say how long it lives.
	unknownLife = 10 * time.Minute
	// After a failure the provider is left alone for firstPause, and after
	// each further one for twice as long, up to longestPause.
	firstPause   = 5 * time.Second
	longestPause = 5 * time.Minute
)

// Source hands out access tokens by a grant. All accounts of a process that
// share a grant must share its Source. Its methods may be called from several
// goroutines.
type Source struct {
	// Now is the clock; nil is time.Now.
	Now func() time.Time

	client *Client
	store  *Store

	mu      sync.Mutex
	granted time.Time // what access or failed came of
	access  string
	until   time.Time // access is good
	flight  *flight   // the refresh under way, nil if none is
	failed  error     // of the last refresh
	pause   time.Duration
	retry   time.Time // no refresh before
	unsaved *rotation // what could not be stored
}

// flight is one refresh, for all who wait for it.
type flight struct {
	done    chan struct{}
	granted time.Time // what it uses; zero if there is none
	access  string
	life    time.Duration
	err     error
}

// rotation is a refresh token that took the place of another.
type rotation struct {
	from string
	to   Grant
}

// NewSource returns a source of access tokens by the grant of a client.
func NewSource(c *Client, s *Store) *Source { return &Source{client: c, store: s} }

// Token returns an access token that is good for a while, five minutes where
// the provider's tokens live long enough. Once somebody has logged in anew, by
// whatever process, it is one of what was granted then. The error is a
// *GrantError if a person must log in again, a *TemporaryError if the provider
// could not be asked, ctx's, or this machine's where the grant cannot be read
// or stored.
func (s *Source) Token(ctx context.Context) (string, error) {
	granted := s.Granted()
	s.mu.Lock()
	now := s.now()
	switch {
	case ctx.Err() != nil: // under the lock: who cancels, and then asks Renewing, can trust that
		defer s.mu.Unlock()
		return "", ctx.Err()
	case !granted.IsZero() && !granted.Equal(s.granted):
		// Nothing has come of it yet.
	case s.access != "" && !come(s.until, now):
		defer s.mu.Unlock()
		return s.access, nil
	case s.failed != nil && !come(s.retry, now):
		defer s.mu.Unlock()
		return "", s.failed
	}
	f := s.flight
	if f == nil {
		f = &flight{done: make(chan struct{})}
		s.flight = f
		go s.fly(f)
	}
	s.mu.Unlock()
	select {
	case <-f.done:
		return f.access, f.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (s *Source) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// come reports whether a time has come, by the clock on the wall or by the other: the
// one may be set back, and the other stops while the machine sleeps.
func come(t, now time.Time) bool { return !now.Before(t) || !now.Round(0).Before(t) }

// Granted returns when somebody last logged in, as far as that can be read: the
// zero time if nobody has.
func (s *Source) Granted() time.Time {
	g, _ := s.store.Load(s.client)
	return g.Granted
}

// Refused tells that a mail server did not take an access token: access may have
// been withdrawn before its time. The next is a new one.
func (s *Source) Refused(access string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.access == access {
		s.access = ""
	}
}

// Close waits for a refresh that is under way, so that a new refresh token is
// stored. It takes RenewalLimit at most.
func (s *Source) Close() {
	if f := s.underWay(); f != nil {
		<-f.done
	}
}

// Renewing reports whether there is a refresh that Close would wait for.
func (s *Source) Renewing() bool { return s.underWay() != nil }

func (s *Source) underWay() *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flight
}

// fly refreshes and tells all who wait.
func (s *Source) fly(f *flight) {
	ctx, cancel := context.WithTimeout(context.Background(), RenewalLimit)
	defer cancel()
	f.err = s.refresh(ctx, f)

	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.granted, s.access, s.until, s.failed = f.granted, f.access, now.Add(f.life-min(ahead, f.life/2)), f.err
	if f.err == nil {
		s.pause = 0
	} else {
		s.pause = min(max(2*s.pause, firstPause), longestPause)
		s.retry = now.Add(s.pause)
		if temporary, ok := errors.AsType[*TemporaryError](f.err); ok {
			s.retry = now.Add(max(s.pause, temporary.After))
		}
	}
	s.flight = nil
	close(f.done)
}

// refresh exchanges the refresh token for an access token (RFC 6749 §6). The
// lock is held from before the refresh token is read until its successor is
// stored: a provider that rotates them takes the second use of one for theft,
// and ends the grant. For the same reason there is room for the successor before
// it is asked for.
func (s *Source) refresh(ctx context.Context, f *flight) error {
	g, err := s.store.Load(s.client)
	if err != nil {
		return err // before there is a folder to lock in
	}
	f.granted = g.Granted
	unlock, err := s.store.lock(ctx, s.client)
	switch {
	case err != nil && ctx.Err() != nil: // a process that is stuck has it
		return &TemporaryError{Provider: s.client.Provider.Name, Err: err}
	case err != nil:
		return err
	}
	defer unlock()
	if g, err = s.store.Load(s.client); err != nil {
		return err
	}
	f.granted = g.Granted
	from := *g.refresh
	if s.unsaved != nil && s.unsaved.from == from {
		g = s.unsaved.to
	}
	if err := s.client.Discover(ctx); err != nil {
		return err
	}
	room, err := s.store.makeRoom(s.client)
	if err != nil {
		return err
	}
	defer room.giveBack()
	t, err := s.client.ask(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {*g.refresh}})
	if err != nil {
		return err
	}
	g.renew(t)
	if err := room.keep(g); err != nil {
		s.unsaved = &rotation{from, g}
		return err
	}
	s.unsaved = nil
	f.access, f.life = t.Access, cmp.Or(time.Duration(t.Life), unknownLife)
	return nil
}
