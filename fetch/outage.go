package fetch

import "time"

const (
	// downAfter is how many failures in a row make a host, or a sink, count as down.
	downAfter = 2
	// firstOutagePause is how long one that is down is left alone, doubled with each
	// further failure up to longestOutagePause.
	firstOutagePause   = 30 * time.Second
	longestOutagePause = 15 * time.Minute
)

// outage counts how often in a row a host, or a sink, could not be reached.
type outage struct {
	failures int
	retry    time.Time // when it may be tried again if it is down
}

func (o *outage) isDown() bool { return o.failures >= downAfter }

func (o *outage) noteFailure(now time.Time) {
	o.failures++
	o.retry = now.Add(jitter(doubled(firstOutagePause, o.failures-downAfter, longestOutagePause)))
}

// noteSuccess ends the outage. It returns true if there was one.
func (o *outage) noteSuccess() bool {
	failed := o.failures > 0
	o.failures = 0
	return failed
}
