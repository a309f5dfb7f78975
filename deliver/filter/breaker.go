package filter

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/deliver/program"
)

// A single timeout may be due to the message. After two in a row the program hangs, and
// each further message would take as much time again.
const (
	maxTimeouts = 2
	retryAfter  = 5 * time.Minute
)

// breaker prevents that a program that hangs is run for each message.
type breaker struct {
	mu       sync.Mutex
	timeouts int       // how many runs in a row did not end in time
	retryAt  time.Time // when the program may run again, if timeouts is maxTimeouts or more
}

// allow returns an error if the program must not be run now. After the pause it allows one
// run, which finds out whether the program still hangs.
func (b *breaker) allow(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.timeouts < maxTimeouts:
		return nil
	case now.Before(b.retryAt):
		return fmt.Errorf("it did not end in time for %d messages in a row and is not run again before %s",
			b.timeouts, b.retryAt.Format(time.TimeOnly))
	}
	b.retryAt = now.Add(retryAfter)
	return nil
}

// record records how a run ended; err is the error of program.Run.Do.
func (b *breaker) record(now time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, late := errors.AsType[*program.TimeoutError](err); !late {
		b.timeouts = 0
		return
	}
	b.timeouts++
	b.retryAt = now.Add(retryAfter)
}
