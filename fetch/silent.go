package fetch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
)

// silences are the sinks that do not answer, shared by the polls of several accounts.
// Without it, the poll of each account would wait for such a sink until its timeout, and
// keep a slot from accounts that deliver elsewhere.
type silences struct {
	mu sync.Mutex
	of map[place]*silence
}

// place is where a sink delivers to. Several sinks may deliver to one place, for different
// recipients.
type place struct{ kind, target, way string }

// silence is a place that has kept polls waiting in vain.
type silence struct {
	host                  // its polling counts the polls that wait for an answer now
	answers int           // how often it has answered
	why     deliver.Error // of the last poll that got no answer
}

// ask puts a question to a sink, unless the sink is left alone for now: once two polls in
// a row had no answer, only one poll at a time asks, after growing pauses. A nil silences
// lets all questions through.
func (s *silences) ask(ctx context.Context, sink deliver.Sink, now func() time.Time, question func() error) error {
	if s == nil {
		return question()
	}
	profile := sink.Profile()
	p := place{profile.Kind, profile.Target, profile.Way}
	before, err := s.enter(p, now())
	if err != nil {
		return err
	}
	err = question()
	if ctx.Err() == nil { // else the sink had no time to answer
		s.recordOutcome(p, before, err, now())
	}
	s.leave(p)
	return err
}

// enter lets a poll ask, and returns what is known of the place before; or it returns why
// the poll is not to ask.
func (s *silences) enter(p place, now time.Time) (before silence, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.of[p]
	if at == nil {
		at = new(silence)
		s.of[p] = at
	}
	if at.isDown() && (at.polling > 0 || at.retry.After(now)) {
		why := at.why
		// The text contains that of the first error, so that includes finds a poll that
		// has been told already.
		why.Err = fmt.Errorf("%w; it is not asked again so soon", why.Err)
		return silence{}, &why
	}
	before = *at
	at.polling++
	return before, nil
}

// recordOutcome records whether there was an answer. No answer counts for nothing if
// another poll got one meanwhile, and polls that waited at the same time count as one.
func (s *silences) recordOutcome(p place, before silence, err error, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.of[p]
	why, ok := errors.AsType[*deliver.Error](err)
	switch {
	case !ok || !timedOut(err):
		at.answers++
		at.noteSuccess()
	case at.failures == before.failures && at.answers == before.answers:
		at.why = *why
		at.noteFailure(now)
	}
}

// leave ends what enter began.
func (s *silences) leave(p place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[p].polling--
}

// reset lets all places be asked again.
func (s *silences) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.of {
		at.noteSuccess()
	}
}

func newSilences() *silences { return &silences{of: map[place]*silence{}} }

// timedOut reports whether err is a timeout.
func timedOut(err error) bool {
	waited, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && waited.Timeout()
}
