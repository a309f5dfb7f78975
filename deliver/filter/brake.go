package filter

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/deliver/program"
)

// One message may be too much for a program. After two in a row it is the
// program that hangs, and each further message would cost as much time again.
const (
	maxLate = 2
	pause   = 5 * time.Minute
)

// brake keeps a program that hangs from being run.
type brake struct {
	mu    sync.Mutex
	late  int       // runs in a row that did not end in time
	again time.Time // when to try it, if late is maxLate or more
}

// check returns an error if the program is not to be run now. After the pause
// it lets one run through, to find out whether the program still hangs.
func (b *brake) check(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.late < maxLate:
		return nil
	case now.Before(b.again):
		return fmt.Errorf("it did not end in time for %d messages in a row and is not run again before %s",
			b.late, b.again.Format(time.TimeOnly))
	}
	b.again = now.Add(pause)
	return nil
}

// ended tells how a run ended.
func (b *brake) ended(now time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, late := errors.AsType[*program.TimeoutError](err); !late {
		b.late = 0
		return
	}
	b.late++
	b.again = now.Add(pause)
}
