package fetch

import "time"

const (
	// A host counts as down once so many polls in a row could not reach it.
	lostPolls = 2
	// hostPause is how long a host that is down is left alone, doubled with
	// each poll that cannot reach it up to longestHostPause.
	hostPause        = 30 * time.Second
	longestHostPause = 15 * time.Minute
)

// host is what Run knows of a host.
type host struct {
	// polling polls are under way, opening of them not yet greeted.
	polling, opening int
	// failures polls in a row did not reach it, and the next may try at retry.
	failures int
	retry    time.Time
}

func (h *host) down() bool { return h.failures >= lostPolls }

// admits reports whether a further poll may begin.
func (h *host) admits(perHost int, now time.Time) bool {
	if h.down() {
		return h.polling == 0 && !h.retry.After(now)
	}
	return h.opening == 0 && (perHost <= 0 || h.polling < perHost)
}

// lost notes that a poll could not reach the host.
func (h *host) lost(now time.Time) {
	h.failures++
	h.retry = now.Add(jitter(doubled(hostPause, h.failures-lostPolls, longestHostPause)))
}

// found notes that a poll has reached the host. It returns true if one before
// had not.
func (h *host) found() bool {
	was := h.failures > 0
	h.failures = 0
	return was
}
