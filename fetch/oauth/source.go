package oauth

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"sync"
	"time"
)

// RefreshLimit bounds the request for an access token, which the caller's ctx does not
// cancel: a provider that rotates refresh tokens may have replaced ours already, and
// the grant is lost if its answer is not read.
const RefreshLimit = time.Minute

const (
	// refreshBefore is how long before it expires an access token is renewed, so
	// that none expires during a login.
	refreshBefore = 5 * time.Minute
	// defaultLife is how long an access token is used if the provider does not
	// say how long it lives.
	defaultLife = 10 * time.Minute
	// After a failure, no refresh starts for firstPause. Each further failure
	// doubles the pause, up to longestPause.
	firstPause   = 5 * time.Second
	longestPause = 5 * time.Minute
)

// Source returns access tokens, and renews them by means of a grant. All accounts of a
// process that share a grant must share its Source. Its methods may be called from
// several goroutines.
type Source struct {
	// Now is the clock; nil is time.Now.
	Now func() time.Time

	client *Client
	store  *Store

	mu      sync.Mutex
	current *refreshCall // nil if none is under way

	// These are the outcome of the last refresh.
	granted    time.Time // of the grant that it used
	access     string    // empty if it failed, or a server refused the token
	validUntil time.Time // when to renew access
	err        error
	pause      time.Duration // after a failure
	retryAt    time.Time     // when the pause ends

	unsaved *unsavedGrant // used by the current refresh only
}

// refreshCall is a refresh under way, for all callers that wait for it.
type refreshCall struct {
	done    chan struct{}
	granted time.Time // of the grant that it uses; zero if there is none
	access  string
	life    time.Duration
	err     error
}

// unsavedGrant is a renewed grant that could not be stored, and the refresh token that
// the stored grant holds instead.
type unsavedGrant struct {
	from string
	to   Grant
}

// NewSource returns a source of access tokens for the grant of a client.
func NewSource(c *Client, s *Store) *Source { return &Source{client: c, store: s} }

// Token returns an access token that is good for another five minutes, if the
// provider's tokens live long enough. Once somebody has logged in again, by any
// process, the token is of the new grant. The error is a *GrantError if a person must
// log in again, a *TemporaryError if the provider could not answer, that of ctx, or
// one of this machine if the grant cannot be read or stored.
func (s *Source) Token(ctx context.Context) (string, error) {
	granted := s.Granted()
	s.mu.Lock()
	now := s.now()
	// Checked under the lock, so that a caller which cancels ctx can rely on what
	// Renewing says then.
	if ctx.Err() != nil {
		defer s.mu.Unlock()
		return "", ctx.Err()
	}
	if access, err := s.lastOutcome(granted, now); access != "" || err != nil {
		defer s.mu.Unlock()
		return access, err
	}
	call := s.current
	if call == nil {
		call = &refreshCall{done: make(chan struct{})}
		s.current = call
		go s.runRefresh(call)
	}
	s.mu.Unlock()
	select {
	case <-call.done:
		return call.access, call.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// lastOutcome returns the outcome of the last refresh, or nothing if another one is due:
// that one has expired, or somebody has logged in since.
func (s *Source) lastOutcome(granted, now time.Time) (access string, err error) {
	switch {
	case !granted.IsZero() && !granted.Equal(s.granted):
		return "", nil
	case s.access != "" && !hasCome(s.validUntil, now):
		return s.access, nil
	case s.err != nil && !hasCome(s.retryAt, now):
		return "", s.err
	}
	return "", nil
}

func (s *Source) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// hasCome reports whether a time has come, by the wall clock or the monotonic clock: the
// former may be set back, and the latter stops while the machine sleeps.
func hasCome(t, now time.Time) bool { return !now.Before(t) || !now.Round(0).Before(t) }

// Granted returns when somebody last logged in, and the zero time if nobody has or the
// grant cannot be read.
func (s *Source) Granted() time.Time {
	g, _ := s.store.Load(s.client)
	return g.Granted
}

// Refused notes that a mail server did not accept an access token, which may have been
// revoked. The next call of Token returns a new one.
func (s *Source) Refused(access string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.access == access {
		s.access = ""
	}
}

// Close waits, for RenewalLimit at most, until a refresh that is under way has stored
// its refresh token.
func (s *Source) Close() {
	if call := s.currentRefresh(); call != nil {
		<-call.done
	}
}

// Refreshing reports whether there is a refresh that Close would wait for.
func (s *Source) Refreshing() bool { return s.currentRefresh() != nil }

func (s *Source) currentRefresh() *refreshCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// runRefresh refreshes, records the outcome, and wakes all who wait for it.
func (s *Source) runRefresh(call *refreshCall) {
	ctx, cancel := context.WithTimeout(context.Background(), RefreshLimit)
	defer cancel()
	call.err = s.refresh(ctx, call)

	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.granted, s.access, s.err = call.granted, call.access, call.err
	s.validUntil = now.Add(call.life - min(refreshBefore, call.life/2))
	if call.err == nil {
		s.pause = 0
	} else {
		s.pause = min(max(2*s.pause, firstPause), longestPause)
		s.retryAt = now.Add(s.pause)
		if temporary, ok := errors.AsType[*TemporaryError](call.err); ok {
			s.retryAt = now.Add(max(s.pause, temporary.After))
		}
	}
	s.current = nil
	close(call.done)
}

// refresh exchanges the refresh token for an access token (RFC 6749 §6). It holds the
// lock from before it reads the refresh token until it has stored its successor: a
// provider that rotates refresh tokens takes a second use of one for theft, and ends the
// grant. For the same reason it reserves disk space for the successor first.
func (s *Source) refresh(ctx context.Context, call *refreshCall) error {
	g, err := s.store.Load(s.client)
	if err != nil {
		return err // there may be no folder yet, and so no lock
	}
	call.granted = g.Granted
	unlock, err := s.store.lock(ctx, s.client)
	switch {
	case err != nil && ctx.Err() != nil: // a process that hangs holds the lock
		return &TemporaryError{Provider: s.client.Provider.Name, Err: err}
	case err != nil:
		return err
	}
	defer unlock()
	if g, err = s.store.Load(s.client); err != nil {
		return err
	}
	call.granted = g.Granted
	from := *g.refresh
	if s.unsaved != nil && s.unsaved.from == from {
		g = s.unsaved.to
	}
	if err := s.client.Discover(ctx); err != nil {
		return err
	}
	file, err := s.store.reserveFile(s.client)
	if err != nil {
		return err
	}
	defer file.release()
	t, err := s.client.requestTokens(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {*g.refresh}})
	if err != nil {
		return err
	}
	g.applyResponse(t)
	if err := file.write(g); err != nil {
		s.unsaved = &unsavedGrant{from, g}
		return err
	}
	s.unsaved = nil
	call.access, call.life = t.Access, cmp.Or(time.Duration(t.ExpiresIn), defaultLife)
	return nil
}
