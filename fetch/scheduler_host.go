package fetch

import (
	"strings"
	"time"
)

const (
	// A host counts as down once so many polls in a row could not reach it.
	downAfter = 2
	// hostPause is how long a host that is down is left alone, doubled with
	// each poll that cannot reach it up to longestHostPause.
	hostPause        = 30 * time.Second
	longestHostPause = 15 * time.Minute
)

// host is what Run knows of a host, by one way to it.
type host struct {
	name string // the same for all of them
	// polling polls are under way, opening of them not yet greeted.
	polling, opening int
	// failures polls in a row did not reach it, and the next may try at retry.
	failures int
	retry    time.Time
}

func (r *runner) hostOf(a *Account) *host {
	way := a.Server.way()
	h := r.hosts[way]
	if h == nil {
		h = &host{name: a.host()}
		r.hosts[way] = h
	}
	return h
}

// way returns how the server is reached. By other ports and ways of its host there may
// be other servers: at localhost, each tunnel has a port of its own.
func (s *Server) way() string {
	return strings.TrimSpace(strings.ToLower(s.Addr()) + " " + s.Via.Way())
}

// canPoll reports whether a further poll of a host may begin.
func (r *runner) canPoll(h *host, now time.Time) bool {
	switch most := r.setup.PerHost; {
	case most > 0 && r.pollsByHost[h.name] >= most:
		return false
	case h.isDown():
		return h.polling == 0 && !h.retry.After(now)
	default:
		return h.opening == 0
	}
}

func (h *host) isDown() bool { return h.failures >= downAfter }

// noteFailure notes that a poll could not reach the host.
func (h *host) noteFailure(now time.Time) {
	h.failures++
	h.retry = now.Add(jitter(doubled(hostPause, h.failures-downAfter, longestHostPause)))
}

// noteSuccess notes that a poll has reached the host. It returns true if one before
// had not.
func (h *host) noteSuccess() bool {
	was := h.failures > 0
	h.failures = 0
	return was
}
