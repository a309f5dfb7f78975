package fetch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
)

// silences are the sinks that do not answer, as far as the polls of several accounts
// know. Each of them would wait for such a sink's server until its time is up, and
// keep its slot from accounts that deliver elsewhere.
type silences struct {
	mu sync.Mutex
	of map[place]*silence
}

// place is where a sink delivers to. Others may lead there, too, to other recipients.
type place struct{ kind, target, way string }

// silence is a place that has kept polls waiting in vain.
type silence struct {
	host                  // polling are those that wait for it now
	answers int           // of it
	why     deliver.Error // of the last poll that had none
}

// ask asks a sink's server something, unless it is left alone for now: it is asked by
// one poll at a time, after growing pauses, once two in a row had no answer. A nil
// silences knows of none.
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
	if ctx.Err() == nil { // else it was given no time to answer
		s.recordOutcome(p, before, err, now())
	}
	s.leave(p)
	return err
}

// enter returns what is known before a poll waits, or why it is not to.
func (s *silences) enter(p place, now time.Time) (before silence, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.of[p]
	if at == nil {
		at = new(silence)
		s.of[p] = at
	}
	if at.down() && (at.polling > 0 || at.retry.After(now)) {
		why := at.why
		// In the same words, to which it adds: a poll may have heard them already, see says.
		why.Err = fmt.Errorf("%w; it is not asked again so soon", why.Err)
		return silence{}, &why
	}
	before = *at
	at.polling++
	return before, nil
}

// heard notes what came of the wait. It counts for nothing if another was answered
// meanwhile, and those that have waited at the same time count as one.
func (s *silences) recordOutcome(p place, before silence, err error, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.of[p]
	why, ok := errors.AsType[*deliver.Error](err)
	switch {
	case !ok || !timedOut(err):
		at.answers++
		at.found()
	case at.failures == before.failures && at.answers == before.answers:
		at.why = *why
		at.lost(now)
	}
}

// left notes that a poll waits no more.
func (s *silences) leave(p place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[p].polling--
}

// forget has all be asked again.
func (s *silences) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.of {
		at.found()
	}
}

func newSilences() *silences { return &silences{of: map[place]*silence{}} }

// timedOut reports whether somebody was waited for in vain.
func timedOut(err error) bool {
	waited, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && waited.Timeout()
}
