package fetch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
)

// sinkBackoff leaves alone the sinks that do not answer. The polls of several accounts
// share it. Without it, each of them would wait for such a sink until its timeout, and
// keep a slot from accounts that deliver elsewhere.
type sinkBackoff struct {
	mu        sync.Mutex
	endpoints map[endpoint]*sinkOutage
}

// endpoint is where a sink delivers to. Several sinks may deliver to one endpoint, for
// different recipients.
type endpoint struct{ kind, target, way string }

// sinkOutage says how an endpoint has answered polls so far.
type sinkOutage struct {
	outage                // polls in a row that got no answer
	waiting int           // polls that wait for an answer now
	answers int           // how often it has answered
	lastErr deliver.Error // of the last poll that got no answer
}

func newSinkBackoff() *sinkBackoff { return &sinkBackoff{endpoints: map[endpoint]*sinkOutage{}} }

// do calls a sink, unless that is left alone for now: once two polls in a row had no
// answer, only one poll at a time calls it, after growing pauses. A nil sinkBackoff lets
// all calls through.
func (b *sinkBackoff) do(ctx context.Context, sink deliver.Sink, now func() time.Time, call func() error) error {
	if b == nil {
		return call()
	}
	profile := sink.Profile()
	e := endpoint{profile.Kind, profile.Target, profile.Way}
	before, err := b.begin(e, now())
	if err != nil {
		return err
	}
	err = call()
	if ctx.Err() == nil { // else the sink had no time to answer
		b.recordOutcome(e, before, err, now())
	}
	b.end(e)
	return err
}

// begin lets a poll call the sink, and returns what is known of the endpoint before; or
// it returns why the poll is not to call.
func (b *sinkBackoff) begin(e endpoint, now time.Time) (before sinkOutage, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.endpoints[e]
	if at == nil {
		at = new(sinkOutage)
		b.endpoints[e] = at
	}
	if at.isDown() && (at.waiting > 0 || at.retry.After(now)) {
		last := at.lastErr
		// The text contains that of lastErr, so that joinSinkTrouble does not report the
		// same trouble twice.
		last.Err = fmt.Errorf("%w; it is not asked again so soon", last.Err)
		return sinkOutage{}, &last
	}
	before = *at
	at.waiting++
	return before, nil
}

// recordOutcome records whether there was an answer. No answer counts for nothing if
// another poll got one meanwhile, and polls that waited at the same time count as one.
func (b *sinkBackoff) recordOutcome(e endpoint, before sinkOutage, err error, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.endpoints[e]
	sinkErr, ok := errors.AsType[*deliver.Error](err)
	switch {
	case !ok || !timedOut(err):
		at.answers++
		at.noteSuccess()
	case at.failures == before.failures && at.answers == before.answers:
		at.lastErr = *sinkErr
		at.noteFailure(now)
	}
}

// end ends what begin began.
func (b *sinkBackoff) end(e endpoint) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endpoints[e].waiting--
}

// reset lets all sinks be called again.
func (b *sinkBackoff) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, at := range b.endpoints {
		at.noteSuccess()
	}
}

// timedOut reports whether err is a timeout.
func timedOut(err error) bool {
	timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && timeout.Timeout()
}
